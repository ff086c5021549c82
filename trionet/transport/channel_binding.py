"""Channel bindings of TLS: what an authentication above it can be tied to (RFC 5929, RFC 5056).

OpenSSL gives Python ``tls-unique``, which TLS 1.3 does not have. ``tls-server-end-point``, which SCRAM-SHA-256-PLUS is
mostly used with, is the hash of the server's certificate; which hash says the certificate's own signature.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["server_end_point"]

_HASHES: Final = {
    "1.2.840.113549.1.1.11": "sha256", "1.2.840.113549.1.1.12": "sha384", "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10045.4.3.1": "sha224", "1.2.840.10045.4.3.2": "sha256", "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    "1.2.840.113549.1.1.4": "sha256", "1.2.840.113549.1.1.5": "sha256", "1.2.840.10045.4.1": "sha256",
}  # fmt: skip
"""Signature algorithms by the hash that stands in for them: SHA-256 for MD5 and SHA-1 (RFC 5929 §4.1)."""


def server_end_point(certificate: bytes) -> bytes | None:
    """``tls-server-end-point`` for this certificate (DER); None where its signature has no single hash (Ed25519, PSS).

    Source: RFC 5929 §4.1.
    """
    name = _HASHES.get(_signature_algorithm(certificate))
    return None if name is None else hashlib.new(name, certificate).digest()


def _signature_algorithm(certificate: bytes) -> str:
    """The identifier in ``Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }`` (RFC 5280)."""
    start, _ = _content(certificate, 0)
    _, behind = _content(certificate, start)
    start, _ = _content(certificate, behind)
    start, end = _content(certificate, start)
    return _dotted(certificate[start:end])


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends (X.690 §8.1)."""
    size, start = der[at + 1], at + 2
    if size & 0x80:
        more = size & 0x7F
        size, start = int.from_bytes(der[start : start + more], "big"), start + more
    return start, start + size


def _dotted(content: bytes) -> str:
    """An object identifier in its usual form (X.690 §8.19)."""
    numbers, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
