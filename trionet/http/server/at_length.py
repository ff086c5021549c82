"""A whole response whose body is not worth joining to its head, or is not there yet: large, a file, an iterable.

And each one of a server that compresses responses, since that may change its fields and its body.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from ...support.checks import flat_view
from ..content import make_content
from .cycle import LARGE
from .response_stream import ResponseStream

if TYPE_CHECKING:
    from ..content.content import Content
    from ..protocol.body_writer import Buffer
    from ..protocol.headers import HeaderInput, Headers
    from .cycle import Cycle, ExchangeUnderWay
    from .output import ResponseOutput

__all__ = ["respond_at_length", "send_content"]


@enable_ki_protection
async def respond_at_length(
    exchange: ExchangeUnderWay,
    cycle: Cycle,
    output: ResponseOutput,
    *,
    status: int,
    body: Any,
    headers: HeaderInput | Headers,
) -> None:
    """Respond with such a body. Raises and Cancellation: as for `Exchange.respond`."""
    if isinstance(body, memoryview):
        body = flat_view(body)
    if isinstance(body, (bytes, bytearray, memoryview)):
        await checkpoint_if_cancelled()
        if (compression := cycle.compression) is not None:
            headers, body = await compression._compress(cycle.machine, status, headers, body)
            cycle.check(exchange, "respond")  # other tasks may have run
        await _respond_with(exchange, output, status, headers, body)
        return
    content = make_content(body, name="body")
    # A file is all there: a client that ends its direction, and waits, gets it.
    cycle.response_ready = content.length is not None
    stream = ResponseStream(exchange, cycle, output, status=status, headers=headers, length=content.length)
    try:
        async with stream:
            if exchange._head.method != "HEAD":
                await send_content(stream, content)
    finally:
        cycle.response_ready = False


@enable_ki_protection
async def _respond_with(
    exchange: ExchangeUnderWay, output: ResponseOutput, status: int, headers: HeaderInput | Headers, body: Buffer
) -> None:
    """Respond with a body that is all there, and as it is to be sent."""
    if type(body) is not bytes or len(body) > LARGE:
        await output.respond_in_parts(exchange, status, headers, body)
    elif (rest := output.respond(exchange, status, headers, body)) is not None:
        await output.finish(exchange, *rest)


async def send_content(stream: ResponseStream, content: Content) -> None:
    """Send all of it as the next part of the body: a file by the system itself, where that can be done.

    Cancellation: as for `ResponseStream.send`.
    """
    if (region := content.region) is not None and stream._sends_files:
        for piece in region.pieces():
            await stream._send_file(piece)
        return
    async with aclosing(content.chunks()) as chunks:
        async for chunk in chunks:
            await stream.send(chunk)
