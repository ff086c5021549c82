"""A server's certificate, in lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from .screen import visible

if TYPE_CHECKING:
    from ... import TLSInfo

__all__ = ["certificate_lines"]


def certificate_lines(tls: TLSInfo) -> list[str]:
    """What TLS agreed on, and whose certificate it is."""
    lines = [f"{tls.version}, {tls.cipher}" + (f", ALPN {tls.alpn}" if tls.alpn else "")]
    if tls.peer_certificate_der is None:
        return [*lines, "the server has shown no certificate"]
    lines.append("certificate, verified:" if tls.peer_certificate else "certificate, NOT verified:")
    certificate = x509.load_der_x509_certificate(tls.peer_certificate_der)
    shown = {
        "subject": certificate.subject.rfc4514_string(),
        "names": ", ".join(_names(certificate)),
        "issuer": certificate.issuer.rfc4514_string(),
        "valid": f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(SHA256()).hex(":"),
    }
    return [*lines, *(f"  {name:<8} {visible(value, keep='')}" for name, value in shown.items())]


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(getattr(name, "value", name)) for name in found]
