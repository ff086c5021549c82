"""The end of a handle: graceful, at a deadline, or by force; and what its scope and its server ask of it.

A graceful close is a *drain* with a release behind it. The drain (`drain`) refuses new work, waits for what is in
progress, and says the protocol's goodbye; it takes as long as others make it take, and so has no deadline of its own.
Whoever began it has one: `Handle.aclose`, or the scope, which drains all its handles together. At the deadline, or when
that task is cancelled, the rest is cut off. Several may ask for the end of one handle: the first drains, the others
wait for the end, whatever it will be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ..errors import UpgradeRefusedError, errors_on, unraised
from ..ownership import Event, Phase, Reason
from . import guards

if TYPE_CHECKING:
    from .inner import InnerHandle

__all__ = ["RETIRABLE", "close_quietly", "drain", "ended_by_peer", "finish", "handler_failed_for_good"]

RETIRABLE: Final = (Phase.OPEN, Phase.RESERVED)
"""Phases in which a handle that waits for input can be told to wait no more."""
_PEERS: Final = (Reason.PEER_EOF, Reason.PEER_RESET, Reason.PROTOCOL_ERROR, Reason.IDLE_TIMEOUT)
"""Reasons of an end that the peer has brought about."""


@enable_ki_protection
async def finish(handle: InnerHandle, seconds: float) -> None:
    """Drain a handle that is DRAINING, and release it; by force when the `seconds` are up.

    Cancellation: the handle is aborted (`ABORTED`).
    """
    if not handle._must_wait:
        handle._take(Event.DRAINED)
        return
    try:
        with trio.move_on_after(seconds) as deadline:
            await handle._drain()
    except BaseException:
        handle._take(Event.DRAIN_CANCELLED)
        raise
    if not deadline.cancelled_caught:
        handle._take(Event.DRAINED)
        return
    blockers = handle.blockers
    handle._take(Event.DRAIN_TIMEOUT)
    if handle._life.retiring and handle._life.state.reason is Reason.DRAIN_TIMEOUT:
        handle._owner.note_force(handle, blockers)  # nobody but the server's drain has asked for this close


@enable_ki_protection
async def drain(handle: InnerHandle) -> None:
    """Everything of a graceful close but the release: for `Handle.aclose`, and for the scope. Never raises an error.

    Cancellation: leaves the rest undone; whoever called goes on with force.
    """
    if handle._drained_by is not None:
        await handle.wait_ended()
        return
    handle._drained_by = current_task()
    try:
        await _work_over(handle)
        if handle._life.state.phase is Phase.DRAINING and handle._parting:
            await handle._goodbye()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
        guards.peer_reset(handle, exc)
    except Exception as exc:  # noqa: BLE001 - a protocol of a user's own, or a foreign stream, cannot say goodbye
        handle._failure = unraised(exc)
        handle._take(Event.DRAIN_CANCELLED)
    finally:
        handle._drained_by = None


async def _work_over(handle: InnerHandle) -> None:
    """Wait until no operation, no lease and no upgrade is in progress."""
    while _is_at_work(handle):
        handle._quiet = trio.Event()
        await handle._quiet.wait()
        _leave_again(handle)


def _is_at_work(handle: InnerHandle) -> bool:
    state = handle._life.state
    return state.phase is Phase.CLAIMED or (state.phase is Phase.DRAINING and not state.quiet)


def _leave_again(handle: InnerHandle) -> None:
    """A handshake that was refused while the scope was leaving has opened the handle again."""
    if handle._life.state.phase is Phase.OPEN:
        handle._take(Event.SCOPE_LEFT)


async def close_quietly(handle: InnerHandle) -> None:
    """A service task's `Handle.aclose`: what goes wrong is on the handle's record."""
    if not handle._life.state.phase.terminal and handle._drained_by is None:
        await handle.aclose()


def handler_failed_for_good(handle: InnerHandle, error: BaseException | None) -> bool:
    """Whether a handler's `error` means that the connection is to be cut off."""
    if any(isinstance(own, UpgradeRefusedError) for own in errors_on(handle, error)):
        return False  # the peer has a response that says why, and an abort could take that away
    return handle._life.state.phase is not Phase.DRAINING  # else its graceful close may be what the handler noticed


def ended_by_peer(handle: InnerHandle) -> Reason | None:
    """The reason of the end, if it is the peer's doing; also of one that is about to come. None if it is not."""
    state = handle._life.state
    if state.reset:
        return Reason.PEER_EOF if state.cut_off else Reason.PEER_RESET
    return state.reason if state.reason in _PEERS else None
