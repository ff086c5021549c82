"""How the block of a response is left: the connection is settled, whatever of the body is unread.

Theory of operation. A connection can carry another request only behind the end of a response. Reading the unread rest
of a body costs time and bandwidth, opening a connection costs a round trip or three; and a body may be endless, or come
at a byte a minute, on purpose. So the rest is drained within bounds of bytes *and* time (``limits.drain_bytes``,
``limits.drain_timeout``), and where that is not enough the connection is closed instead:

- a Content-Length beyond the bound, or a connection that ends with this response anyhow, is not drained at all;
- what has arrived already is taken without waiting, and counts like what is received then;
- a block that is left by an exception drains nothing: a cancelled task must not wait for a server. One exception is
  made, for the status error that the response itself has raised: it says what the server did, the program goes on
  behind it, and its text is in the rest of the body;
- a request that is still being sent is never completed; the connection is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ...transport.protocol import MAX_RECEIVE
from ..protocol.body_reader import PIECES

if TYPE_CHECKING:
    from .incoming_body import IncomingBody

__all__ = ["leave"]


@enable_ki_protection
async def leave(body: IncomingBody, exc: BaseException | None, rest: list[bytes] | None = None) -> None:
    """The block ends, with `exc` or normally: the connection is settled.

    Args:
        body: Of the response.
        exc: What ends the block, None if nothing does.
        rest: Where to put what is drained. If there is a place for it, it is drained in spite of `exc`.

    Raises:
        Whatever the producer of the request's body has raised, if nobody has met it before.

    Cancellation: the connection is aborted.
    """
    claim = body.claim
    body.left = not body.ended  # what nobody has read until now nobody will
    try:
        if not body.ended:
            if (exc is None or rest is not None) and claim.upload is None:
                await _drain(body, rest)
            else:
                body.io.abort()
    finally:
        try:
            await claim.end_upload(exc, response_over=body.ended)  # noqa: ASYNC102 - shielded in there
        finally:
            claim.give_back()


@enable_ki_protection
async def _drain(body: IncomingBody, rest: list[bytes] | None) -> None:
    """Read the rest of the body, within bounds of bytes and of time; beyond them, abort.

    What has arrived already is put into `rest` beyond them too, where the caller wants it.
    """
    io, machine = body.io, body.io.machine
    limits = machine.limits
    within = machine.keep_alive and body.framing - body.size <= limits.drain_bytes
    end = io.bytes_received + limits.drain_bytes - machine.buffered
    found = [] if rest is None else rest
    try:
        if within or rest is not None:
            await _take_arrived(body, found)
        if within:
            await _drain_until(body, end, limits.drain_timeout, found)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the connection has ended already
    except BaseException:
        io.abort()
        raise
    if not body.ended:
        io.abort()


async def _drain_until(body: IncomingBody, end: int, seconds: float, rest: list[bytes]) -> None:
    """Receive the rest of the body until the connection has received `end` bytes, or for so long."""
    if _to_receive(body, end) > 0:
        with trio.move_on_after(seconds):
            while (left := _to_receive(body, end)) > 0:
                rest.append(await body.next_event(min(left, MAX_RECEIVE)) or b"")
                await _take_arrived(body, rest)


def _to_receive(body: IncomingBody, end: int) -> int:
    """How many bytes may still be received for the rest of the body; none if there is no rest."""
    return 0 if body.ended else end - body.io.bytes_received


async def _take_arrived(body: IncomingBody, rest: list[bytes]) -> None:
    """Take all pieces that have arrived already, some at a time."""
    pieces = 0
    while not body.ended and body.take_arrived(rest):
        pieces += 1
        if not pieces % PIECES:
            await trio.lowlevel.checkpoint()
