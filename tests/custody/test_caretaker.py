"""The chores that are done for all connections together: one that fails does not spoil them for the others."""

import weakref
from typing import ClassVar

import trio
import trio.testing

import trionet
from trionet.custody.caretaker import TICK


class Charge:
    def __init__(self, error=None):
        self.error, self.ticks, self.flushes = error, [], 0

    def tick(self, now):
        self.ticks.append(now)
        if self.error is not None:
            raise self.error

    def flush(self):
        self.flushes += 1


async def test_one_that_fails_is_left_alone_and_the_others_are_not(autojump_clock, caplog):
    async with trionet.open_scope() as scope:
        caretaker = scope._owner.caretaker
        bad, good = Charge(ValueError("of its own")), Charge()
        began = trio.current_time()
        caretaker.watch(bad)
        caretaker.watch(good)
        await trio.sleep(3.5 * TICK)
        caretaker.unwatch(good)
        await trio.sleep(3 * TICK)
    assert [round(at - began, 3) for at in good.ticks] == [TICK, 2 * TICK, 3 * TICK]
    assert len(bad.ticks) == 1
    assert "of its own" in caplog.text


async def test_a_flush_comes_once_and_in_the_next_turn():
    async with trionet.open_scope() as scope:
        charges = [Charge() for _ in range(3)]
        for _ in range(2):  # the second time, the task that flushes waits already
            for charge in charges:
                scope._owner.caretaker.flush_soon(charge)
            assert {charge.flushes for charge in charges} == {charges[0].flushes}
            await trio.testing.wait_all_tasks_blocked()
        assert [charge.flushes for charge in charges] == [2, 2, 2]


class Busy(Charge):
    """Has so many steps more to do at every tick, and writes down who has had a turn."""

    def __init__(self, turns, name, more):
        super().__init__()
        self.turns, self.name, self.more, self.left = turns, name, more, 0

    def tick(self, now):
        super().tick(now)
        self.left = self.more
        return self.go_on

    def go_on(self):
        self.turns.append(self.name)
        self.left -= 1
        if self.name == "fails" and not self.left:
            raise ValueError("of its own")
        return self.left > 0


async def test_those_that_have_more_to_do_take_turns_with_each_other_and_with_all_other_tasks(
    autojump_clock, monkeypatch, caplog
):
    monkeypatch.setattr("trionet.custody.caretaker.SLICE", 0)
    turns = []
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:

        async def other():
            await trio.sleep(TICK)
            while turns.count("b") < 3:
                turns.append("task")
                await trio.lowlevel.checkpoint()

        for charge in (Busy(turns, "a", 2), Busy(turns, "b", 3), Busy(turns, "fails", 2)):
            scope._owner.caretaker.watch(charge)
        nursery.start_soon(other)
    assert [turn for turn in turns if turn != "task"] == ["a", "b", "fails", "a", "b", "fails", "b"]
    assert all("task" in turns[at : at + 3] for at in range(len(turns) - 2))  # Trio shuffles those of a round
    assert "of its own" in caplog.text


async def test_one_that_is_unwatched_while_others_have_their_turns_is_left_alone(autojump_clock, monkeypatch):
    monkeypatch.setattr("trionet.custody.caretaker.SLICE", 0)
    async with trionet.open_scope() as scope:
        caretaker = scope._owner.caretaker
        first, second = Charge(), Charge()
        first.tick = lambda now: caretaker.unwatch(second)
        caretaker.watch(first)
        caretaker.watch(second)
        await trio.sleep(1.5 * TICK)
    assert second.ticks == []


async def test_what_is_to_be_flushed_while_others_are_is_flushed_too(monkeypatch):
    monkeypatch.setattr("trionet.custody.caretaker.SLICE", 0)
    async with trionet.open_scope() as scope:
        charges = [Charge() for _ in range(9)]
        for charge in charges[:5]:
            scope._owner.caretaker.flush_soon(charge)
        while not charges[1].flushes:
            await trio.lowlevel.checkpoint()
        tasks = len(scope._owner.caretaker._services.child_tasks)
        for charge in charges[5:]:
            scope._owner.caretaker.flush_soon(charge)
        await trio.testing.wait_all_tasks_blocked()
        assert [charge.flushes for charge in charges] == [1] * 9
        assert len(scope._owner.caretaker._services.child_tasks) == tasks == 1


async def test_one_that_has_ended_is_not_kept_until_all_others_have_had_their_turns(autojump_clock, monkeypatch):
    """Thousands that end meanwhile would all be freed in one step."""
    monkeypatch.setattr("trionet.custody.caretaker.SLICE", 0)
    alive = []
    async with trionet.open_scope() as scope:
        caretaker = scope._owner.caretaker
        for _ in range(3):
            caretaker.watch(Passing(caretaker, alive))
        await trio.sleep(1.5 * TICK)
    assert alive == [0, 0, 0]


class Passing(Charge):
    """Ends with its first tick; `alive` gets how many of those before it are there still."""

    gone: ClassVar = weakref.WeakSet()

    def __init__(self, caretaker, alive):
        super().__init__()
        self.caretaker, self.alive = caretaker, alive

    def tick(self, now):
        self.alive.append(len(self.gone))
        self.gone.add(self)
        self.caretaker.unwatch(self)
