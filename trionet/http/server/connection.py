"""The server's side of an HTTP/1.1 connection: a loop over exchanges, and the recipe that makes one of a byte stream.

Built up in layers, to be read in this order: `server_link` (I/O), `server_ending` (ends), and this module. What the
loop gives stands in `exchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ...errors import HandleBrokenError, RemoteProtocolError
from ...own_recipe import OwnRecipe
from ...ownership import Event, Phase, Reason, Receive
from ...support.checks import check_kind
from ...transport.protocol import MAX_RECEIVE
from ..protocol.head import RequestHead
from ..protocol.limits import DEFAULT_LIMITS, HTTPLimits
from ..protocol.machine import Signal
from .ending import Ending
from .exchange import Exchange

if TYPE_CHECKING:
    from ...handle.detached import Detached
    from ...handle.recipe import Recipe

__all__ = ["HTTPServerConnection", "to_http_server"]

MAX_IN_A_ROW: Final = 32
"""Pipelined requests that are given out before other tasks get their turn."""

_OPEN: Final = Phase.OPEN
_RECEIVE_IDLE: Final = Receive.IDLE
_RECEIVE_BUSY: Final = Receive.BUSY
_QUIET: Final = frozenset({Reason.LOCAL, Reason.DRAIN_TIMEOUT, Reason.PEER_EOF, Reason.IDLE_TIMEOUT})
"""Ends of a connection that are no failure of the loop over it."""


class HTTPServerConnection(Ending):
    """An HTTP/1.1 connection, as its server sees it: ``async for exchange in connection``. Made by `to_http_server`.

    An exchange that its handler leaves without an answer is answered with 500 when the next one is asked for. At most
    one exchange is under way at any time.

    Iterating ends quietly when the connection is over between two requests: the client has ended or reset it, it was
    idle for too long, it was closed or moved, or it does not persist. It raises `RemoteProtocolError` when the client
    breaks the protocol, after an error answer has been sent, and `HandleClosedError` when it was aborted.
    """

    __slots__ = ()

    # --- requests ------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        """Iterate over exchanges.

        Cancellation: not one byte is lost. It is a schedule point, except where the client has pipelined requests: then
        at least each 32nd time.
        """
        return self

    @enable_ki_protection
    async def __anext__(self) -> Exchange:
        if self.exchange is not None:
            await self._conclude(self.exchange)
        machine, life = self.machine, self._life
        waited = False
        more = machine.has_unread
        if more:  # a request may be there already: let other tasks run all the same, from time to time
            self._in_a_row += 1
            if self._in_a_row >= MAX_IN_A_ROW:
                self._in_a_row = 0
                await trio.lowlevel.checkpoint()
        while True:
            if life.phase is not _OPEN and not self._has_last_request():
                await self._leave_loop()
            if more or life.receive is not _RECEIVE_IDLE or not machine.keep_alive:
                try:
                    head = machine.next_event()
                except RemoteProtocolError as exc:
                    await self._refuse_request(exc)  # noqa: ASYNC102, ASYNC120 - a cancellation outranks the error
                    exc.handle = self
                    raise
                if type(head) is RequestHead:
                    break
                if head is not Signal.NEED_DATA or not machine.keep_alive:
                    await self._end_quietly()
            waited = more = True
            if life.unsent:
                self.flush()
            if life.unsent or life.receive is not _RECEIVE_IDLE or life.reset or life.retiring:
                await self._receive_carefully()
                continue
            life.receive = _RECEIVE_BUSY
            self._reader = self._handler = current_task()
            self._reader_since = self._clock.current_time()
            try:
                data = await self._transport.receive_some(MAX_RECEIVE)
            except BaseException as exc:
                await self._request_failed(exc)  # noqa: ASYNC102 - a cancellation outranks the error
                raise
            if data and life.phase is _OPEN:
                machine.receive(data)
                self._bytes_received += len(data)
                self._reader = None
                self.parked = True
                life.receive = _RECEIVE_IDLE
            else:
                self._took_last(data)
        life.leases += 1
        self.exchange = exchange = Exchange(self, head)
        if life.phase is not _OPEN:
            machine.close_after_exchange()
        if not waited:
            self._handler = current_task()
        return exchange

    @enable_ki_protection
    async def _receive_carefully(self) -> None:
        """Receive once where the short way is not open: something waits to be sent, or the connection is to end."""
        life = self._life
        if self.looking is not None:
            await self.looking.stand_aside()
            return  # what it has received may be a request
        if life.unsent:
            await self.flush_all(None)
        if life.receive is _RECEIVE_IDLE and life.phase in (Phase.RESERVED, Phase.CLAIMED):
            return  # the loop waits for what becomes of it
        try:
            self._begin_receive(self if self._has_last_request() else None)
        except trio.ClosedResourceError:
            await self._leave_loop()  # noqa: ASYNC120 - a cancellation outranks the error
            return
        self._handler = current_task()
        receive = self._receive_arrived if life.retiring and not self._may_wait() else self._transport.receive_some
        try:
            data = await receive(MAX_RECEIVE)
        except BaseException as exc:
            await self._request_failed(exc)  # noqa: ASYNC102 - as above
            raise
        self._took_last(data)

    def _has_last_request(self) -> bool:
        """Whether a request, or the beginning of one, was taken by a loop that was told to end while it waited."""
        return self._life.phase is Phase.DRAINING and self.machine.ending and self.machine.has_unread

    @enable_ki_protection
    def _took_last(self, data: bytes) -> None:
        """A receive between two requests brought EOF, or ended while the handle was being closed. A step."""
        try:
            self._took(data)
        except HandleBrokenError:
            self._take(Event.ACLOSE)
            raise StopAsyncIteration from None

    async def _request_failed(self, exc: BaseException) -> None:
        """A receive between two requests ended with `exc`."""
        try:
            self._receive_failed(exc)
        except trio.ClosedResourceError:
            await self._leave_loop()  # noqa: ASYNC120 - a cancellation outranks the error
        except HandleBrokenError:
            # The client has gone between two requests, in the rude way: that is no failure of this program's.
            self._take(Event.ACLOSE)
            raise StopAsyncIteration from None

    @enable_ki_protection
    async def _leave_loop(self) -> None:
        """The handle ends, or is about to: wait for what becomes of it. Returns if it is open again."""
        while self._life.phase in (Phase.RESERVED, Phase.CLAIMED):
            self._turned = self._turned or trio.Event()
            await self._turned.wait()
        await trio.lowlevel.checkpoint()
        if self._life.phase is _OPEN:
            return
        if self._life.phase is Phase.CLOSED and self._life.reason not in _QUIET and not self._cut_off:
            raise self._closed_error(f"the loop over {self!r} was interrupted")
        raise StopAsyncIteration


def to_http_server(*, limits: HTTPLimits = DEFAULT_LIMITS) -> Recipe[HTTPServerConnection]:
    """Upgrade a `Connection` to HTTP/1.1, as the server. The result is used once, in ``await conn.upgrade(...)``.

    Bytes that were received before and not consumed are the beginning of the first request: sniffing with `peek` first
    is fine.

    Args:
        limits: Bounds.

    Raises (here):
        TypeError: `limits` is no `HTTPLimits`.

    Raises (in the upgrade):
        LocalProtocolError: the recipe was used before, or the source is not a `Connection`.

    Cancellation: the handle is OPEN as before.

    Source: RFC 9112.
    """
    return _Recipe(check_kind("limits", limits, HTTPLimits, "a trionet.HTTPLimits"))


class _Recipe(OwnRecipe[HTTPServerConnection]):
    """Makes an HTTP connection of a byte stream. There is nothing to shake hands about."""

    name = "to_http_server"

    def __init__(self, limits: HTTPLimits) -> None:
        self._limits = limits

    def make(self, capsule: Detached) -> HTTPServerConnection:
        return HTTPServerConnection(capsule, self._limits)
