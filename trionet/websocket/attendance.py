"""What the caretaker does for a WebSocket while its owner does something else.

Each tick is a short step: the receiver takes in what has come, where no task receives (`receiving`), the keepalive
sends a ping or gives up a dead peer (`keepalive`), and a WebSocket that is to end closes when its grace is over. What
several messages have left in the output buffer goes out when the tasks that are due have had their turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from ..ownership import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..handle import Handle
    from .keepalive import Keepalive
    from .receiving import MessageReceiver
    from .sending import MessageSender

__all__ = ["Attendance"]


class Attendance:
    """One WebSocket, as the caretaker sees it: a `Charge`.

    Args:
        handle: The WebSocket.
        sender, receiver, keepalive: Its parts.
        before: The attendance of the handle that a transfer has ended.

    Attributes:
        retire_by: When a WebSocket that is to end closes, whatever its peer may still want.
    """

    __slots__ = ("_handle", "_keepalive", "_receiver", "_sender", "retire_by")

    def __init__(
        self,
        handle: Handle,
        sender: MessageSender,
        receiver: MessageReceiver,
        keepalive: Keepalive,
        before: Attendance | None,
    ) -> None:
        self._handle: Handle | None = handle
        self._sender = sender
        self._receiver = receiver
        self._keepalive = keepalive
        self.retire_by: float = 0.0 if before is None else before.retire_by

    def flush(self) -> None:
        """What is due goes out now. A step."""
        if self._handle is not None:
            self._sender.flush(self._handle)

    @enable_ki_protection
    def tick(self, now: float) -> Callable[[], bool] | None:
        """A step; what it returns goes on with what has come, if there may be more of that."""
        handle = self._handle
        if handle is None or handle._life.state.phase is not Phase.OPEN or handle._life.state.reset:
            return None
        if handle._life.retiring:
            more = self._go_on()
            if not more and now >= self.retire_by:
                handle._close_in_background()
        else:
            more = self._receiver.attend(handle)
            self._keepalive.look(handle, now)
        return self._go_on if more else None

    def _go_on(self) -> bool:
        return self._handle is not None and self._receiver.attend_again(self._handle)

    @enable_ki_protection
    def let_go(self) -> None:
        """The handle has ended: there is nothing to attend to, and no cycle of garbage must be left. A step."""
        self._handle = None
        self._sender.attendance = None
