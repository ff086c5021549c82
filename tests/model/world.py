"""The model's hands: how a world changes when a handle takes an event.

What may happen is asked from `trionet.ownership` alone, through `Ownership.apply`; what the answered effects come to is
done here as `trionet.handle` does it, line by line. The mutations override single methods of `Step`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trionet.ownership import Effect, Event, Ownership, Phase, Receive, Refuse, Send, state_of

from .state import ENDED, Bytes, Capsule, Handle, Life, Node, Wire, World


class MachineError(Exception):
    """The machine contradicts itself: an assertion of its own does not hold."""


class Machine:
    """`Ownership.apply` as a function of values. It remembers its answers, since a search asks the same ones often."""

    def __init__(self, ownership: type[Ownership] = Ownership) -> None:
        self._ownership = ownership
        self._known: dict[tuple[Life, Event], tuple[Life, tuple[Effect, ...] | Refuse]] = {}
        self._stirs: dict[Life, tuple[Event, ...]] = {}
        self._tidied: dict[Life, Life | None] = {}

    def step(self, life: Life, event: Event) -> tuple[Life, tuple[Effect, ...] | Refuse]:
        """The state after `event`, and the answer."""
        known = self._known.get((life, event))
        if known is None:
            machine = self._ownership()
            machine.state = life
            try:
                answer = machine.apply(event)
            except AssertionError as exc:
                raise MachineError(f"the machine contradicts itself when it takes {event.value!r}") from exc
            known = self._known[life, event] = machine.state, answer
        return known

    def stirs(self, life: Life) -> tuple[Event, ...]:
        """The events that do something to a handle in this state; none, if it is inert."""
        found = self._stirs.get(life)
        if found is None:
            found = self._stirs[life] = tuple(event for event in Event if self._does_something(life, event))
        return found

    def tidied(self, life: Life) -> Life | None:
        """What is left of the state of a handle that has ended and is inert; None: it is neither, or not yet."""
        try:
            return self._tidied[life]
        except KeyError:
            inert = life.phase in ENDED and not self.stirs(life)
            tidy = state_of(phase=life.phase, reason=life.reason) if inert else None
            self._tidied[life] = tidy
            return tidy

    def _does_something(self, life: Life, event: Event) -> bool:
        after, answer = self.step(life, event)
        return after != life or not (isinstance(answer, Refuse) or answer == ())


class Step:
    """One step under way: a world in pieces, put together again by `world`."""

    def __init__(self, world: World, machine: Machine) -> None:
        self.machine = machine
        self.nodes: list[Node] = list(world.nodes)
        self.members = [list(members) for members in world.members]
        self.scopes = list(world.scopes)
        self.closes = world.closes
        self.sent = world.sent
        self.kernel = world.kernel
        self.log = world.log
        self.peer = world.peer
        self.heard_eof = world.heard_eof
        self.shut = world.shut
        self.poison = world.poison
        self.injected = world.injected
        self.next: tuple[Handle, int] | None = None

    def world(self) -> World:
        """The pieces as a value again."""
        return World(
            tuple(map(self._tidied, self.nodes)),
            tuple(map(tuple, self.members)),
            tuple(self.scopes),
            self.closes,
            self.sent,
            self.kernel,
            self.log,
            self.peer,
            self.heard_eof,
            self.shut,
            self.poison,
            self.injected,
        )

    def _tidied(self, node: Node) -> Node:
        """A handle that has ended and is inert needs no memory of its sides: so fewer states differ."""
        if isinstance(node, Capsule):
            return node
        tidy = self.machine.tidied(node.life)
        if tidy is None or (tidy is node.life and not node.leases and not node.event):
            return node
        return node._replace(life=tidy, leases=0, event="")

    def handle(self, i: int) -> Handle:
        """The handle at place `i` of the chain."""
        node = self.nodes[i]
        assert isinstance(node, Handle)
        return node

    def put(self, i: int, **fields: Any) -> None:
        """Change fields of the handle at place `i`."""
        self.nodes[i] = self.handle(i)._replace(**fields)

    def consume(self, data: Bytes) -> None:
        """These bytes have reached whoever they were for."""
        self.log += data

    # --- Handle._take and Handle._phase_changed ----------------------------------------------------------------------

    def take(self, i: int, event: Event) -> bool:
        """The handle takes `event` and carries out its effects; False if it was refused."""
        before = self.handle(i).life
        life, answer = self.machine.step(before, event)
        self.put(i, life=life)
        if isinstance(answer, Refuse):
            return False
        for effect in answer:
            CARRY_OUT[effect](self, i)
        if life.phase is not before.phase:
            self.phase_changed(i, before.phase)
        return True

    def phase_changed(self, i: int, before: Phase) -> None:
        """Wake whoever waits; a handle that has ended lets the tasks go that only wait for its end."""
        if before is not Phase.OPEN:
            self.wake_waiter(i)
        handle = self.handle(i)
        if not handle.live and handle.drain != "waits":
            self.put(i, drain="")

    # --- the effects -------------------------------------------------------------------------------------------------

    def release(self, i: int) -> None:
        """The transport is closed, which wakes the operations in flight on it."""
        self.closes += 1
        self.kernel = ()
        self.unregister(i)
        self.put(i, leftover=(), reader="", reader_woken=False, writer="")

    def unregister(self, i: int) -> None:
        """No scope owns place `i` any more."""
        scope = self.members[self.nodes[i].scope]
        if i in scope:
            scope.remove(i)

    def register(self, scope: int, i: int, instead_of: int) -> None:
        """`scope` owns place `i`, in the place of `instead_of` if it owned that."""
        members = self.members[scope]
        if instead_of in members:
            members[members.index(instead_of)] = i
        else:
            members.append(i)

    def interrupt(self, i: int) -> None:
        """A handshake is cancelled, leases are void, the waiter is woken."""
        self.put(i, wire=None, leases=0)
        self.wake_waiter(i)

    def wake_reader(self, i: int) -> None:
        """A bare read ends with a closed error."""
        handle = self.handle(i)
        if handle.life.receive is Receive.BUSY and handle.reader in ("receive", "peek"):
            self.put(i, reader_woken=True)

    def wake_waiter(self, i: int) -> None:
        """The event in the handle's slot is set."""
        handle = self.handle(i)
        if handle.event == "door" and handle.door == "waits":
            self.put(i, door="runs")
        if handle.event == "drain" and handle.drain == "waits":
            self.put(i, drain="runs")

    def hand_over(self, i: int) -> None:
        """The successor takes the handle's place."""
        assert self.next is not None
        successor, scope = self.next
        if scope != self.handle(i).scope:
            self.unregister(i)
        self.nodes.append(successor)
        self.register(scope, len(self.nodes) - 1, instead_of=i)
        self.put(i, leftover=())

    def into_capsule(self, i: int) -> None:
        """The capsule takes the handle's place."""
        handle = self.handle(i)
        ended, shut = handle.life.receive is Receive.EOF, handle.life.send is Send.SHUT
        self.nodes.append(Capsule(handle.scope, handle.leftover, ended, shut))
        self.register(handle.scope, len(self.nodes) - 1, instead_of=i)
        self.put(i, leftover=())

    def put_back(self, i: int) -> None:
        """All that the handshake received is leftover again."""
        wire = self._wire(i)
        self.put(i, leftover=wire.consumed + wire.unread)

    def keep_rest(self, i: int) -> None:
        """What the handshake left unread is leftover again."""
        self.put(i, leftover=self._wire(i).unread)

    def _wire(self, i: int) -> Wire:
        wire = self.handle(i).wire
        assert wire is not None
        return wire

    # --- what a handle does in more than one event ------------------------------------------------------------------

    def operation_failed(self, i: int, failure: Event, ended: Event) -> None:
        """An operation failed with the connection: that counts before the operation's end."""
        self.poison = True
        self.take(i, failure)
        self.take(i, ended)

    def eof_sent(self, i: int) -> None:
        """`send_eof` has given EOF to the operating system."""
        self.shut = True
        self.take(i, Event.EOF_SENT)

    def handshake_undone(self, i: int, failure: Event | None) -> None:
        """A handshake failed or was cancelled before it sent a byte."""
        self.take(i, Event.RESTORED)
        if failure is not None:
            self.poison = True
            self.take(i, failure)

    def successor(self, i: int) -> Handle:
        """What the recipe makes of the wire. The layers of this model have a goodbye to say, as TLS has."""
        wire = self._wire(i)
        life = state_of(receive=Receive.EOF if wire.ended else Receive.IDLE)
        return Handle(life, self.handle(i).scope, wire.unread, parting=True)

    def twin(self, i: int, scope: int) -> Handle:
        """What a transfer makes of the handle."""
        handle = self.handle(i)
        life = state_of(receive=handle.life.receive, send=handle.life.send)
        return Handle(life, scope, handle.leftover, parting=handle.parting)

    def close_capsule(self, i: int) -> None:
        """Nobody has adopted it: it is closed."""
        capsule = self.nodes[i]
        assert isinstance(capsule, Capsule)
        if capsule.live:
            self.closes += 1
            self.kernel = ()
            self.unregister(i)
            self.nodes[i] = capsule._replace(live=False, leftover=())

    # --- leaving -----------------------------------------------------------------------------------------------------

    def drain_members(self, scope: int) -> None:
        """One round of `leaving.leave`: start the drains, or let go when nothing has to wait any more."""
        self.scopes[scope] = "leaving"
        owned = [i for i in reversed(self.members[scope]) if isinstance(self.nodes[i], Handle)]
        for i in owned:
            self.take(i, Event.SCOPE_LEFT)
        waiting = [i for i in owned if self.handle(i).must_wait]
        for i in waiting:
            if not self.handle(i).drain:
                self.put(i, drain="runs", by_scope=True)
        if not waiting:
            self.let_go(scope, Event.SCOPE_DEADLINE)

    def let_go(self, scope: int, event: Event) -> None:
        """The end of `leaving.leave`: what has drained is released, the rest is closed by force."""
        for i, node in enumerate(self.nodes):
            if isinstance(node, Handle) and node.scope == scope and node.by_scope:
                self.put(i, drain="", by_scope=False)
        for i in reversed(tuple(self.members[scope])):
            node = self.nodes[i]
            if isinstance(node, Capsule):
                self.close_capsule(i)
                continue
            if event is Event.SCOPE_DEADLINE and node.drained:
                self.take(i, Event.DRAINED)
            self.take(i, event)
        self.scopes[scope] = "closed"


CARRY_OUT: dict[Effect, Callable[[Step, int], None]] = {
    Effect.TO_CAPSULE: lambda step, i: step.into_capsule(i),
    Effect.TO_SUCCESSOR: lambda step, i: step.hand_over(i),
    Effect.TO_SCOPE: lambda step, i: step.hand_over(i),
    Effect.RELEASE: lambda step, i: step.release(i),
    Effect.INTERRUPT: lambda step, i: step.interrupt(i),
    Effect.WAKE_READER: lambda step, i: step.wake_reader(i),
    Effect.WAKE_WAITER: lambda step, i: step.wake_waiter(i),
    Effect.PUT_BACK: lambda step, i: step.put_back(i),
    Effect.KEEP_REST: lambda step, i: step.keep_rest(i),
    Effect.DRAIN: lambda step, i: step.wake_waiter(i),
}
