"""The same commands on a real connection and on the pure machine: after every step, both are in the same state.

Hypothesis makes up the sequences: operations that start, end and are cancelled, a peer that sends, ends and resets,
leases, detach, transfer, upgrades with every outcome, closes. It runs over memory streams and over real sockets, and
counts bytes across the whole chain of handles.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import trionet
from trionet.handle import guards
from trionet.ownership import Event, Ownership, Phase, Reason, Receive, Refusal, Refuse, Send

from ..helpers.guest import Guest
from ..helpers.pairs import open_descriptors, tcp_sockets

ERRORS = {
    Refusal.BUSY: trionet.HandleBusyError,
    Refusal.MOVED: trionet.HandleMovedError,
    Refusal.CLOSED: trionet.HandleClosedError,
    Refusal.BROKEN: trionet.HandleBrokenError,
    Refusal.SHUT: trionet.HandleClosedError,
}
BIG = 8_000_000


class Job:
    """One task of a user, and how it came out."""

    def __init__(self, machine, function, *args):
        self.result = None
        self.scope = trio.CancelScope()
        machine.guest.nursery.start_soon(self._run, function, *args)

    async def _run(self, function, *args):
        with self.scope:
            try:
                self.result = (True, await function(*args))
            except trionet.TrionetError as exc:
                self.result = (False, exc)
        if self.scope.cancelled_caught:
            self.result = (None, None)


class Handshake:
    """A recipe that does what the test tells it, through a channel."""

    def __init__(self):
        self.orders, self.todo = trio.open_memory_channel(10)
        self.consumed = b""

    def prepare(self, source):
        pass

    async def handshake(self, wire):
        self.wire = wire
        async for order in self.todo:
            match order:
                case "consume":
                    self.consumed += await wire.receive_some(1)
                case "send":
                    await wire.send_all(b"h")
                case "accept":
                    return
                case "refuse":
                    raise trionet.UpgradeRefusedError("no")
                case "fail":
                    raise trionet.UpgradeFailedError("broken")

    def commit(self):
        return trionet.Connection(self.wire.detach())


class Ownerships(RuleBasedStateMachine):
    """A connection, the machine that says what it must do, and a peer."""

    kind = "memory"

    def __init__(self):
        super().__init__()
        self.before = open_descriptors()
        self.guest = Guest()
        self.model = Ownership()
        self.old = []
        self.sent_by_peer = b""
        self.delivered = b""
        self.peer_ended = False
        self.clogged = False
        self.reading = self.writing = self.waiting = self.upgrading = self.lease = self.recipe = None
        self.closing = []
        self.guest.call(self.open)

    async def open(self):
        self.stack = AsyncExitStack()
        self.scopes = [await self.stack.enter_async_context(trionet.open_scope(name=name)) for name in "AB"]
        if self.kind == "memory":
            stream, self.peer = trio.testing.memory_stream_pair()
        else:
            pair = tcp_sockets() if self.kind == "tcp" else socket.socketpair()
            stream, far = pair
            far.setblocking(False)
            self.peer = trio.SocketStream(trio.socket.from_stdlib_socket(far))
        self.handle = self.scopes[0].adopt(stream)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def settle(self):
        """Let all tasks come to rest; then what ended meanwhile ends in the model too."""
        self.guest.call(trio.lowlevel.checkpoint)

    def expect(self, event, job_or_error):
        """The model takes `event`: the real handle must have answered with the same refusal, or with none."""
        answer = self.model.apply(event)
        if isinstance(answer, Refuse):
            assert type(job_or_error) is ERRORS[answer.kind], (event, answer, job_or_error)
            return False
        assert not isinstance(job_or_error, Exception), (event, answer, job_or_error)
        return True

    def attempt(self, function, *args):
        """Call a step: its result, or the error it raised."""

        async def run():
            try:
                return function(*args)
            except trionet.TrionetError as exc:
                return exc

        return self.guest.call(run)

    def start(self, function, *args):
        """Start a task: the job; its error if it was refused at once."""

        async def begin():
            return Job(self, function, *args)

        return self.guest.call(begin)

    def undelivered(self):
        return self.sent_by_peer[len(self.delivered) :]

    def reader_served(self):
        """The pending read ends if there is anything for it: bytes, the peer's end, or the close of the handle."""
        job = self.reading
        if job is None or job.result is None:
            return
        self.reading = None
        good, value = job.result
        if good and not value:
            assert self.peer_ended
            self.model.apply(Event.PEER_EOF)
        else:
            self.model.apply(Event.RECEIVE_ENDED)
            assert good is None or good or isinstance(value, trionet.HandleClosedError)
            self.delivered += value if good else b""
        assert self.sent_by_peer.startswith(self.delivered)

    def writer_served(self):
        job = self.writing
        if job is None or job.result is None:
            return
        self.writing = None
        good, value = job.result
        self.model.apply(Event.SEND_TORN if good is None else Event.SEND_ENDED)
        assert good is None or good or isinstance(value, trionet.HandleClosedError)

    def others_served(self):
        if self.waiting is not None and self.waiting.result is not None:
            job, self.waiting = self.waiting, None
            good, value = job.result
            if good is True:
                assert self.model.apply(Event.DETACH_CLAIMED)
                self.adopt(value)
            elif good is None:
                self.model.apply(Event.RESERVE_CANCELLED)
            else:
                assert isinstance(value, (trionet.HandleClosedError, trionet.HandleBrokenError))
        if self.model.state.phase is Phase.DRAINING and not self.model.state.leases and self.model.state.quiet:
            self.model.apply(Event.DRAINED)

    def look(self):
        """After each command: take note of what has ended, until nothing more does."""
        self.settle()
        for _ in range(3):
            self.reader_served()
            self.writer_served()
            self.others_served()
        if self.model.state.phase is Phase.CLOSED:
            self.settle()
            self.reading = self.writing = self.waiting = self.lease = None

    def succeeded(self, successor):
        """The connection lives on in `successor`; the old handle must say so, and is inert from now on."""
        self.old.append(self.handle)
        assert self.handle.end.successor is not None
        self.handle = successor
        self.model = self.model.renewed()
        self.lease = None

    def adopt(self, capsule):
        assert capsule.leftover == self.undelivered()[: len(capsule.leftover)]
        self.succeeded(self.attempt(self.handle.scope.adopt, capsule))

    alive = precondition(lambda self: not self.model.state.phase.terminal)

    # --- the peer ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.peer_ended)
    @rule(data=st.binary(min_size=1, max_size=3))
    def peer_sends(self, data):
        async def send():
            try:
                await self.peer.send_all(data)
            except trio.BrokenResourceError:
                assert self.model.state.phase is Phase.CLOSED
            else:
                self.sent_by_peer += data

        self.guest.call(send)
        self.look()

    @precondition(lambda self: not self.peer_ended and not self.model.state.phase.terminal)
    @rule()
    def peer_ends(self):
        self.guest.call(self.peer.send_eof)
        self.peer_ended = True
        self.look()

    @precondition(lambda self: self.clogged)
    @rule()
    def peer_reads_everything(self):
        async def read():
            with trio.move_on_after(5):
                while self.writing is not None and self.writing.result is None:
                    await self.peer.receive_some(1 << 20)

        self.guest.call(read)
        self.clogged = False
        self.look()

    # --- operations --------------------------------------------------------------------------------------------------

    @alive
    @rule()
    def receive(self):
        job = self.start(self.handle.receive_some)
        refused = job.result[1] if job.result and job.result[0] is False else None
        had_eof = self.model.state.receive is Receive.EOF
        if self.expect(Event.RECEIVE, refused) and not had_eof:
            self.reading = job
        self.look()

    @precondition(lambda self: self.reading is not None)
    @rule()
    def cancel_receive(self):
        self.attempt(self.reading.scope.cancel)
        self.look()

    @alive
    @rule()
    def peek(self):
        """A look ahead leaves its bytes as leftover, whatever becomes of the handle."""
        if self.undelivered() and self.model.decide(Event.RECEIVE) and self.model.state.phase is Phase.OPEN:
            if isinstance(self.model.decide(Event.RECEIVE), Refuse):
                return
            job = self.start(self.handle.peek, 1)
            assert job.result == (True, self.undelivered()[:1])

    @alive
    @rule(big=st.booleans())
    def send(self, big):
        blocks = big and self.kind != "memory" and not isinstance(self.model.decide(Event.SEND), Refuse)
        job = self.start(self.handle.send_all, b"s" * (BIG if blocks else 1))
        refused = job.result[1] if job.result and job.result[0] is False else None
        if self.expect(Event.SEND, refused):
            self.writing = job
            self.clogged = job.result is None
        self.look()

    @precondition(lambda self: self.writing is not None)
    @rule()
    def cancel_send(self):
        self.attempt(self.writing.scope.cancel)
        self.clogged = False
        self.look()

    @alive
    @rule()
    def send_eof(self):
        job = self.start(self.handle.send_eof)
        self.expect(Event.SEND_EOF, job.result[1])
        self.look()

    @alive
    @rule()
    def lease_granted(self):
        lease = self.attempt(guards.grant_lease, self.handle, "a lease")
        if self.expect(Event.LEASE, lease):
            if self.lease is None:
                self.lease = []
            self.lease.append(lease)
        self.look()

    @precondition(lambda self: self.lease)
    @rule()
    def lease_ends(self):
        self.attempt(self.lease.pop().end)
        self.model.apply(Event.LEASE_ENDED)
        self.look()

    # --- changes of the owner ----------------------------------------------------------------------------------------

    @alive
    @rule()
    def detach(self):
        capsule = self.attempt(self.handle.detach)
        if self.expect(Event.DETACH, capsule):
            self.adopt(capsule)
        self.look()

    @alive
    @rule()
    def detach_when_idle(self):
        job = self.start(self.handle.detach_when_idle)
        refused = job.result[1] if job.result and job.result[0] is False else None
        if self.expect(Event.RESERVE, refused):
            self.waiting = job
        self.look()

    @precondition(lambda self: self.waiting is not None)
    @rule()
    def cancel_detach(self):
        self.attempt(self.waiting.scope.cancel)
        self.look()

    @alive
    @rule()
    def transfer(self):
        target = self.scopes[1] if self.handle.scope is self.scopes[0] else self.scopes[0]
        successor = self.attempt(self.handle.transfer, target)
        if self.expect(Event.TRANSFER, successor):
            self.succeeded(successor)
            assert successor.scope is target
        self.look()

    @alive
    @rule()
    def upgrade(self):
        if self.upgrading is None:
            self.recipe = Handshake()
        job = self.start(self.handle.upgrade, self.recipe)
        refused = job.result[1] if job.result and job.result[0] is False else None
        if self.expect(Event.UPGRADE, refused):
            self.upgrading = job
        self.look()

    @precondition(lambda self: self.upgrading is not None and self.model.state.phase is Phase.CLAIMED)
    @rule(orders=st.lists(st.sampled_from(["consume", "send"]), max_size=2),
          end=st.sampled_from(["accept", "refuse", "fail", "cancel"]))  # fmt: skip
    def handshake(self, orders, end):
        available = len(self.undelivered())
        orders = [order for order in orders if order == "send" or available > 0]
        sent = "send" in orders
        for order in orders:
            if order == "send" or len(self.recipe.consumed) < available:
                self.attempt(self.recipe.orders.send_nowait, order)
                self.settle()
        if end == "cancel":
            self.attempt(self.upgrading.scope.cancel)
        else:
            self.attempt(self.recipe.orders.send_nowait, end)
        self.settle()
        consumed = self.recipe.consumed
        assert self.undelivered().startswith(consumed)
        job, self.upgrading = self.upgrading, None
        if end == "accept":
            self.delivered += consumed
            assert job.result[0] is True
            self.model.apply(Event.ACCEPTED)
            self.succeeded(job.result[1])
        elif end == "refuse":
            self.delivered += consumed
            assert isinstance(job.result[1], trionet.UpgradeRefusedError)
            self.model.apply(Event.REFUSED)
        else:
            assert job.result[0] is (None if end == "cancel" else False)
            self.model.apply(Event.FAILED if sent else Event.RESTORED)
        self.look()

    # --- the end -----------------------------------------------------------------------------------------------------

    @alive
    @rule()
    def aclose(self):
        upgrading, self.upgrading = self.upgrading, None
        self.closing.append(self.start(self.handle.aclose))
        self.model.apply(Event.ACLOSE)
        self.look()
        if upgrading is not None:
            assert isinstance(upgrading.result[1], trionet.HandleClosedError)

    @alive
    @rule()
    def abort(self):
        upgrading, self.upgrading = self.upgrading, None
        victims = [job for job in (self.reading, self.writing, self.waiting, upgrading) if job is not None]
        self.attempt(self.handle.abort)
        self.model.apply(Event.ABORT)
        self.settle()
        for job in victims:
            assert job.result[0] is False
            assert isinstance(job.result[1], trionet.HandleClosedError)
        self.look()

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def old_handles_are_inert(self, data):
        old = data.draw(st.sampled_from(self.old))
        for use in (old.receive_some, old.send_eof, old.detach_when_idle):
            assert isinstance(self.start(use).result[1], trionet.HandleMovedError)
        assert isinstance(self.attempt(old.detach), trionet.HandleMovedError)
        self.attempt(old.abort)
        assert self.start(old.aclose).result[0] is True
        assert old.phase is Phase.MOVED

    @rule()
    def questions_are_always_answered(self):
        for handle in (self.handle, *self.old):
            assert repr(handle)
            assert handle.statistics().bytes_received >= 0
            assert (handle.end is None) == (not handle.phase.terminal)
            assert handle.scope in self.scopes

    # --- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def model_and_handle_agree(self):
        real, model = self.handle._life.state, self.model.state
        if model.phase is Phase.CLOSED:
            assert (real.phase, real.reason) == (model.phase, model.reason)
        else:
            assert real is model

    @invariant()
    def there_is_one_owner(self):
        owned = [handle for scope in self.scopes for handle in scope.handles]
        assert owned == ([] if self.handle.phase is Phase.CLOSED else [self.handle])

    def teardown(self):
        async def leave():
            self.guest.nursery.cancel_scope.deadline = trio.current_time() + 30
            self.handle.abort()
            await self.stack.aclose()
            await trio.aclose_forcefully(self.peer)

        self.guest.call(leave)
        assert self.handle.end.reason is (self.model.state.reason or Reason.ABORTED)
        assert Send.BROKEN is not self.model.state.send or self.handle.phase is Phase.CLOSED
        self.guest.close()
        assert open_descriptors() == self.before


def check(kind, examples, steps):
    machine = type(f"Ownerships_{kind}", (Ownerships,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("kind", ["memory", "unix", "tcp"])
def test_handles_do_what_the_machine_says(kind):
    check(kind, 30, 30)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["memory", "unix", "tcp"])
def test_handles_do_what_the_machine_says_for_long(kind):
    check(kind, 400, 60)
