"""The chores that are done for all connections together: one that fails does not spoil them for the others."""

import trio
import trio.testing

import trionet
from trionet.caretaker import TICK


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
        caretaker = scope.owner.caretaker
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
                scope.owner.caretaker.flush_soon(charge)
            assert {charge.flushes for charge in charges} == {charges[0].flushes}
            await trio.testing.wait_all_tasks_blocked()
        assert [charge.flushes for charge in charges] == [2, 2, 2]
