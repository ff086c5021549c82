"""The brackets around operations, and leases: what is in progress on a handle, and how it ends.

An operation is one receive or one send in flight. Its begin asks the machine, which refuses a second one and whatever
the phase does not allow; its end tells the machine, which may have a waiting `detach_when_idle` or a close go on. A
lease is more than one operation, such as an exchange: while it lasts, the handle cannot be taken away.

Protocol handles put `begin_receive` and `end_receive`, or `begin_send` and `end_send`, around their I/O, and give what
goes wrong between the two to `receive_failed` or `send_failed`, which end the operation too. Where microseconds count
they use the `ShortCut` of the event themselves, which says the same.

What an error means depends on who has done what. A broken transport is told to the machine *before* the operation
ends: between the two, a task that waits for the handle to be quiet would take away a connection that has failed. A
closed transport means that somebody has closed the handle meanwhile: the error says who. Everything else, a
cancellation above all, leaves as it is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task, enable_ki_protection

from ..errors import HandleBrokenError, unraised
from ..ownership import Blocker, Event, Phase, Receive, Send
from ..ownership.shortcuts import RECEIVE_ENDED, SEND_ENDED
from ..transport.protocol import CutOffError
from .lease import Lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .inner import InnerHandle

__all__ = [
    "begin_receive",
    "begin_send",
    "end_lease",
    "end_receive",
    "end_send",
    "grant_lease",
    "in_progress",
    "peer_reset",
    "receive",
    "receive_arrived",
    "receive_failed",
    "send",
    "send_failed",
]


# --- receiving ---------------------------------------------------------------------------------------------------


@enable_ki_protection
def begin_receive(handle: InnerHandle, lease: object = None) -> None:
    """A receive of this task begins, which may belong to a `lease` (a `Lease`, or what stands for one). A step."""
    task = current_task()  # first: outside of Trio it raises
    handle._take(Event.RECEIVE if lease is None else Event.RECEIVE_LEASED)
    handle._reader_lease = lease
    handle._reader = task
    handle._reader_since = handle._clock.current_time()


@enable_ki_protection
def end_receive(handle: InnerHandle) -> None:
    """The receive has ended. A step."""
    handle._reader = handle._reader_lease = None
    life = handle._life
    if (ended := RECEIVE_ENDED[life.state]) is not None:
        life.state = ended
    else:
        handle._take(Event.RECEIVE_ENDED)


@enable_ki_protection
async def receive(handle: InnerHandle, max_bytes: int) -> bytes:
    """The transport's `receive_some`; or what `receive_arrived` says, on a handle that retires.

    Cancellation: not one byte is lost.
    """
    if handle._life.retiring:
        return await receive_arrived(handle, max_bytes)
    return await handle._transport.receive_some(max_bytes)


@enable_ki_protection
async def receive_arrived(handle: InnerHandle, max_bytes: int) -> bytes:
    """What has arrived, on a handle that retires: its last input.

    Raises:
        trio.ClosedResourceError: nothing has, or it was taken before.

    Cancellation: not one byte is lost.
    """
    await checkpoint_if_cancelled()
    data = handle._transport.receive_nowait(max_bytes) if handle._life.look() else None
    await cancel_shielded_checkpoint()
    if data is None:
        raise trio.ClosedResourceError("nothing has arrived, and the handle waits for no more input")
    return data


@enable_ki_protection
def receive_failed(handle: InnerHandle, exc: BaseException) -> None:
    """The receive has ended with `exc`: raise what it means on this handle, or return for `exc` to go on. A step."""
    if isinstance(exc, trio.BrokenResourceError):
        peer_reset(handle, exc)
    end_receive(handle)
    if isinstance(exc, trio.ClosedResourceError):
        if handle._life.retiring and handle._life.state.phase is Phase.OPEN and not handle._leftover:
            handle._close_in_background()
        raise handle._closed_error(f"receive interrupted: {handle!r}") from None
    if isinstance(exc, trio.BrokenResourceError):
        raise HandleBrokenError(f"receive failed: {handle!r}: {exc}").with_handle(handle) from exc


# --- sending -----------------------------------------------------------------------------------------------------


@enable_ki_protection
def begin_send(handle: InnerHandle, lease: object = None) -> None:
    """A send of this task begins, which may belong to a `lease`. A step."""
    task = current_task()  # first: outside of Trio it raises
    handle._take(Event.SEND if lease is None else Event.SEND_LEASED)
    handle._writer = task
    handle._writer_since = handle._clock.current_time()


@enable_ki_protection
async def send(handle: InnerHandle, operation: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run an `operation` of the handle's transport as a send, up to its end, of which the machine has yet to be told.

    Raises and Cancellation: as for `Connection.send_all`.
    """
    begin_send(handle)
    transport = handle._transport
    transport.bytes_sent = 0
    try:
        await operation(*args)
    except BaseException as exc:
        send_failed(handle, exc, transport.bytes_sent)
        raise


