"""How an operation ends that did not go well: what the machine is told, and what its task gets to hear.

The brackets around operations are methods of `Handle`, since they are short and called all the time. These are their
rare ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ..errors import HandleBrokenError
from ..ownership import Event, Phase

if TYPE_CHECKING:
    from .inner import InnerHandle

__all__ = ["receive_arrived", "receive_failed", "send_failed"]


@enable_ki_protection
async def receive_arrived(handle: InnerHandle, max_bytes: int) -> bytes:
    """What has arrived, on a handle that retires: its last input. In place of the transport's `receive_some`.

    Raises:
        trio.ClosedResourceError: nothing has, or it was taken before.

    Cancellation: not one byte is lost.
    """
    await checkpoint_if_cancelled()
    data = handle._transport.receive_nowait(max_bytes) if handle._life.look() else None
    await cancel_shielded_checkpoint()
    if data is None:
        raise trio.ClosedResourceError("nothing has arrived, and nothing is waited for any more")
    return data


@enable_ki_protection
def receive_failed(handle: InnerHandle, exc: BaseException) -> None:
    """A receive ended with `exc`: raise what it means on this handle, or return for `exc` to go on. A step."""
    if isinstance(exc, trio.BrokenResourceError):
        handle._peer_reset(exc)  # first, so that nobody takes the handle away when the receive has ended
    handle._end_receive()
    if isinstance(exc, trio.ClosedResourceError):
        if handle._life.retiring and handle._life.state.phase is Phase.OPEN and not handle._leftover:
            handle._close_in_background()
        raise handle._closed_error(f"receive interrupted: {handle!r}") from None
    if isinstance(exc, trio.BrokenResourceError):
        raise HandleBrokenError(f"receive failed: {handle!r}: {exc}").with_handle(handle) from exc


@enable_ki_protection
def send_failed(handle: InnerHandle, exc: BaseException, sent: int | None) -> None:
    """A send ended with `exc` after `sent` bytes: raise what it means here, or return for `exc` to go on. A step."""
    handle._writer = None
    if isinstance(exc, trio.BrokenResourceError):
        handle._peer_reset(exc)  # first, so that nobody takes the handle away when the send has ended
    if sent == 0 and handle._transport.untouched:
        handle._take(Event.SEND_ENDED)
    else:
        handle._torn = sent
        handle._take(Event.SEND_TORN)
    if isinstance(exc, trio.ClosedResourceError):
        raise handle._closed_error(f"send interrupted: {handle!r}") from None
    if isinstance(exc, trio.BrokenResourceError):
        raise HandleBrokenError(f"send failed: {handle!r}: {exc}", sent).with_handle(handle) from exc
