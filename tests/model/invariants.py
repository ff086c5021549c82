"""What must hold in every world, and across every step. Each check says what is wrong, or nothing.

They are written against the contract, not against the table: a machine that contradicts itself in the same way in
two places does not get past them.
"""

from __future__ import annotations

from collections.abc import Iterator

from trionet.ownership import Phase, Reason, Receive, Send

from .state import Capsule, Handle, Node, World

_READERS = ("", "receive", "peek", "leased")
_WRITERS = ("", "send", "leased", "eof")
_BARE = ("receive", "peek", "send", "eof")


def wrong(world: World) -> str:
    """What is wrong with this world; empty if it is sound."""
    return next(_problems(world), "")


def _problems(world: World) -> Iterator[str]:
    yield from _ownership(world)
    yield from _bytes(world)
    for i, node in enumerate(world.nodes):
        if isinstance(node, Handle):
            yield from _tasks(i, node)
            if node.live:
                yield from _sides(world, i, node)
            elif node.wire is not None:
                yield f"#{i} has ended, but the handshake on it was not interrupted"
        elif node.live:
            yield from _capsule_sides(world, i, node)


def _ownership(world: World) -> Iterator[str]:
    live = [i for i, node in enumerate(world.nodes) if node.live]
    if world.closes > 1:
        yield f"the endpoint was closed {world.closes} times"
    if len(live) > 1:
        yield f"two live owners: {live}"
    if world.injected and live:
        yield f"plaintext was injected, and #{live[0]} lives on"
    if world.closes and live:
        yield f"the endpoint is closed, but #{live[0]} is live"
    if world.injected and any(_held(node) for node in world.nodes):
        yield "plaintext was injected, and somebody still holds it"
    if not world.closes and not live:
        yield "the endpoint is open, and nobody owns it"
    owned = [(scope, i) for scope, members in enumerate(world.members) for i in members]
    if owned != [(world.nodes[i].scope, i) for i in live]:
        yield f"live are {live}, but the scopes own {owned}"
    for scope, state in enumerate(world.scopes):
        if state == "closed" and world.members[scope]:
            yield f"scope {'AB'[scope]} is closed and still owns {world.members[scope]}"


def _bytes(world: World) -> Iterator[str]:
    held = tuple(byte for node in world.nodes for byte in _held(node))
    found = world.log + held + world.kernel
    if found != tuple(range(len(found))):
        yield f"bytes lost, doubled or out of order: consumed {world.log}, held {held}, kernel {world.kernel}"
    if not world.closes and world.peer != "reset" and len(found) != world.sent:
        yield f"{world.sent} bytes were sent, but {len(found)} are accounted for"


def _held(node: Node) -> tuple[int, ...]:
    """What the node has taken from the kernel. During a handshake the wire's account is the true one."""
    if isinstance(node, Handle) and node.wire is not None:
        return node.wire.consumed + node.wire.unread
    return node.leftover


def _tasks(i: int, node: Handle) -> Iterator[str]:
    """Nobody waits for what has happened already, or for what nobody will do."""
    if node.door == "waits" and node.phase is not Phase.RESERVED:
        yield f"#{i} is {node.phase.name}, but the task in detach_when_idle waits for ever"
    if node.phase is Phase.RESERVED and not node.door:
        yield f"#{i} is RESERVED, and nobody is there to open the door again"
    if node.phase is Phase.RESERVED and node.quiet:
        yield f"#{i} is RESERVED and quiet, but the waiter was not told"
    if node.phase is Phase.CLAIMED and node.wire is None and node.door != "runs":
        yield f"#{i} is CLAIMED by nobody"
    if node.drain == "waits" and not (node.phase is Phase.CLAIMED or (node.phase is Phase.DRAINING and not node.quiet)):
        yield f"#{i} is {node.phase.name} with nothing to wait for, but its drain waits for ever"
    if node.phase is Phase.DRAINING and node.reader in _BARE and not node.reader_woken:
        yield f"#{i} is DRAINING, but its bare read was not woken"


