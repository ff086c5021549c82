"""How a connection ends: aclose and abort, the drain, scopes that are left or cancelled, the peer."""

from __future__ import annotations

from trionet.ownership import Event, Phase

from .moves import Moves, Rules, moving, take
from .state import Handle, World
from .world import Step

# --- closing ---------------------------------------------------------------------------------------------------------


def closing(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    if not handle.drain and (handle.phase is Phase.DRAINING or not game.harmless(handle, Event.ACLOSE)):
        label, step = moving(game, world, i, "aclose")
        step.take(i, Event.ACLOSE)
        handle_now = step.handle(i)
        if handle_now.must_wait:
            step.put(i, drain="runs", by_scope=False)
        elif handle_now.phase is Phase.DRAINING:
            step.take(i, Event.DRAINED)
        yield label, step
    yield from take(game, world, i, Event.ABORT)
    if handle.drain and not handle.by_scope:
        yield from take(game, world, i, Event.DRAIN_TIMEOUT)
        yield from take(game, world, i, Event.DRAIN_CANCELLED, "aclose cancelled")


def draining(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    """The task in `Handle.drain` goes on."""
    if handle.drain == "runs":
        label, step = moving(game, world, i, "the drain goes on")
        drain_on(step, i)
        yield label, step
    if handle.leases or handle.reader or handle.writer:
        yield from take(game, world, i, Event.DRAINED, "drain done, too early")
    if handle.drain == "goodbye":
        label, step = moving(game, world, i, "goodbye was said")
        step.put(i, parting=False)
        drain_over(step, i)
        yield label, step
        if world.failure:
            label, step = moving(game, world, i, f"goodbye fails: {world.peer}")
            step.poison = True
            step.take(i, world.failure)
            yield label, step


def drain_on(step: Step, i: int) -> None:
    if step.handle(i).phase is Phase.OPEN:
        step.take(i, Event.SCOPE_LEFT)
    handle = step.handle(i)
    if handle.phase is Phase.CLAIMED or (handle.phase is Phase.DRAINING and not handle.quiet):
        step.put(i, drain="waits", event="drain")
    elif handle.phase is Phase.DRAINING and handle.must_wait:
        step.put(i, drain="goodbye")
    elif handle.live:
        drain_over(step, i)


def drain_over(step: Step, i: int) -> None:
    by_scope = step.handle(i).by_scope
    step.put(i, drain="", by_scope=False)
    if not by_scope:
        step.take(i, Event.DRAINED)


def ending(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    """The protocol, the peer or the reaper puts an end to the connection."""
    if world.peer == "eof":
        yield from take(game, world, i, Event.PEER_GONE)
    if world.peer == "reset" and not world.poison and handle.phase is not Phase.CLAIMED:
        label, step = moving(game, world, i, "the reaper notices the reset")
        step.poison = True
        step.take(i, Event.PEER_RESET)
        yield label, step
    yield from take(game, world, i, Event.PROTOCOL_ERROR)
    yield from take(game, world, i, Event.IDLE_TIMEOUT)


# --- scopes and the peer ---------------------------------------------------------------------------------------------


def scopes(game: Rules, world: World) -> Moves:
    if "scopes" not in game.bounds.families:
        return
    for scope, state in enumerate(world.scopes):
        name = "AB"[scope]
        if state == "open":
            step = game.step(world)
            step.scopes[scope] = "leaving"
            step.drain_members(scope)
            yield f"scope {name} is left", step
        if state == "leaving":
            if not busy_drains(world, scope):
                step = game.step(world)
                step.drain_members(scope)
                yield f"scope {name} goes on leaving", step
            step = game.step(world)
            step.let_go(scope, Event.SCOPE_DEADLINE)
            yield f"scope {name}: drain deadline", step
        if state != "closed":
            step = game.step(world)
            step.let_go(scope, Event.SCOPE_CANCELLED)
            yield f"scope {name} cancelled", step


def busy_drains(world: World, scope: int) -> bool:
    """Whether a task of the leaving scope is still draining a handle, or waits for one who does."""
    return any(isinstance(node, Handle) and node.scope == scope and node.drain for node in world.nodes)


def peer(game: Rules, world: World) -> Moves:
    if world.peer or world.closes:
        return
    if world.sent < game.bounds.peer_bytes:
        step = game.step(world)
        step.kernel += (world.sent,)
        step.sent += 1
        yield f"peer sends byte {world.sent}", step
    if "eof" in game.bounds.families:
        step = game.step(world)
        step.peer = "eof"
        yield "peer sends EOF", step
    if "reset" in game.bounds.families:
        step = game.step(world)
        step.peer = "reset"
        step.kernel = ()
        yield "peer resets", step
    if "cut" in game.bounds.families:
        step = game.step(world)
        step.peer = "cut"
        yield "peer cuts off", step
