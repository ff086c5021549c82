"""What TLS has to say: what a handshake agreed on, and why something failed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final

from .channel_binding import server_end_point

__all__ = ["TLSInfo", "reason_of"]


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
    """The name that the client asked for (SNI), on a client as it was given: that one was verified. None for none."""
    peer_certificate: dict[str, Any] | None
    """As `ssl.SSLSocket.getpeercert` gives it: empty if it was not verified, None if the peer showed none."""
    peer_certificate_der: bytes | None
    """The peer's certificate as it is, also where it was not verified; None if the peer showed none."""
    _tls: ssl.SSLObject = field(repr=False, compare=False)

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session, for `to_tls_client(session=...)` on the next connection to the same server; None on a server.

        With TLS 1.3 it comes behind the handshake, with the first bytes that are received.
        """
        return None if self._tls.server_side else self._tls.session

    @property
    def session_reused(self) -> bool:
        """Whether the handshake has resumed an earlier session."""
        return bool(self._tls.session_reused)

    def channel_binding(self, kind: str = "tls-unique") -> bytes | None:
        """What an authentication above TLS can be tied to, such as SCRAM-SHA-256-PLUS.

        Args:
            kind: ``"tls-unique"``, which only TLS 1.2 and before have; or ``"tls-server-end-point"``, on a client.

        Returns:
            None where this connection has none of the kind.

        Raises:
            ValueError: another kind.

        Source: RFC 5929 §3, §4.
        """
        if kind == "tls-server-end-point":
            known = None if self._tls.server_side else self.peer_certificate_der
            return None if known is None else server_end_point(known)
        if kind != "tls-unique":
            raise ValueError(f"kind must be 'tls-unique' or 'tls-server-end-point', not {kind!r}")
        return None if self.version == "TLSv1.3" else self._tls.get_channel_binding(kind)


def reason_of(exc: ssl.SSLError) -> str:
    """OpenSSL's reason, readable: ``"certificate verify failed: ..."``, ``"the peer sent the alert 'unknown ca'"``."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {exc.verify_message}"
    name = getattr(exc, "reason", None)
    if name is None and str(exc).startswith("[SSL] unknown error"):
        return "an error that OpenSSL has no name for, perhaps an alert from the peer that it does not know"
    words = (name or str(exc)).replace("_", " ").lower()
    version, _, alert = words.partition(" ")
    if version in _VERSIONS:
        return f"the peer sent the alert {alert.removeprefix('alert ')!r}"
    return words