def _sides(world: World, i: int, node: Handle) -> Iterator[str]:
    """What the machine believes is what is the case."""
    reason, receive, send, leases = node.life.reason, node.life.receive, node.life.send, node.life.leases
    if node.reader not in _READERS or node.writer not in _WRITERS:
        yield f"#{i} has two tasks in one direction: {node.reader or node.writer}"
    if (receive is Receive.BUSY) != bool(node.reader) or (send is Send.BUSY) != bool(node.writer):
        yield f"#{i} believes {receive.name}/{send.name}, but in flight are {[node.reader, node.writer]}"
    if leases != node.leases:
        yield f"#{i} counts {leases} leases, but there are {node.leases}"
    if node.phase is Phase.CLAIMED:
        asked = 1 if node.wire is not None and node.wire.leased else 0
        if node.reader or node.writer or node.leases != asked or node.life.unsent:
            yield f"#{i} is CLAIMED and not quiescent: {[node.reader, node.writer]}, {node.leases} leases"
    if node.phase is Phase.OPEN and node.scope < 2 and world.scopes[node.scope] == "closed":
        yield f"#{i} is OPEN in a closed scope"
    if reason is not None:
        yield f"#{i} is {node.phase.name} and has the reason of an end already: {reason.name}"
    if world.heard_eof and receive is not Receive.EOF:
        yield f"#{i} has forgotten the peer's EOF"
    if world.shut and send is not Send.SHUT and node.life.send is not Send.BROKEN:
        yield f"#{i} would send after its EOF"


def _capsule_sides(world: World, i: int, node: Capsule) -> Iterator[str]:
    if world.heard_eof and not node.receive_ended:
        yield f"#{i} has forgotten the peer's EOF"
    if world.shut and not node.send_ended:
        yield f"#{i} would send after its EOF"


def wrong_step(before: World, after: World) -> str:
    """What is wrong with this step; empty if nothing is."""
    return next(_broken_steps(before, after), "")


def _broken_steps(before: World, after: World) -> Iterator[str]:
    if len(after.nodes) > len(before.nodes) and after.poison:
        yield "a connection that is known to be broken was handed on"
    for i, (old, new) in enumerate(zip(before.nodes, after.nodes, strict=False)):
        if isinstance(old, Handle) and isinstance(new, Handle) and old is not new:
            yield from _life_goes_on(i, old, new, before.peer)


def _life_goes_on(i: int, old: Handle, new: Handle, peer: str) -> Iterator[str]:
    if old.life.reason is not None and new.life.reason is not old.life.reason:
        yield f"#{i} changes its reason from {old.life.reason} to {new.life.reason}"
    if not old.live and new.phase is not old.phase:
        yield f"#{i} had ended, and is {new.phase.name}"
    if new.life.reason is not old.life.reason and new.life.reason in (Reason.PEER_RESET, Reason.PEER_EOF):
        yield from _blamed(i, new.life.reason, peer)
    if not new.live and new.life.reason is None:
        yield f"#{i} has ended without a reason"
    if old.live and new.live and old.phase is not Phase.OPEN:
        yield from _nothing_new(i, old, new)
    if old.live and new.phase is Phase.MOVED:
        asked = 1 if old.wire is not None and old.wire.leased else 0
        if old.reader or old.writer or old.leases > asked or old.life.unsent:
            yield f"#{i} was taken away during {[old.reader, old.writer]}, {old.leases} leases"
    graceful = new.life.reason is Reason.LOCAL and old.live and old.phase is not Phase.CLAIMED
    if graceful and (old.reader or old.writer or old.leases or old.life.unsent):
        yield f"#{i} ended gracefully during {[old.reader, old.writer]}, {old.leases} leases"


def _blamed(i: int, reason: Reason, peer: str) -> Iterator[str]:
    """What the peer is said to have done is what it did."""
    if (reason is Reason.PEER_RESET) != (peer == "reset"):
        yield f"#{i} ended with {reason.name}, but the peer did this: {peer or 'nothing'}"


def _nothing_new(i: int, old: Handle, new: Handle) -> Iterator[str]:
    """The door is shut in every phase but OPEN."""
    if new.leases > old.leases:
        yield f"#{i} is {old.phase.name} and grants a lease"
    for was, now in ((old.reader, new.reader), (old.writer, new.writer)):
        if now in _BARE and not was:
            yield f"#{i} is {old.phase.name} and begins {now}"
