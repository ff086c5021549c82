"""The scope's extension ``tls``: what the handshake agreed on, in the words of the specification."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..transport.tls_info import TLSInfo

__all__ = ["tls_extension"]

_VERSIONS: Final = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_ATTRIBUTES: Final = {
    "commonName": "CN", "countryName": "C", "domainComponent": "DC", "localityName": "L", "organizationName": "O",
    "organizationalUnitName": "OU", "stateOrProvinceName": "ST", "streetAddress": "STREET", "userId": "UID",
}  # fmt: skip
"""How names of attributes are shortened (RFC 4514 §3)."""


def tls_extension(info: TLSInfo) -> dict[str, Any]:
    """What the extension says.

    Source: ASGI's TLS extension 0.2. `server_cert` is None: OpenSSL does not hand a server its own certificate.
    """
    chain, name = [], None
    if info.peer_certificate_der is not None:
        chain.append(ssl.DER_cert_to_PEM_cert(info.peer_certificate_der))
        name = _distinguished_name((info.peer_certificate or {}).get("subject", ()))
    return {
        "server_cert": None,
        "client_cert_chain": chain,
        "client_cert_name": name,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(info.version),
        "cipher_suite": _suites().get(info.cipher),
    }


@functools.cache
def _suites() -> dict[str, int]:
    """The number of each cipher suite, by OpenSSL's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}


def _distinguished_name(subject: Any) -> str | None:
    """The subject as RFC 4514 writes it: the most specific attribute first."""
    parts = (
        "+".join(f"{_ATTRIBUTES.get(name, name)}={_escaped(value)}" for name, value in attributes)
        for attributes in reversed(subject)
    )
    return ",".join(parts) or None


def _escaped(value: str) -> str:
    """A value, with what would end it escaped (RFC 4514 §2.4)."""
    text = "".join(f"\\{char}" if char in ',+"\\<>;=' else char for char in value).replace("\0", "\\00")
    if text.startswith(("#", " ")):
        text = "\\" + text
    return f"{text[:-1]}\\ " if text.endswith(" ") and not text.endswith("\\ ") else text
