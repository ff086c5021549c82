"""Server-sent events: a response that goes on for as long as its client listens (WHATWG HTML §9.2).

The handler's block is what lasts. It ends when the handler leaves it; when the client has gone, without an error, since
that is how most of these streams end; and when the server drains, since the client will come again, to whoever serves
then. Beside it one task waits for the client's end, and breaks a long silence: proxies cut off connections on which
nothing moves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import trio

from ...custody.background import open_services
from ...errors import HandleBrokenError, HandleClosedError
from ...support.block import block
from ...support.checks import check_seconds
from ..content import ABSENT, as_json_text
from ..protocol.headers import with_defaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..protocol.headers import HeaderInput, Headers
    from .response_stream import ResponseStream

__all__ = ["EventStream", "stream_events"]

_FIELDS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),  # nginx would wait for more
)
_COMMENT = b":\n\n"


class Streaming(Protocol):
    """What is needed of an `Exchange`, which stands above."""

    connection: Any

    @property
    def method(self) -> str:
        """As `Exchange.method`."""
        ...

    @property
    def headers(self) -> Headers:
        """As `Exchange.headers`."""
        ...

    async def wait_disconnected(self) -> None:
        """As `Exchange.wait_disconnected`."""
        ...

    def stream(self, status: int, *, headers: HeaderInput | Headers = (), length: int | None = None) -> ResponseStream:
        """As `Exchange.stream`."""
        ...


class EventStream:
    """A stream of events to one client; made by `Exchange.stream_events`.

    Attributes:
        last_event_id: The id of the last event that the client has seen, where it comes again; None where it does not.
    """

    def __init__(self, stream: ResponseStream, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        self._stream = stream
        self._body = trio.CancelScope()
        self._waiting: trio.CancelScope | None = None
        self._attended = trio.Event()
        self._is_over: bool = False
        self._has_spoken = False
        self._has_ended = False

    async def send(
        self,
        data: str = "",
        *,
        json: Any = ABSENT,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
    ) -> None:
        """Send an event.

        Args:
            data: Its text; each line of it is one on the wire. Without data and `json` it is no event for a page, but
                `id` and `retry` count.
            json: The data as a value to be written as JSON, in the place of `data`.
            event: Its type, which a page listens to by name; "message" if None.
            id: Where a client that comes again went on to; an empty one forgets that.
            retry: Seconds after which the client comes again when the connection is lost.

        Raises:
            TypeError, ValueError: one of these is not what it has to be, or has a line break where none can be. Nothing
                has been sent.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.send_all`.

        Cancellation: as for `ResponseStream.send`.
        """
        written = _written(data, json, event, id, retry)
        self._has_spoken = True
        await self._stream.send(written)

    async def _attend(self, exchange: Streaming, keepalive: float) -> None:
        """Wait for the client's end, and break the silence."""
        try:
            while not self._is_over:
                with trio.move_on_after(keepalive) as self._waiting:
                    await exchange.wait_disconnected()
                    break
                await self._break_silence()
            if not self._is_over:
                self._end()
        except (HandleBrokenError, HandleClosedError):
            self._end()
        finally:
            self._attended.set()

    async def _break_silence(self) -> None:
        if not (self._is_over or self._has_spoken):
            await self._stream.send(_COMMENT)
        self._has_spoken = False

    async def _end_with_drain(self, draining: trio.Event) -> None:
        await draining.wait()
        self._end()

    def _end(self) -> None:
        """Nobody listens any more, or nobody is to: the block ends."""
        self._has_ended = True
        self._body.cancel()

    async def _settle(self) -> None:
        """The block was left: a comment that is under way is sent to its end."""
        self._is_over = True
        if self._waiting is not None:
            self._waiting.cancel()
        await self._attended.wait()


@block
async def stream_events(
    exchange: Streaming, headers: HeaderInput | Headers, keepalive: float
) -> AsyncIterator[EventStream]:
    """As `Exchange.stream_events`."""
    check_seconds("keepalive", keepalive, positive=True)
    last_event_id = exchange.headers.get("last-event-id")
    if last_event_id is not None:
        last_event_id = last_event_id.encode("latin-1").decode("utf-8", "replace")
    events = None
    try:
        async with exchange.stream(200, headers=with_defaults(headers, _FIELDS)) as stream:
            events = EventStream(stream, last_event_id)
            await stream.flush()
            async with open_services() as services:
                services.start_soon(events._attend, exchange, keepalive)
                services.start_soon(events._end_with_drain, exchange.connection.scope.draining)
                with events._body:
                    if exchange.method == "HEAD":
                        events._end()
                    yield events
                await events._settle()
    except (HandleBrokenError, HandleClosedError) as exc:
        if events is None or not (events._has_ended or exc.handle is exchange.connection):
            raise


def _written(data: Any, json: Any, event: Any, id: Any, retry: Any) -> bytes:
    lines = []
    if event is not None:
        lines.append(f"event: {_one_line('event', event)}")
    if id is not None:
        if "\0" in _one_line("id", id):
            raise ValueError(f"id must not have NUL, which clients ignore it for: {id!r}")
        lines.append(f"id: {id}")
    if retry is not None:
        lines.append(f"retry: {_milliseconds(retry)}")
    if json is not ABSENT:
        if data:
            raise TypeError(f"give an event data or json, not both: data is {data!r}")
        data = as_json_text(json)
    if not isinstance(data, str):
        raise TypeError(f"data must be a str, not {data!r}; for a value give json=")
    if data or json is not ABSENT or not lines:
        lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return "".join(f"{line}\n" for line in [*lines, ""]).encode()


def _one_line(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {text!r}")
    if "\n" in text or "\r" in text:
        raise ValueError(f"{name} must be one line, not {text!r}: the rest would be fields of their own")
    return text


def _milliseconds(retry: float) -> int:
    check_seconds("retry", retry)
    if retry == math.inf:
        raise ValueError("retry must be a number of seconds; a client that is not to come again gets a 204 next time")
    return round(retry * 1000)
