"""The end of a handle: graceful, at a deadline, or by force; and what its scope and its server ask of it."""

from __future__ import annotations

from typing import Final

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ..errors import UpgradeRefusedError, errors_on, unraised
from ..ownership import End, Event, Phase, Reason, Receive
from .changes import Changes

__all__ = ["Closing"]

_OPEN_OR_RESERVED: Final = (Phase.OPEN, Phase.RESERVED)


class Closing(Changes):
    """The verbs by which a handle ends."""

    __slots__ = ()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close gracefully: refuse new work, wait for leases and for a write in flight, say goodbye, release.

        A bare pending read is woken with `HandleClosedError`. At the scope's ``drain_timeout`` the rest is cut off.
        Does nothing on a handle that is MOVED or CLOSED, so leaving an old ``async with`` cannot hurt a successor.

        The handle is CLOSED afterwards: `LOCAL`, or `DRAIN_TIMEOUT`, or `PEER_RESET`.

        Cancellation: the handle is aborted (`ABORTED`).
        """
        self._take(Event.ACLOSE)
        if self._life.phase is Phase.DRAINING:
            if self.must_wait:
                await self._close_within(self._owner.drain_timeout)
            else:
                self._take(Event.DRAINED)
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def _close_within(self, seconds: float) -> None:
        try:
            with trio.move_on_after(seconds) as deadline:
                await self.drain()
        except BaseException:
            self._take(Event.DRAIN_CANCELLED)
            raise
        if not deadline.cancelled_caught:
            self._take(Event.DRAINED)
            return
        blockers = self.blockers
        self._take(Event.DRAIN_TIMEOUT)
        if self._life.retiring and self._life.reason is Reason.DRAIN_TIMEOUT:
            self._owner.note_force(self, blockers)  # nobody but the server's drain has asked for this close

    @enable_ki_protection
    def retire(self, grace: float = 0.0) -> None:
        """Close gracefully as soon as the handle's user waits for input that has not arrived yet. A step.

        So a server that drains interrupts no answer that is being worked out, and waits for no input. What arrived
        before is delivered, once: a close would reset it away.

        Args:
            grace: Seconds for which a protocol with requests may wait for the next one all the same. A second call
                looks whether they are over.
        """
        self._check_run("retire")
        life = self._life
        life.retiring = True  # an upgrade under way passes both on
        life.grace = grace
        if life.phase in _OPEN_OR_RESERVED and life.receive is Receive.BUSY and self._reader_lease is None:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        """A task waits for input: it takes what has arrived, or learns that nothing is waited for any more."""
        self._life.looked = True
        self._transport.wake_receiver()

    @enable_ki_protection
    def handler_failed(self, error: BaseException | None = None) -> None:
        """The server's handler that used this handle has raised. Protocols that can tell their peer do so. A step."""
        if any(isinstance(own, UpgradeRefusedError) for own in errors_on(self, error)):
            return  # the peer has an answer that says why, and an abort could take that away
        if self._life.phase is not Phase.DRAINING:  # else its graceful close may be what the handler noticed
            self.abort()

    def forget_work(self) -> None:
        """As `Member.forget_work`. Protocol handles that have such things do."""

    def _close_in_background(self) -> None:
        self._take(Event.ACLOSE)
        self._owner.start_service(self._close_quietly)

    async def _close_quietly(self) -> None:
        """A service task's `aclose`: what goes wrong is on the handle's record."""
        if not self._life.phase.terminal and self._drained_by is None:
            await self.aclose()

    @property
    def must_wait(self) -> bool:
        """Whether a graceful close has to wait for anything, or could be over in this step."""
        if self._life.phase is Phase.DRAINING:
            return not self.drained
        return self._life.phase is Phase.CLAIMED

    @property
    def drained(self) -> bool:
        """Whether nothing but the release is left of a graceful close."""
        return self._life.phase is Phase.DRAINING and self._life.quiet and not self._parting

    @property
    def _parting(self) -> bool:
        """Whether the goodbye has yet to be said. Protocol handles add their own."""
        return self._transport.parting and not self._life.poisoned

    @enable_ki_protection
    async def drain(self) -> None:
        """Everything of a graceful close but the release: for `aclose`, and for the scope. Never raises an error.

        Cancellation: leaves the rest undone; whoever called goes on with force.
        """
        if self._drained_by is not None:
            await self.wait_ended()
            return
        self._drained_by = current_task()
        try:
            await self._work_over()
            if self._life.phase is Phase.DRAINING and self._parting:
                await self._goodbye()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._peer_reset(exc)
        except Exception as exc:  # noqa: BLE001 - a protocol of a user's own, or a foreign stream, cannot say goodbye
            self._failure = unraised(exc)
            self._take(Event.DRAIN_CANCELLED)
        finally:
            self._drained_by = None

    async def _work_over(self) -> None:
        """Wait until no operation, no lease and no upgrade is in progress."""
        while self._life.phase is Phase.CLAIMED or (self._life.phase is Phase.DRAINING and not self._life.quiet):
            self._quiet = trio.Event()
            await self._quiet.wait()
            self._leave_again()

    def _leave_again(self) -> None:
        """A handshake that was refused while the scope was leaving has opened the handle again."""
        if self._life.phase is Phase.OPEN:
            self._take(Event.SCOPE_LEFT)

    async def _goodbye(self) -> None:
        """What the protocol says at a graceful end. Protocol handles put theirs in front of the transport's."""
        await self._transport.goodbye()

    @enable_ki_protection
    def abort(self) -> None:
        """Close the endpoint now; every task with work in progress on it gets an error that says so. A step.

        The handle is CLOSED (`ABORTED`) afterwards. Does nothing on a handle that has ended.
        """
        self._take(Event.ABORT)

    @enable_ki_protection
    def scope_event(self, event: Event) -> None:
        """Take an event of the scope, which is never refused. A step; for `Owner`."""
        self._take(event)

    @enable_ki_protection
    async def wait_ended(self) -> End:
        """Wait until the handle has ended: how it did, whatever the reason. For any number of tasks.

        Cancellation: no effect on the handle.
        """
        if self._end is None:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()
        else:
            await trio.lowlevel.checkpoint()
        assert self._end is not None
        return self._end
