"""Cancel at the k-th checkpoint, for every k, through each verb: the old state or the new one, never anything between.

Afterwards no endpoint may be open without an owner, no descriptor and no task may be left, and no byte may be lost.
"""

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase

from ..helpers.pairs import PAIRS, open_descriptors
from ..helpers.recipes import Greeting


class CancelAt(trio.abc.Instrument):
    """Cancels a scope just before the k-th time that a task is about to run on after a checkpoint."""

    def __init__(self, k):
        self.left = k
        self.task = None
        self.scope = trio.CancelScope()

    def task_scheduled(self, task):
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def at_every_checkpoint(scenario):
    """Run ``await scenario(cancel_scope)`` once for every checkpoint it has, cancelled there: how many those were."""
    k = 0
    while True:
        k += 1
        cancelling = CancelAt(k)
        before = open_descriptors()
        cancelling.task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(cancelling)
        try:
            await scenario(cancelling)
        finally:
            trio.lowlevel.remove_instrument(cancelling)
        assert open_descriptors() == before
        if cancelling.left > 0:
            return k - 1


def owned_once(scope, *handles):
    """Every handle is either ended, or alive and owned by the scope; nothing else is owned."""
    alive = {handle for handle in handles if not handle.phase.terminal}
    capsules = {handle for handle in scope.handles if isinstance(handle, trionet.Detached)}
    assert set(scope.handles) - capsules == alive
    return capsules


@pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("verb", ["receive", "fill", "send", "vectored", "eof", "detach", "upgrade", "undone", "close"])
async def test_cancelled_at_every_checkpoint(make_pair, verb):
    outcomes = set()

    async def scenario(cancelling):
        async with trionet.open_scope() as scope:
            one, other = make_pair(scope)
            successor = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(help_along, other, verb)
                with cancelling.scope:
                    match verb:
                        case "receive":
                            assert await one.receive_exactly(2) == b"AB"
                        case "fill":
                            assert await one.receive_until(b"D", max_bytes=9) == b"ABCD"
                        case "send":
                            await one.send_all(b"abc")
                        case "vectored":
                            await one.send_vectored([b"a", b"bc"])
                        case "eof":
                            await one.send_eof()
                        case "detach":
                            successor = scope.adopt(await one.detach_when_idle())
                        case "upgrade":
                            successor = await one.upgrade(Greeting())
                        case "undone":
                            successor = await one.upgrade(Greeting(say=b""))
                        case "close":
                            await one.aclose()
                nursery.cancel_scope.cancel()
            capsules = owned_once(scope, one, other, *([successor] if successor else []))
            # A commit cannot be cancelled any more, and its result cannot get lost: it is the end's successor.
            heir = one.end.successor if one.end else None
            assert capsules <= {heir}
            outcomes.add(one.end.reason if one.end else one.phase)
            if verb in ("receive", "fill", "undone") and one.phase is Phase.OPEN:
                everything = {"receive": b"ABCD", "fill": b"ABCD", "undone": b"HELLO\nrest"}[verb]
                rest = bytes(one._leftover)
                assert everything.endswith(rest) or everything.startswith(rest)
            if one.phase is Phase.OPEN and verb in ("send", "vectored") and make_pair is not PAIRS["memory"]:
                await one.send_all(b"")  # nothing was torn
            if verb == "close":
                assert one.phase is Phase.CLOSED

    assert await at_every_checkpoint(scenario) >= 1
    assert (
        outcomes
        <= {
            "receive": {Phase.OPEN},
            "fill": {Phase.OPEN},
            "send": {Phase.OPEN},
            "vectored": {Phase.OPEN},
            "eof": {Phase.OPEN},
            "detach": {Phase.OPEN, trionet.Reason.DETACHED},
            "upgrade": {Phase.OPEN, trionet.Reason.UPGRADED, trionet.Reason.UPGRADE_FAILED},
            "undone": {Phase.OPEN, trionet.Reason.UPGRADED},
            "close": {trionet.Reason.LOCAL, trionet.Reason.ABORTED},
        }[verb]
    )
    if verb in ("detach", "upgrade", "undone"):
        assert len(outcomes) >= 2, f"both ends must have been seen, not only {outcomes}"


async def help_along(other, verb):
    """What the peer does meanwhile, in several segments."""
    if verb in ("receive", "fill"):
        for part in (b"A", b"B", b"CD"):
            await wait_all_tasks_blocked()
            await other.send_all(part)
    elif verb in ("upgrade", "undone"):
        for part in (b"HEL", b"LO", b"\nrest"):
            await wait_all_tasks_blocked()
            await other.send_all(part)
    else:
        await other.receive_some()


async def test_a_scope_cancelled_at_every_checkpoint_of_its_life():
    async def scenario(cancelling):
        with cancelling.scope:
            async with trionet.open_scope() as scope:
                one, other = PAIRS["tcp"](scope)
                await one.send_all(b"HELLO\n")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(one.upgrade, Greeting(say=b""))
                    await other.upgrade(Greeting())
                one, other = one.end.successor, other.end.successor
                await one.send_all(b"x")
                await other.receive_exactly(1)
                capsule = await other.detach_when_idle()
                scope.adopt(capsule)
        assert scope.handles == ()

    assert await at_every_checkpoint(scenario) > 5


async def test_open_tcp_cancelled_at_every_checkpoint(nursery):
    async def handler(connection):
        await connection.receive_some()

    server = await nursery.start(trionet.serve_tcp, handler, 0)

    async def scenario(cancelling):
        with cancelling.scope:
            async with trionet.open_tcp("127.0.0.1", server.port) as connection:
                await connection.send_all(b"x")
                assert await connection.receive_some() == b""
        await wait_all_tasks_blocked()
        assert server.statistics().open == 0

    assert await at_every_checkpoint(scenario) > 3
    nursery.cancel_scope.cancel()


async def test_a_server_cancelled_at_every_checkpoint_of_a_connection():
    async def scenario(cancelling):
        async def handler(connection):
            cancelling.task = trio.lowlevel.current_task()
            await connection.send_all(b"hello")
            upgraded = await connection.upgrade(Greeting())
            await upgraded.send_all(b"x")

        with cancelling.scope:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(trionet.serve_tcp, handler, 0)
                async with trionet.open_tcp("127.0.0.1", server.port) as client:
                    await client.receive_exactly(5)
                    await client.upgrade(Greeting())
                    assert await client.end.successor.receive_exactly(1) == b"x"
                await server.drain(1)

    assert await at_every_checkpoint(scenario) > 3
