"""The lean transport: when a receive tries first and when it waits, and that both bring the same."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trionet.transport import socket as module
from trionet.transport.socket import MISS, MOST, PROBE, SocketTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ALWAYS, NEVER = 1, 10**9
"""Of so many receives one tries first also without credit."""


@pytest.fixture
async def pair() -> AsyncIterator[tuple[SocketTransport, socket.socket]]:
    """A transport, and the plain socket at its other end."""
    one, other = socket.socketpair()
    other.setblocking(False)
    transport = SocketTransport(one)
    yield transport, other
    transport.close()
    other.close()


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often receives have tried first, and how often they have waited."""
    counted: Counter[str] = Counter()

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any) -> None:
            counted[name] += 1
            await real(*args)

        return call

    monkeypatch.setattr(module, "checkpoint", counting("tries", trio.lowlevel.checkpoint))
    monkeypatch.setattr(module, "wait_readable", counting("waits", trio.lowlevel.wait_readable))
    return counted


async def under_load(transport: SocketTransport, peer: socket.socket, times: int) -> None:
    """The next message is there each time."""
    for _ in range(times):
        peer.send(b"x")
        assert await transport.receive_some(10) == b"x"


async def in_dialogue(transport: SocketTransport, peer: socket.socket, times: int) -> None:
    """The peer speaks when it sees that the other side waits."""

    async def speak() -> None:
        for _ in range(times):
            await wait_all_tasks_blocked()
            peer.send(b"x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        for _ in range(times):
            assert await transport.receive_some(10) == b"x"


async def test_what_a_client_says_at_once_is_there_without_waiting(pair: Any, counts: Counter[str]) -> None:
    await under_load(*pair, 1)
    assert counts == {"tries": 1}


async def test_under_load_every_receive_tries_first(pair: Any, counts: Counter[str]) -> None:
    await under_load(*pair, 3 * MOST)
    assert counts == {"tries": 3 * MOST}


async def test_in_a_dialogue_a_receive_tries_now_and_then_only(pair: Any, counts: Counter[str]) -> None:
    """The first one, which spends the credit of a new transport, and then one in so many."""
    await in_dialogue(*pair, 3 * PROBE)
    assert counts == {"tries": 1 + 3, "waits": 3 * PROBE}


async def test_a_busy_time_is_forgotten_after_so_many_misses(pair: Any, counts: Counter[str]) -> None:
    await under_load(*pair, PROBE)
    counts.clear()
    await in_dialogue(*pair, PROBE - 1)
    assert counts == {"tries": MOST // MISS, "waits": PROBE - 1}


async def test_one_hit_in_a_try_now_and_then_fills_the_credit(pair: Any, counts: Counter[str]) -> None:
    """A dialogue becomes a busy time: the next try finds out, and from then on every receive tries first."""
    await in_dialogue(*pair, PROBE - 1)
    counts.clear()
    await under_load(*pair, PROBE)
    assert counts == {"tries": PROBE}


async def test_a_try_is_a_checkpoint_and_loses_nothing_when_it_is_cancelled(pair: Any) -> None:
    transport, peer = pair
    peer.send(b"kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.receive_some(10)
    assert scope.cancelled_caught
    with trio.testing.assert_checkpoints():
        assert await transport.receive_some(10) == b"kept"


# --- both ways bring the same ------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 20)),
        st.tuples(st.sampled_from(["receive", "cancelled receive", "receive, then send"]), st.integers(1, 20)),
    ),
    max_size=12,
)


@given(steps=STEPS, last=st.sampled_from(["eof", "closed here"]))
async def test_trying_first_and_waiting_bring_the_same(steps: list[tuple[str, int]], last: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PROBE", ALWAYS)
        tried = await conversation(steps, last)
        patch.setattr(module, "PROBE", NEVER)
        patch.setattr(module, "HIT", 0)
        patch.setattr(module, "MOST", 0)
        assert await conversation(steps, last) == tried


async def conversation(steps: list[tuple[str, int]], last: str) -> list[bytes | str]:
    """What a reader gets of a peer that speaks before and while it reads, and then ends the connection or not."""
    one, peer = socket.socketpair()
    transport, waiting = SocketTransport(one), 0
    got: list[bytes | str] = []

    async def receive(size: int) -> None:
        nonlocal waiting
        got.append(data := await transport.receive_some(size))
        waiting -= len(data)

    with peer:
        await in_dialogue(transport, peer, 1)  # spends the credit of a new transport
        for what, size in steps:
            if what == "send":
                waiting += peer.send(bytes(range(size)))
            elif what == "cancelled receive":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await receive(size)
            elif what == "receive, then send" or not waiting:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(receive, size)
                    await wait_all_tasks_blocked()
                    waiting += peer.send(bytes(range(size)))
            else:
                await receive(size)
        got.append(await ending(transport, peer, last, waiting))
    transport.close()
    return got


async def ending(transport: SocketTransport, peer: socket.socket, last: str, waiting: int) -> bytes | str:
    """The rest, and what comes behind it."""
    rest = b""
    if last == "closed here":
        transport.close()
    else:
        peer.close()
    try:
        while data := await transport.receive_some(7):
            rest += data
    except trio.ClosedResourceError as exc:
        return str(exc)
    assert len(rest) == waiting
    return rest
