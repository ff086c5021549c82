"""Bytes both ways between two connections, as a tunnel needs it, with the ends of each in their places.

Two tasks, one for each direction, each with one piece of at most 64 KiB in hand. What makes it more than two loops is
how they end: an EOF goes on as an EOF, a reset as a reset, and a piece that could not be sent is unread again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from .connection import Connection
from .errors import HandleBrokenError
from .ownership import Phase, Send
from .support.checks import check_kind, check_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["pump"]


async def pump(a: Connection, b: Connection, *, linger: float = 5.0) -> tuple[int, int]:
    """Carry bytes between two connections, both ways, until both sides have ended: how many from `a` and from `b`.

    At most 64 KiB wait in each direction; a side that takes nothing holds up the other. The EOF of one side is passed
    on while the other direction goes on. Where it cannot be passed on, as in TLS before 1.3, the other direction has
    `linger` seconds to end by itself; then both connections are aborted, so that nobody takes the cut for an end.

    Both handles stay with their scopes. After a normal end they are OPEN, with both directions ended: close them, or
    leave their scope.

    Args:
        a: One connection. No other task may receive or send on it.
        b: The other.
        linger: Seconds, more than 0; `math.inf` for no limit. It also bounds how long what a broken side had said
            before is still delivered.

    Raises:
        HandleBrokenError: a side was reset, or cut off. What it had said before has been passed on; then the other
            side was aborted, so that its peer sees no proper end either. `handle` says which side it was.
        HandleBusyError, HandleClosedError, HandleMovedError: as for `Connection.receive_some` and
            `Connection.send_all`.
        TypeError, ValueError: an argument cannot be right.

    Cancellation: both connections stay open. A piece that was received and not sent is unread again; one that was sent
    in part breaks the connection that it was sent on.
    """
    for name, side in (("a", a), ("b", b)):
        check_kind(name, side, Connection, "a Connection")
    if a is b:
        raise ValueError(f"a and b are both {a!r}: give two connections")
    check_seconds("linger", linger, positive=True)
    return await _Pump(a, b, linger).run()


class _Pump:
    """Both directions, and what has gone wrong in the first of them that failed."""

    def __init__(self, a: Connection, b: Connection, linger: float) -> None:
        self._sides = (a, b)
        self._linger = linger
        self._carried = [0, 0]
        self._failure: BaseException | None = None
        self._scope = trio.CancelScope()

    @enable_ki_protection
    async def run(self) -> tuple[int, int]:
        a, b = self._sides
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guard, partial(self._carry, a, b, 0))
                nursery.start_soon(self._guard, partial(self._carry, b, a, 1))
        failure = self._failure
        if isinstance(failure, HandleBrokenError):
            _abort(*(side for side in self._sides if side is not failure.handle))
        if failure is not None:
            raise failure
        if self._scope.cancelled_caught:  # the time to linger is up
            _abort(a, b)
        return self._carried[0], self._carried[1]

    async def _guard(self, carry: Callable[[], Awaitable[None]]) -> None:
        """Keep what went wrong first: a nursery would wrap it. The other direction ends too, now or soon."""
        try:
            await carry()
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001 - raised by `run`, whatever it is
            self._failure = self._failure or exc
            self._scope.cancel()

    @enable_ki_protection
    async def _carry(self, source: Connection, target: Connection, way: int) -> None:
        while data := await source.receive_some():
            try:
                await target.send_all(data)
            except HandleBrokenError as exc:
                # The target may have said why before it left: the other direction delivers that, and ends behind it.
                _put_back(source, target, data)
                self._failure = self._failure or exc
                self._end_soon()
                return
            except BaseException:
                _put_back(source, target, data)
                raise
            self._carried[way] += len(data)
        await self._pass_end(target)

    async def _pass_end(self, target: Connection) -> None:
        if target._transport.can_half_close:
            await target.send_eof()
        else:
            self._end_soon()

    def _end_soon(self) -> None:
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._linger)


@enable_ki_protection
def _put_back(source: Connection, target: Connection, data: bytes) -> None:
    """Make `data` unread again if none of it was sent. A step."""
    if target._life.state.send is not Send.BROKEN and source.phase is Phase.OPEN:
        source._leftover[:0] = data


@enable_ki_protection
def _abort(*sides: Connection) -> None:
    """Abort these, so that their peers see a reset: a FIN would look like the end of the data. A step."""
    for side in sides:
        if not side.phase.terminal:
            side._transport.spoil()
        side.abort()
