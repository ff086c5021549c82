"""One request and its response, as a server's program sees them.

An exchange is a lease on its connection: it begins with the request's head, and until it is over nobody can take the
connection away. It is over when the response is complete and the request's body was read, or dropped within bounds.

The request's half is in `incoming_request`. The exchange checks what it is given, and leaves the rest to the parts of
its connection: `input` reads the body, `output` responds. Those know what may be said, and when, from the machine
without I/O (`protocol.server_machine`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from ...errors import LocalProtocolError, UpgradeRefusedError
from ...ownership import Event, Phase
from ...support.checks import check_count, check_flag
from ...support.generators import close_generator
from ..content import ABSENT, encoded_body
from ..protocol.cookies import write_deletion, write_set_cookie
from .at_length import respond_at_length
from .incoming_request import IncomingRequest
from .response_stream import ResponseStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from os import PathLike

    from ...handle import Handle
    from ...handle.recipe import Recipe
    from ..protocol.body_writer import Buffer
    from ..protocol.cookies import SameSite
    from ..protocol.headers import HeaderInput, Headers
    from .connection import HTTPServerConnection
    from .event_stream import EventStream

    Successor = TypeVar("Successor", bound=Handle)

__all__ = ["Exchange"]


class Exchange(IncomingRequest):
    """A request, and the response to it. Made by iterating over an `HTTPServerConnection`, and by `serve_http`.

    Attributes:
        connection: The `HTTPServerConnection` on which it takes place.
        status: The status of the response, once it has begun; 0 before.
    """

    __slots__ = ()

    connection: HTTPServerConnection

    def __repr__(self) -> str:
        return f"<Exchange {self._head.method} {self._head.shown_target!r}: {self._state}>"

    @property
    def _state(self) -> str:
        if self.connection._cycle.exchange is not self:
            return f"answered with {self.status}" if self.status else "over"
        return f"being answered with {self.status}" if self.status else "not answered yet"

    # --- the response --------------------------------------------------------------------------------------------

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        expires: datetime | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool | None = None,
        http_only: bool = True,
        same_site: SameSite | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Set a cookie with the final response, whichever that becomes: `respond`, `stream`, an upgrade, an exception.

        One that was set before, with the same name, domain and path, is replaced.

        Args:
            name: A token. ``__Host-`` and ``__Secure-`` in front of it are promises, which are checked.
            value: Characters of ASCII without spaces, quotes, commas, semicolons and backslashes; quote others.
            max_age: Seconds for which the client keeps it; by default until the browser is closed.
            expires: The same as a point in time, with a time zone.
            path: Below which path the client sends it.
            domain: Also to hosts below this one; by default only to this very host.
            secure: Only over TLS. By default if this connection is TLS; behind a proxy that ends TLS say so.
            http_only: Not for scripts in pages.
            same_site: Whether it comes with requests that other sites cause: "lax" for links only, "strict" for none,
                "none" for all; None leaves that to the browser.
            partitioned: A jar of its own for each site that embeds this one.

        Raises:
            ValueError, TypeError: a part cannot be sent, or browsers would drop the cookie.
            LocalProtocolError: the response has begun, or the exchange is over.

        Source: RFC 6265bis §4.1.
        """
        written = write_set_cookie(
            name,
            value,
            max_age=max_age,
            expires=expires,
            path=path,
            domain=domain,
            secure=self._is_secure(secure),
            http_only=http_only,
            same_site=same_site,
            partitioned=partitioned,
        )
        self._keep_cookie((name, domain, path), written)

    def delete_cookie(
        self, name: str, *, path: str = "/", domain: str | None = None, secure: bool | None = None
    ) -> None:
        """Have the client forget a cookie, with the final response; path and domain are those with which it was set.

        Raises and Source: as for `set_cookie`.
        """
        written = write_deletion(name, path=path, domain=domain, secure=self._is_secure(secure))
        self._keep_cookie((name, domain, path), written)

    def _is_secure(self, given: bool | None) -> bool:
        return self.connection.tls is not None if given is None else check_flag("secure", given)

    @enable_ki_protection
    def _keep_cookie(self, key: tuple[str, str | None, str], written: str) -> None:
        cycle = self.connection._cycle
        cycle.check(self, "set_cookie")
        cycle.machine.add_field(key, ("Set-Cookie", written))

    def _with_cookies(self, headers: HeaderInput | Headers) -> HeaderInput | Headers:
        """The fields of a final head that a recipe makes by itself, and those that wait for it."""
        return self.connection._cycle.machine.with_added(headers)

    @enable_ki_protection
    async def inform(self, status: int, headers: HeaderInput | Headers = ()) -> None:
        """Send an informational response, such as 103 (Early Hints); the final one follows.

        Nothing is sent to HTTP/1.0. A 100 (Continue) is sent without being asked for, when the body is first read.

        Args:
            status: 100 to 199, but not 101: `upgrade` switches protocols.
            headers: Fields.

        Raises:
            LocalProtocolError: the response has begun already, or this is not an informational status.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.send_all`.

        Cancellation: it is sent, or not begun, or the connection is broken.

        Source: RFC 9110 §15.2.
        """
        cycle = self.connection._cycle
        cycle.check(self, "inform")
        await checkpoint_if_cancelled()
        data = cycle.machine.inform(status, headers)
        await self.connection._output.send((data,) if data else (), self)

    @enable_ki_protection
    async def respond(
        self,
        status: int,
        body: Buffer | str | AsyncIterable[bytes] | Iterable[bytes] | Any = b"",
        *,
        json: Any = ABSENT,
        headers: HeaderInput | Headers = (),
    ) -> None:
        """Send the whole response.

        Date, Content-Length or Transfer-Encoding, and Connection are added where they are due. A HEAD request
        gets the same fields and no body, so a handler need not distinguish it from GET.

        Args:
            status: 200 to 999.
            body: Bytes; or a str, which is sent as UTF-8, with the Content-Type text/plain unless `headers` has one; or
                a file that was opened in binary mode, or a (sync or async) iterable of bytes, which is sent piece by
                piece: with a Content-Length where that is known, else in chunks. A generator is closed when the call
                ends, also if it was refused or not needed.
            json: The body as a value to be written as JSON, in the place of `body`; None is ``null``. The Content-Type
                is application/json unless `headers` has one.
            headers: Fields. A Content-Length that is given has to be right; ``Connection: close`` ends the connection.

        Raises:
            LocalProtocolError: the exchange has a response already or is over, or the fields do not fit status and
                body.
            RemoteProtocolError: the request is a CONNECT, and the status is 2xx. Uncaught, it gives a 501.
            ValueError, TypeError: the body, or a field, cannot be sent; see `Headers`. Nothing has been sent.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.send_all`.

        Cancellation: the response is sent, or not begun, or it is visibly truncated and the connection is broken. This
        is not a schedule point where it need not wait: receiving the next request is one.

        Source: RFC 9110 §15, RFC 9112 §6.
        """
        cycle, output = self.connection._cycle, self.connection._output
        if cycle.exchange is not self:
            await close_generator(body)
            cycle.check(self, "respond")
        if json is not ABSENT or isinstance(body, str):
            body, headers = encoded_body(body, json, headers)
        if type(body) is not bytes or len(body) > cycle.at_once:
            try:
                await respond_at_length(self, cycle, output, status=status, body=body, headers=headers)
            finally:
                await close_generator(body)  # noqa: ASYNC102 - what it waits for at its end is its own business
            return
        await checkpoint_if_cancelled()
        rest = output.respond(self, status, headers, body)
        if rest is not None:
            await output.finish(self, *rest)

    async def respond_file(
        self,
        path: str | PathLike[str],
        *,
        root: str | PathLike[str] | None = None,
        headers: HeaderInput | Headers = (),
    ) -> None:
        """Respond with a file, as its client asks for it: all of it, parts of it, or only that it has not changed.

        Content-Type (by the name, never by the content), ETag, Last-Modified and Accept-Ranges are added unless
        `headers` has them. Other methods than GET and HEAD get a 405.

        Args:
            path: The file. With `root` the path of a URL, such as `path` of this exchange: percent-encoded, and from
                whoever has sent the request. What is not found below `root` is a 404: also ``..``, a link that leads
                out of it, a folder, and whatever else is not a regular file.
            root: The folder in which the file has to be, where the path is not the program's own.
            headers: Further fields, such as Cache-Control. An ETag or Last-Modified among them is what conditions are
                compared with.

        Raises:
            OSError: without `root`, the file cannot be opened, or is not a regular file. With it, `root` is not a
                folder. Nothing has been sent.
            LocalProtocolError: as for `respond`. Or the file has become shorter, and the response is truncated.
            ValueError, TypeError, HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for
                `respond`.

        Cancellation: as for `respond`. While the file is opened, in a worker thread, a cancellation waits for the disk.

        Source: RFC 9110 §8.8, §13, §14.
        """
        from .file_response import respond_file

        await respond_file(self, path, root, headers)

    def stream(self, status: int, *, headers: HeaderInput | Headers = (), length: int | None = None) -> ResponseStream:
        """Respond piece by piece: ``async with exchange.stream(200) as stream: await stream.send(chunk)``.

        The head goes out with the first piece, or at once by ``stream.flush()``. When the block ends well the body is
        completed. When it raises or is cancelled the body is never completed: the client sees that the response is
        truncated, and the connection is closed. A client that goes away ends the block, also one that only ends its
        direction: see `eof_is_gone` and `wait_disconnected`.

        Args:
            status: 200 to 999.
            headers: Fields; see `respond`.
            length: Bytes of the body, if known. Otherwise it is sent in chunks, or to HTTP/1.0 until the connection
                ends.

        Raises (on entering):
            LocalProtocolError, ValueError, TypeError: as for `respond`.

        Source: RFC 9112 §6, §7.1.
        """
        if length is not None:
            check_count("length", length)
        return ResponseStream(
            self, self.connection._cycle, self.connection._output, status=status, headers=headers, length=length
        )

    def stream_events(
        self, *, headers: HeaderInput | Headers = (), keepalive: float = 15.0
    ) -> AbstractAsyncContextManager[EventStream]:
        """Respond with server-sent events, for as long as the client listens.

        ``async with exchange.stream_events() as events: await events.send("news")``. The head goes out at once. The
        block is cancelled, and ends without an error, when the client has gone, and when the server drains: the
        client comes again by itself then, and says in `EventStream.last_event_id` what it has seen. To a HEAD request
        only the head is sent.

        Args:
            headers: Fields; see `respond`. Content-Type and Cache-Control (no-store) are added.
            keepalive: Seconds of silence after which a comment is sent, so that no proxy takes the connection for dead;
                `math.inf` for none.

        Raises (on entering):
            LocalProtocolError, ValueError, TypeError: as for `respond`.

        Cancellation: the response is truncated.

        Source: WHATWG HTML §9.2.
        """
        from .event_stream import stream_events

        return stream_events(self, headers, keepalive)

    # --- another protocol ----------------------------------------------------------------------------------------

    @enable_ki_protection
    async def upgrade(self, recipe: Recipe[Successor]) -> Successor:
        """Make the connection something else, which this request asks for (Upgrade), or which it tunnels to (CONNECT).

        Bytes behind the request are the successor's first input.

        Args:
            recipe: Such as `to_websocket_server` or `to_connection`; used once.

        Returns:
            The successor, OPEN, in the same scope. The loop over the connection then ends quietly.

        Raises:
            UpgradeRefusedError: the request cannot be upgraded in this way. The recipe has responded, and the
                connection goes on.
            LocalProtocolError: the request does not ask for it, has a body, or has a response already. Nothing has
                changed: respond in another way.
            UpgradeFailedError: the handshake failed. If a byte had been sent, the connection is CLOSED.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Handle.upgrade`.

        The connection's handle is MOVED (`UPGRADED`) afterwards.

        Cancellation: before a byte was sent, nothing has happened; afterwards the connection is CLOSED.

        Source: RFC 9110 §7.8, §9.3.6.
        """
        connection, cycle = self.connection, self.connection._cycle
        cycle.check(self, "upgrade")
        if self.status or not (cycle.machine.bodiless and cycle.is_request_complete(self)):
            why = f"it was answered with {self.status}" if self.status else "it has a body"
            raise LocalProtocolError(f"upgrade refused: {self!r}: {why}")
        await connection._lookouts.stand_aside()
        await connection._output.flush_all(self)
        before = cycle.machine.snapshot()
        try:
            successor = await connection._upgrade(recipe, Event.UPGRADE_LEASED, self)
        except UpgradeRefusedError:
            cycle.settle()
            raise
        except BaseException:
            if connection.phase is Phase.OPEN:  # nothing was sent: the request can be answered otherwise
                cycle.undo_response(before)
                self.status = 0
            raise
        finally:
            connection._lookouts.go_on()
        self.status = 200 if self._head.method == "CONNECT" else 101
        return successor

    def _accept_upgrade(self, headers: HeaderInput | Headers = (), *, status: int = 101) -> bytes:
        """The bytes with which a recipe accepts: 101, or a 2xx to CONNECT. Changes nothing. For recipes.

        Args:
            headers: Fields; for 101 Upgrade is among them, and Connection is added.
            status: 101, or 200 to 299 to CONNECT.

        Raises:
            LocalProtocolError: the request does not ask for this protocol, or for none at all.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        return self.connection._cycle.machine.switch_head(headers, status=status)

    @enable_ki_protection
    def _refuse_upgrade(self, status: int, headers: HeaderInput | Headers = (), body: bytes = b"") -> bytes:
        """The bytes with which a recipe answers a request that it declines, before `UpgradeRefusedError`. A step.

        Raises:
            LocalProtocolError, ValueError, TypeError: as for `respond`.
        """
        data = self.connection._cycle.machine.respond(status, headers, body)
        self.status = status
        return data
