"""What this room needs of an HTTP connection beyond its public face, in one place.

An ASGI server sees an exchange from outside, as a program does; but `receive` has to answer without waiting where it
can (frameworks ask inside a cancelled scope), an application is never cancelled because its client has gone, and the
task that asks for the next request need not be the one whose application answered the last. Each of these is one small
function here, and nothing else of this room reaches into the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import current_task, enable_ki_protection

from ..http.protocol.field_lines import FieldLines
from ..http.protocol.states import H1State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..http import Exchange, HTTPServerConnection
    from ..http.protocol.head import RequestHead
    from ..http.protocol.outgoing import CheckedFields
    from .fields import Pair

__all__ = [
    "client_has_gone",
    "is_answerable",
    "keep_scope",
    "read_head",
    "request_head",
    "respond_at_once",
    "respond_later",
    "set_up_responses",
    "take_loop",
    "take_whole_body",
]


def request_head(exchange: Exchange) -> RequestHead:
    """Request line and fields."""
    return exchange._head


def read_head(exchange: Exchange) -> tuple[RequestHead, list[Pair], bool]:
    """The request line; the fields, in a list of one's own, names in lower case; whether to look for forwarding."""
    head = exchange._head
    headers = head._headers
    if type(headers) is FieldLines:
        fields, is_forwarded = headers.lowered()
        return head, fields.copy(), is_forwarded
    return head, [(name.lower(), value) for name, value in head.headers.raw], True


@enable_ki_protection
def take_whole_body(exchange: Exchange, most: int) -> bytes | None:
    """The request's body, if it is all there and has at most so many bytes; else None. A step."""
    if exchange._gathered is not None or exchange._trailers is not None:
        return None
    return exchange.connection._input.take_body(exchange, most)


def client_has_gone(exchange: Exchange) -> str | None:
    """Whether the client has reset the connection (``"reset"``) or ended its direction (``"eof"``), without waiting."""
    connection = exchange.connection
    state = connection._life.state
    if state.phase.terminal or state.reset:
        return "reset"
    if connection._machine.received_eof or connection._lookouts.was_told(exchange):
        return "eof"
    if connection._lookouts.receiving is not None:  # a task of this request receives, and would know
        return None
    return connection._transport.peer_gone()


def is_answerable(exchange: Exchange) -> bool:
    """Whether a response can still be begun, and there is somebody to read it."""
    connection = exchange.connection
    state = connection._life.state
    if connection._cycle.exchange is not exchange or state.phase.terminal or state.reset:
        return False
    return connection._machine.our_state is H1State.HEAD


@enable_ki_protection
def respond_at_once(exchange: Exchange, status: int, fields: CheckedFields, body: bytes) -> tuple[bytes, int] | None:
    """Respond as far as that can be done without waiting. A step; what it returns is for `ResponseOutput.finish`.

    Raises:
        LocalProtocolError: the exchange is over, or the fields do not fit.
    """
    connection = exchange.connection
    if connection._cycle.exchange is not exchange:
        connection._cycle.check(exchange, "send")
    return connection._output.respond(exchange, status, fields, body)


async def respond_later(exchange: Exchange, rest: tuple[bytes, int]) -> None:
    """Send what `respond_at_once` has left.

    Cancellation: the response is truncated.
    """
    await exchange.connection._output.finish(exchange, *rest)


@enable_ki_protection
def keep_scope(connection: HTTPServerConnection, kept: bool) -> bool:
    """Whether a client that goes leaves the scope of its connection alone; returns what was so before. A step."""
    owner = connection._owner
    before = not owner.of_connection
    owner.of_connection = not kept
    return before


def take_loop(connection: HTTPServerConnection) -> None:
    """From now on this task is the one that sees the exchange under way to its end. A step."""
    connection._ending.handler = current_task()


def set_up_responses(connection: HTTPServerConnection, error_fields: Sequence[Pair], *, with_date: bool) -> None:
    """What responses of this connection have beyond what is given for each. A step.

    Args:
        connection: The connection.
        error_fields: The fields of responses to what is no request, or comes too slowly.
        with_date: Whether responses that go the careful way have a Date, if they are not given one.
    """
    connection._machine.error_fields = error_fields
    connection._machine.with_date = with_date
