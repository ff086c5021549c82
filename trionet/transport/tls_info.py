"""What TLS has to say: what a handshake agreed on, and why something failed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final

import trio

__all__ = ["TLSInfo", "broken", "reason_of"]


_VERSIONS: Final = ("sslv3", "tlsv1", "tlsv13")
"""What OpenSSL's names for the peer's alerts begin with. Those of RFC 6066 have no ``ALERT`` in them."""


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """What the handshake agreed on."""

    version: str
    """Such as ``"TLSv1.3"``."""
    cipher: str
    """OpenSSL's name of the cipher suite."""
    alpn: str | None
    """The application protocol that was chosen; None if none was."""
    server_hostname: str | None
    """The name that the client asked for and verified; None on a server."""
    peer_certificate: dict[str, Any] | None
    """As `ssl.SSLSocket.getpeercert` gives it: empty if it was not verified, None if the peer showed none."""
    peer_certificate_der: bytes | None
    """The peer's certificate as it is, also where it was not verified; None if the peer showed none."""


def broken(exc: ssl.SSLError) -> trio.BrokenResourceError:
    """What a failed TLS operation means to whoever asked for it."""
    return trio.BrokenResourceError(f"TLS failed: {reason_of(exc)}")


def reason_of(exc: ssl.SSLError) -> str:
    """OpenSSL's reason, readable: ``"certificate verify failed: ..."``, ``"the peer sent the alert 'unknown ca'"``."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {exc.verify_message}"
    name = getattr(exc, "reason", None)
    if name is None and str(exc).startswith("[SSL] unknown error"):
        return "an error that OpenSSL has no name for, such as an alert of the peer's that it does not know"
    words = (name or str(exc)).replace("_", " ").lower()
    version, _, alert = words.partition(" ")
    if version in _VERSIONS:
        return f"the peer sent the alert {alert.removeprefix('alert ')!r}"
    return words
