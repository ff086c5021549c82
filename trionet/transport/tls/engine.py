"""OpenSSL between two buffers, without I/O: the handshake, close_notify, and what receiving and sending share.

What came from the peer is fed into the *incoming* BIO; what has to go to it is taken out of the *outgoing* one. A
recipe carries the handshake out on an engine alone; only what is secured becomes a transport.
"""

from __future__ import annotations

import ssl

import trio

from ..tls_info import TLSInfo, reason_of

__all__ = ["TLSEngine"]


class TLSEngine:
    """One side of one TLS connection. All methods are steps.

    Args:
        context: Says what is allowed, and who is trusted.
        server_side: Whether this is the server's side.
        server_hostname: On a client, the name to ask for and to verify.
        session: On a client, the session to resume.

    Raises:
        ValueError: OpenSSL cannot use the name, or the session.
    """

    __slots__ = ("_info", "failure", "incoming", "notified", "outgoing", "server_name", "ssl_object")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self.incoming, self.outgoing, server_side, server_hostname, session)
        self.server_name: str | None = None
        """On a server, the name that the client has asked for: OpenSSL does not tell, the recipe reads it."""
        self.failure: ssl.SSLError | None = None
        """What ended TLS while receiving: every error that comes later only follows from it."""
        self.notified = False
        """Whether this side's close_notify was made: nothing can be sent any more, and that cannot be undone."""
        self._info: TLSInfo | None = None

    # --- the handshake -------------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Carry the handshake on with what was fed: True when it is complete, False if it needs more input.

        Afterwards, whatever came of it, `take_output` gives what has to be sent.

        Raises:
            ssl.SSLError: it failed.
        """
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        """Input from the peer."""
        self.incoming.write(data)

    def take_output(self) -> bytes:
        """What OpenSSL wants to have sent."""
        return self.outgoing.read()

    # --- behind it -----------------------------------------------------------------------------------------------

    @property
    def info(self) -> TLSInfo:
        """What the handshake agreed on."""
        if self._info is None:
            tls = self.ssl_object
            cipher = tls.cipher()
            self._info = TLSInfo(
                version=tls.version() or "",
                cipher=cipher[0] if cipher else "",
                alpn=tls.selected_alpn_protocol(),
                server_hostname=self.server_name or tls.server_hostname,
                peer_certificate=tls.getpeercert(),
                peer_certificate_der=tls.getpeercert(binary_form=True),
                _tls=tls,
            )
        return self._info

    def broken(self, exc: ssl.SSLError) -> trio.BrokenResourceError:
        """What a failed operation means to its caller: the first failure, of which `exc` may be a consequence."""
        return trio.BrokenResourceError(f"TLS failed: {reason_of(self.failure or exc)}")

    def close_notify(self) -> bytes:
        """Make this side's close_notify: what has to be sent, with it at the end. Everything is decrypted by now.

        ``unwrap`` calls ``SSL_shutdown`` twice, and the second call looks for the peer's close_notify. It fails when it
        finds application data: hence the caller decrypts that first, and half a record is held back meanwhile.
        """
        later = self.incoming.read()
        try:
            self.ssl_object.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # said; the peer's has yet to come
        except ssl.SSLError as exc:
            raise self.broken(exc) from exc
        finally:
            self.incoming.write(later)
        self.notified = True
        return self.outgoing.read()