@enable_ki_protection
def end_send(handle: InnerHandle) -> None:
    """The send has ended: all of it was given to the operating system. A step."""
    handle._writer = None
    life = handle._life
    if (ended := SEND_ENDED[life.state]) is not None:
        life.state = ended
    else:
        handle._take(Event.SEND_ENDED)


@enable_ki_protection
def send_failed(handle: InnerHandle, exc: BaseException, sent: int | None) -> None:
    """The send has ended with `exc` after `sent` bytes: raise what it means here, or return for `exc` to go on. A step.

    One that has sent nothing has not happened. One that has sent a part leaves the peer without a boundary: the handle
    is broken. A transport that cannot tell (`sent` is None) counts as one that has.
    """
    handle._writer = None
    if isinstance(exc, trio.BrokenResourceError):
        peer_reset(handle, exc)
    if sent == 0 and handle._transport.untouched:
        handle._take(Event.SEND_ENDED)
    else:
        handle._torn = sent
        handle._take(Event.SEND_TORN)
    if isinstance(exc, trio.ClosedResourceError):
        raise handle._closed_error(f"send interrupted: {handle!r}") from None
    if isinstance(exc, trio.BrokenResourceError):
        raise HandleBrokenError(f"send failed: {handle!r}: {exc}", sent).with_handle(handle) from exc


@enable_ki_protection
def peer_reset(handle: InnerHandle, exc: BaseException) -> None:
    """The connection has failed, with `exc`: by a reset, or by an EOF in the middle. A step."""
    if handle._failure is None:
        handle._failure = unraised(exc)
    handle._take(Event.PEER_CUT_OFF if isinstance(exc, CutOffError) else Event.PEER_RESET)


# --- leases ------------------------------------------------------------------------------------------------------


@enable_ki_protection
def grant_lease(handle: InnerHandle, name: str) -> Lease:
    """Grant a lease: until it ends, the handle cannot be taken away. A step."""
    handle._take(Event.LEASE)
    lease = Lease(name, partial(end_lease, handle))
    handle._leases = (*handle._leases, lease)
    return lease


@enable_ki_protection
def end_lease(handle: InnerHandle, lease: Lease) -> None:
    """What `lease` was for is over. Does nothing where it was over before. A step."""
    if lease in handle._leases:
        handle._owner.check_run(Event.LEASE_ENDED.value)
        handle._leases = tuple(other for other in handle._leases if other is not lease)
        handle._take(Event.LEASE_ENDED)


# --- what is in progress -----------------------------------------------------------------------------------------


def in_progress(handle: InnerHandle) -> tuple[Blocker, ...]:
    """The work in progress on the handle; see `Handle.blockers`."""
    found = []
    state = handle._life.state
    if state.receive is Receive.BUSY and not state.phase.terminal:
        found.append(Blocker(_task_name(handle._reader), "receive", handle._reader_since))
    if state.send is Send.BUSY and not state.phase.terminal:
        found.append(Blocker(_task_name(handle._writer), "send", handle._writer_since))
    found.extend(Blocker(lease.task, lease.name, lease.since) for lease in handle._leases)
    return tuple(found)


def _task_name(task: Any) -> str:
    return "" if task is None else task.name
