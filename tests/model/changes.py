"""Detach, transfer, upgrade: what moves a connection to its next owner, and every way in which a handshake ends."""

from __future__ import annotations

from collections.abc import Callable

from trionet.ownership import Event, Phase, Receive, Send, state_of

from .moves import Moves, Rules, moving, take
from .state import Capsule, Handle, Wire, World
from .world import Step

# --- detach, transfer, upgrade ---------------------------------------------------------------------------------------


def chaining(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    if len(world.nodes) >= game.bounds.chain:
        return
    yield from take(game, world, i, Event.DETACH)
    for scope, state in enumerate(world.scopes):
        if state == "open" and scope != handle.scope and not game.harmless(handle, Event.TRANSFER):
            label, step = moving(game, world, i, f"transfer to scope {'AB'[scope]}")
            step.next = step.twin(i, scope), scope
            step.take(i, Event.TRANSFER)
            yield label, step


def door(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    """A task in `detach_when_idle`."""
    may_ask = handle.live and not handle.door and len(world.nodes) < game.bounds.chain
    if may_ask and not game.harmless(handle, Event.RESERVE):
        label, step = moving(game, world, i, "detach when idle")
        step.put(i, door="waits", event="door")
        step.take(i, Event.RESERVE)
        yield label, step
    if handle.door:
        label, step = moving(game, world, i, "the waiter is cancelled")
        leave_door(step, i)
        step.take(i, Event.RESERVE_CANCELLED)
        yield label, step
    if handle.door == "runs":
        label, step = moving(game, world, i, "the waiter goes on")
        leave_door(step, i)
        if handle.phase is Phase.CLAIMED:
            step.take(i, Event.DETACH_CLAIMED)
        yield label, step


def leave_door(step: Step, i: int) -> None:
    event = step.handle(i).event
    step.put(i, door="", event="" if event == "door" else event)


def upgrading(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    if handle.wire is not None:
        yield from handshaking(game, world, i, handle, handle.wire)
        return
    if len(world.nodes) >= game.bounds.chain:
        return
    for event in (Event.UPGRADE, Event.UPGRADE_LEASED):
        leased = event is Event.UPGRADE_LEASED
        if game.harmless(handle, event) or (leased and not handle.leases):
            continue
        label, step = moving(game, world, i, event.value)
        if step.take(i, event):
            step.put(i, wire=Wire(unread=handle.leftover, leased=leased))
        yield label, step


def handshaking(game: Rules, world: World, i: int, handle: Handle, wire: Wire) -> Moves:
    yield from handshake_io(game, world, i, wire)
    yield ended(game, world, i, "handshake accepted", accepted)
    yield ended(game, world, i, "handshake refused", refused)
    yield ended(game, world, i, "handshake fails, or is cancelled", lambda step, j: failed(step, j, None))
    if failure := world.failure:
        yield ended(game, world, i, f"handshake fails: {world.peer}", lambda step, j: failed(step, j, failure))
    if wire.consumed or wire.unread:
        yield ended(game, world, i, "handshake finds injected plaintext", injected)


def handshake_io(game: Rules, world: World, i: int, wire: Wire) -> Moves:
    if wire.unread:
        yield at_wire(game, world, i, "handshake consumes an unread byte", wire, wire.unread[:1], wire.unread[1:])
    elif world.kernel:
        label, step = at_wire(game, world, i, "handshake receives a byte", wire, world.kernel[:1], ())
        step.kernel = world.kernel[1:]
        yield label, step
    elif world.peer == "eof" and not wire.ended:
        label, step = moving(game, world, i, "handshake sees EOF")
        step.put(i, wire=wire._replace(ended=True))
        yield label, step
    if world.kernel:
        label, step = at_wire(game, world, i, "handshake reads ahead", wire, (), wire.unread + world.kernel)
        step.kernel = ()
        yield label, step
    if not wire.sent:
        label, step = moving(game, world, i, "handshake sends")
        step.consume(wire.consumed)
        step.put(i, wire=wire._replace(consumed=(), sent=True))
        yield label, step


def at_wire(
    game: Rules, world: World, i: int, name: str, wire: Wire, data: tuple[int, ...], unread: tuple[int, ...]
) -> tuple[str, Step]:
    label, step = moving(game, world, i, name)
    if wire.sent:  # nothing can be undone any more, so no account is kept
        step.consume(data)
        step.put(i, wire=wire._replace(unread=unread))
    else:
        step.put(i, wire=wire._replace(consumed=wire.consumed + data, unread=unread))
    return label, step


def ended(game: Rules, world: World, i: int, name: str, how: Callable[[Step, int], None]) -> tuple[str, Step]:
    label, step = moving(game, world, i, name)
    if step.handle(i).phase is Phase.CLAIMED:
        how(step, i)
    step.put(i, wire=None)
    return label, step


def accepted(step: Step, i: int) -> None:
    wire = step.handle(i).wire
    assert wire is not None
    step.next = step.successor(i), step.handle(i).scope
    step.consume(wire.consumed)
    step.heard_eof = step.heard_eof or wire.ended
    step.take(i, Event.ACCEPTED)


def refused(step: Step, i: int) -> None:
    wire = step.handle(i).wire
    assert wire is not None
    step.consume(wire.consumed)
    step.take(i, Event.REFUSED)


def failed(step: Step, i: int, failure: Event | None) -> None:
    wire = step.handle(i).wire
    assert wire is not None
    if wire.sent:
        step.take(i, Event.FAILED)
    else:
        step.handshake_undone(i, failure)


def injected(step: Step, i: int) -> None:
    step.injected = True
    step.take(i, Event.INJECTED)


def capsule(game: Rules, world: World, i: int, node: Capsule) -> Moves:
    if not node.live:
        return
    label, step = moving(game, world, i, "capsule aborted")
    step.close_capsule(i)
    yield label, step
    for scope, state in enumerate(world.scopes):
        if state == "open" and len(world.nodes) < game.bounds.chain:
            label, step = moving(game, world, i, f"capsule adopted by scope {'AB'[scope]}")
            life = state_of(
                receive=Receive.EOF if node.receive_ended else Receive.IDLE,
                send=Send.SHUT if node.send_ended else Send.IDLE,
            )
            step.nodes.append(Handle(life, scope, node.leftover))
            step.unregister(i)
            step.register(scope, len(step.nodes) - 1, instead_of=-1)
            step.nodes[i] = node._replace(live=False, leftover=())
            yield label, step
