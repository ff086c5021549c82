"""What TLS has to say: what a handshake agreed on, and why something failed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import trio

__all__ = ["TLSInfo", "broken", "reason_of"]


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
    words = (getattr(exc, "reason", None) or str(exc)).replace("_", " ").lower()
    if " alert " in words:
        return f"the peer sent the alert {words.partition(' alert ')[2]!r}"
    return words
