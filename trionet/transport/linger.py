"""Lingering: what a side that ends a connection does so that its last words are read.

Closing a socket while input is unread, or while the peer is still sending, makes the system answer with a reset; and a
reset may discard, at the peer, what had arrived there and was not read yet: an error response, a close frame. So the
side that closes first ends its own direction, then receives and drops what still comes until the peer has ended its
direction too (RFC 9112 §9.6). A peer that never does so is given up after a second, or after so much input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from .protocol import MAX_RECEIVE

if TYPE_CHECKING:
    from .protocol import Transport

__all__ = ["LINGER_BYTES", "LINGER_SECONDS", "linger"]

LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 2**26
"""How long lingering takes at most, and how much input is dropped."""


async def linger(transport: Transport, *, max_bytes: int = LINGER_BYTES, end_sending: bool = False) -> None:
    """Receive and drop what the peer sends until it ends its direction, within bounds.

    Args:
        transport: Of the connection that ends. Nobody else receives from it.
        max_bytes: After how much input the peer is given up.
        end_sending: Whether to tell the peer first that nothing follows, where the transport can do that.

    Raises:
        trio.BrokenResourceError: the connection failed.
        trio.ClosedResourceError: it was closed meanwhile.

    Cancellation: what was received so far is dropped.
    """
    size = 0
    with trio.move_on_after(LINGER_SECONDS):
        if end_sending and transport.can_half_close:
            await transport.send_eof()
        while size < max_bytes and (data := await transport.receive_some(MAX_RECEIVE)):
            size += len(data)
