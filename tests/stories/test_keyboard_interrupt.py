"""Ctrl-C at each bytecode of a step: it is held back until the step is over, so nothing is ever between two owners.

The interrupt is a real SIGINT. Trio's own handler decides, as it would outside of tests, whether the code it hit is
protected.
"""

import contextlib
import signal
import socket
import sys

import pytest
import trio

import trionet
from trionet import Phase
from trionet.custody import leaving
from trionet.handle import detaching

from ..helpers.pairs import open_descriptors, tcp_sockets
from ..helpers.recipes import Greeting

pytestmark = pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0), reason="Python 3.13.0 does not report every bytecode to sys.settrace"
)

STEPS = ("detach", "adopt", "transfer", "abort", "adopt_socket", "upgrade", "aclose", "leave")


class InterruptAt:
    """Raises SIGINT just before the k-th bytecode executed in trionet's own code."""

    def __init__(self, k):
        self.left = k
        self.where = ""

    def __enter__(self):
        self.previous = sys.gettrace()  # that of a coverage run, perhaps
        sys.settrace(self.call)
        return self

    def __exit__(self, *exc_info):
        sys.settrace(self.previous)

    def call(self, frame, event, arg):
        if not frame.f_globals.get("__name__", "").startswith("trionet"):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.opcode

    def opcode(self, frame, event, arg):
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self.opcode


async def scenario(step, interrupt):
    """One step, interrupted; afterwards exactly one owner has the endpoint, and its scope can close it."""
    sock, peer = tcp_sockets()
    peer.setblocking(False)
    try:
        async with trionet.open_scope() as target, trionet.open_scope() as scope:
            handle = scope.adopt(sock) if step != "adopt_socket" else None
            capsule = handle.detach() if step == "adopt" else None
            if step == "upgrade":
                peer.send(b"HELLO\nrest")
                await handle.peek(1)
            try:
                with interrupt:
                    match step:
                        case "detach":
                            handle.detach()
                        case "adopt":
                            scope.adopt(capsule)
                        case "adopt_socket":
                            handle = scope.adopt(sock)
                        case "transfer":
                            handle.transfer(target)
                        case "abort":
                            handle.abort()
                        case "upgrade":
                            await handle.upgrade(Greeting(say=b""))
                        case "aclose":
                            await handle.aclose()
                        case "leave":
                            await leaving.leave(scope._owner)
                await trio.lowlevel.checkpoint()
            finally:
                check(step, scope, target, handle, sock)
    finally:
        peer.close()
        sock.close()


def check(step, scope, target, handle, sock):
    owned = [*scope.handles, *target.handles]
    if step == "adopt_socket" and sock.fileno() >= 0:
        assert not owned  # not begun: the socket is still its owner's
        return
    if handle is not None and handle.phase is Phase.CLOSED:
        assert not owned
        return
    assert len(owned) == 1
    owner = owned[0]
    if isinstance(owner, trionet.Handle):
        assert owner.phase in (Phase.OPEN, Phase.DRAINING)
        assert owner._transport.socket.fileno() >= 0
        assert owner in owner.scope.handles
    if handle is not None and handle is not owner and step != "adopt":
        assert handle.phase is Phase.MOVED
        assert handle.end.successor is owner


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupt_at_every_bytecode_of_a_step(step):
    before = open_descriptors()
    k = 0
    delivered = 0
    while True:
        k += 1
        interrupt = InterruptAt(k)
        try:
            trio.run(scenario, step, interrupt)
        except KeyboardInterrupt:
            delivered += 1
        except BaseExceptionGroup as group:
            matched, rest = group.split(KeyboardInterrupt)
            assert matched
            assert rest is None, f"at {interrupt.where}"
            delivered += 1
        if interrupt.left > 0:
            break
    assert delivered == k - 1, "no interrupt may get lost"
    assert k > 30
    assert open_descriptors() == before


def test_the_method_notices_a_step_without_protection():
    """The same tracer on copies of a step that are not protected hits between the phases: the method can fail."""

    def unprotected(function):
        return type(function)(
            function.__code__.replace(), function.__globals__, function.__name__, function.__defaults__
        )

    detach, take = unprotected(detaching.detach), unprotected(trionet.Handle._take)

    class Unprotected(trionet.Connection):
        _take = take

    torn = []

    async def main(interrupt):
        sock, peer = socket.socketpair()
        with peer:
            async with trionet.open_scope() as scope:
                handle = Unprotected(scope.adopt(sock).detach())
                handle._seat(scope._owner)
                transport = handle._transport
                try:
                    with interrupt:
                        detach(handle)
                finally:
                    if handle.phase is Phase.MOVED and handle.end is None:
                        torn.append(interrupt.where)
                        scope._owner.unregister(handle)
                        transport.close()

    for k in range(1, 200):
        interrupt = InterruptAt(k)
        with contextlib.suppress(KeyboardInterrupt, BaseExceptionGroup):
            trio.run(main, interrupt)
        if interrupt.left > 0:
            break
    assert torn
