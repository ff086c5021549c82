"""The timeline: what it notes, in which order, and what it does not hold on to."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
import trio.testing

import trionet
from trionet import Phase, Reason
from trionet.inspect import Entry, Timeline, lives


def _pair(scope: trionet.Scope) -> tuple[trionet.Connection, trio.abc.Stream]:
    ours, theirs = trio.testing.memory_stream_pair()
    return scope.adopt(ours), theirs


async def test_notes_the_whole_life_of_a_handle(autojump_clock: trio.testing.MockClock) -> None:
    # Given a scope that is observed
    timeline = Timeline()
    async with trionet.open_scope(observer=timeline) as scope:
        await trio.sleep(3)
        # When a connection is opened, and closed two seconds later
        conn, _peer = _pair(scope)
        await trio.sleep(2)
        await conn.aclose()
    # Then times count from its opening, and the reason stands at the end
    assert timeline.entries[0] == Entry(0.0, "", "Connection #1", None, Phase.OPEN)
    assert [(entry.before, entry.after) for entry in timeline.entries] == [
        (None, Phase.OPEN),
        (Phase.OPEN, Phase.DRAINING),
        (Phase.DRAINING, Phase.CLOSED),
    ]
    last = timeline.entries[-1]
    assert (last.time, last.reason, last.successor) == (2.0, Reason.LOCAL, None)
    assert (timeline.opened, timeline.moved, timeline.closed, timeline.open) == (1, 0, 1, 0)


async def test_a_transfer_names_the_successor_on_the_other_side() -> None:
    timeline = Timeline()
    async with (
        trionet.open_scope(observer=timeline.side("left")) as left,
        trionet.open_scope(observer=timeline.side("right")) as right,
    ):
        conn, _peer = _pair(right)
        conn, _peer = _pair(left)
        conn.transfer(right)
    seen = [(e.side, e.handle, e.after, e.successor) for e in timeline.entries]
    # The successor is there in the same step, before the old handle is told to be gone: never an orphan between them.
    assert seen[2:4] == [
        ("right", "Connection #2", Phase.OPEN, None),
        ("left", "Connection #1", Phase.MOVED, "Connection #2"),
    ]
    assert timeline.open == 0


async def test_a_successor_that_was_not_seen_goes_by_its_kind() -> None:
    timeline = Timeline()
    async with trionet.open_scope() as elsewhere, trionet.open_scope(observer=timeline) as scope:
        moved, _peer = _pair(scope)
        moved.transfer(elsewhere)
        detached, _peer = _pair(scope)
        detached.detach()
    assert [entry.successor for entry in timeline.entries if entry.after is Phase.MOVED] == ["Connection", "Detached"]


async def test_is_bounded_and_counts_what_it_dropped() -> None:
    timeline = Timeline(limit=4)
    async with trionet.open_scope(observer=timeline) as scope:
        for _ in range(5):
            conn, _peer = _pair(scope)
            conn.abort()
    assert (len(timeline.entries), timeline.recorded, timeline.dropped) == (4, 10, 6)
    assert [entry.handle for entry in timeline.since(8)] == ["Connection #5", "Connection #5"]
    assert timeline.since(0) == timeline.entries
    assert (timeline.opened, timeline.closed) == (5, 5)
    assert str(timeline).startswith("(6 earlier entries were dropped)\n")


@pytest.mark.parametrize("limit", [0, -1])
def test_needs_room_for_an_entry(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Timeline(limit=limit)


async def test_keeps_no_handle_alive() -> None:
    timeline = Timeline()
    async with trionet.open_scope(observer=timeline) as scope:
        conn, _peer = _pair(scope)
        conn.abort()
        gone = weakref.ref(conn)
        del conn
        gc.collect()
        assert gone() is None
    assert timeline.entries


async def test_can_be_read_as_text() -> None:
    timeline = Timeline()
    async with (
        trionet.open_scope(observer=timeline.side("client")) as scope,
        trionet.open_scope(observer=timeline.side("client")) as other,
    ):
        conn, _peer = _pair(scope)
        conn.transfer(other).abort()
        assert repr(timeline) == "<Timeline: 4 entries, 0 handles open>"
    lines = [line.split("ms", 1)[1].split() for line in str(timeline).splitlines()]
    assert lines == [
        ["client", "Connection", "#1", "opened"],
        ["client", "Connection", "#2", "opened"],
        ["client", "Connection", "#1", "open", "->", "moved", "(transferred)", "to", "Connection", "#2"],
        ["client", "Connection", "#2", "open", "->", "closed", "(aborted)"],
    ]


async def test_lives_are_one_line_a_handle(autojump_clock: trio.testing.MockClock) -> None:
    timeline = Timeline()
    async with trionet.open_scope(observer=timeline) as scope:
        first, _peer = _pair(scope)
        second, _peer = _pair(scope)
        await trio.sleep(1)
        first.abort()
        one, two = lives(timeline.entries)
        assert (one.handle, one.phases, one.ended, one.reason) == (
            "Connection #1",
            (Phase.OPEN, Phase.CLOSED),
            True,
            Reason.ABORTED,
        )
        assert (one.opened, one.changed) == (0.0, 1.0)
        assert (two.handle, two.phases, two.ended, two.reason) == ("Connection #2", (Phase.OPEN,), False, None)
        assert second.phase is Phase.OPEN


async def test_wait_quiet_waits_for_the_last_handle(autojump_clock: trio.testing.MockClock) -> None:
    timeline = Timeline()
    await timeline.wait_quiet()
    async with trionet.open_scope(observer=timeline) as scope:
        # Given one waiting task, and a handle that is still open
        conn, _peer = _pair(scope)
        quiet_at: list[float] = []

        async def wait() -> None:
            await timeline.wait_quiet()
            quiet_at.append(trio.current_time())

        began = trio.current_time()
        scope.start_soon(wait)
        scope.start_soon(wait)
        # When it moves on, and its successor ends a second later
        await trio.testing.wait_all_tasks_blocked()
        successor = conn.transfer(scope)
        await trio.sleep(1)
        assert not quiet_at
        successor.abort()
    # Then both are told, once nothing is open
    assert [when - began for when in quiet_at] == [1.0, 1.0]


def test_what_happened_stands_apart_from_a_name_however_long_it_is() -> None:
    for handle in ("TLS #1", "HTTPClientConnection #4", "HTTPServerConnection #12345"):
        line = str(Entry(0.0, "a long side", handle, None, Phase.OPEN))
        before, _, after = line.partition(handle)
        assert before.endswith("a long side ")
        assert after.lstrip(" ") == "opened" != after
