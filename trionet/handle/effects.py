"""The hands of the machine: each effect that the table names, carried out on the handle within the same step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import outcome

from ..ownership import Effect, End, Reason, Receive, Send
from .detached import Detached

if TYPE_CHECKING:
    from collections.abc import Callable

    from .inner import InnerHandle

__all__ = ["CARRY_OUT"]

_BY_FORCE: Final = frozenset({Reason.DRAIN_TIMEOUT, Reason.SCOPE_EXIT, Reason.SCOPE_CANCELLED})


def _release(handle: InnerHandle) -> None:
    owner = handle._owner
    if handle._life.retiring or handle._life.state.reason in _BY_FORCE:
        owner.note_loss(handle, handle._lost_size)
    failure = owner.release(handle._transport, handle)
    if handle._failure is None:
        handle._failure = failure
    owner.unregister(handle)
    if handle._watcher is not None:
        handle._watcher.endpoint_closed()
    handle._leftover.clear()


def _interrupt(handle: InnerHandle) -> None:
    """Wake what the transport's close does not: a handshake. Who waits at the door wakes by the change of phase."""
    if handle._wire is not None:
        handle._wire.scope.cancel()
    handle._leases = ()


def _wake_waiter(handle: InnerHandle) -> None:
    if handle._quiet is not None:
        handle._quiet.set()


def _wake_reader(handle: InnerHandle) -> None:
    if handle._life.state.receive is Receive.BUSY and handle._reader_lease is None:
        handle._transport.wake_receiver()


def _put_back(handle: InnerHandle) -> None:
    assert handle._wire is not None
    handle._set_unread(handle._wire._received())


def _keep_rest(handle: InnerHandle) -> None:
    assert handle._wire is not None
    handle._set_unread(handle._wire.unread)


def _hand_over(handle: InnerHandle) -> None:
    assert handle._next is not None
    (successor, owner), handle._next = handle._next, None
    if owner is not handle._owner:
        handle._owner.unregister(handle)
    successor._seat(owner, instead_of=handle)
    _move_to(handle, successor)


def _into_capsule(handle: InnerHandle) -> None:
    life = handle._life
    capsule = Detached(
        handle._transport,
        handle._unread(),
        receive_ended=life.state.receive is Receive.EOF,
        send_ended=life.state.send is Send.SHUT,
        opened_at=handle.opened_at,
        watcher=handle._watcher,
    )
    if life.retiring:
        capsule._retire(life.grace)
    capsule._seat(handle._owner)
    handle._owner.register(capsule, instead_of=handle)
    _move_to(handle, capsule)


def _move_to(handle: InnerHandle, successor: Any) -> None:
    assert handle._life.state.reason is not None
    handle._end = End(handle._life.state.reason, successor, outcome.Value(successor))
    handle._leftover = bytearray()
    handle._leases = ()


CARRY_OUT: Final[dict[Effect, Callable[[InnerHandle], None]]] = {
    Effect.TO_CAPSULE: _into_capsule,
    Effect.TO_SUCCESSOR: _hand_over,
    Effect.TO_SCOPE: _hand_over,
    Effect.RELEASE: _release,
    Effect.INTERRUPT: _interrupt,
    Effect.WAKE_READER: _wake_reader,
    Effect.WAKE_WAITER: _wake_waiter,
    Effect.PUT_BACK: _put_back,
    Effect.KEEP_REST: _keep_rest,
    Effect.DRAIN: _wake_waiter,
}
