"""A subscriber's queue: its order, its bounds in messages and bytes, and the gaps that it shows."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet.fanout import FanoutClosedError, Gap, MemoryFanout, Message
from trionet.fanout.subscription import QueueBounds, Subscription


def a_subscription(max_messages=3, max_bytes=100, overflow="drop_oldest") -> Subscription:
    return Subscription("room", QueueBounds(max_messages, max_bytes, overflow))


def put(subscription, *numbers, size=1):
    for number in numbers:
        subscription._put(Message(str(number), b"x" * size))


async def taken(subscription, count):
    """The next items: an int for a message, and the gap itself for a gap."""
    found = []
    for _ in range(count):
        with trio.fail_after(5):
            item = await anext(subscription)
        found.append(int(item.id) if isinstance(item, Message) else item)
    with trio.CancelScope() as nothing_more:
        nothing_more.cancel()
        found.append(await anext(subscription))
    return found


async def test_messages_come_in_order_and_a_waiting_task_gets_the_next_one():
    subscription = a_subscription()
    put(subscription, 1, 2)
    assert (subscription.waiting_messages, subscription.waiting_bytes) == (2, 2)
    assert repr(subscription) == "<Subscription to 'room': 2 messages, 2 bytes waiting>"
    assert await taken(subscription, 2) == [1, 2]
    got = []

    async def take():
        got.append((await anext(subscription)).id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        put(subscription, 3)
        put(subscription, 4)
    assert sorted(got) == ["3", "4"]
    assert (subscription.waiting_messages, subscription.waiting_bytes) == (0, 0)


async def test_a_cancelled_wait_loses_nothing():
    subscription = a_subscription()
    with trio.move_on_after(0):
        await anext(subscription)
    put(subscription, 1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(subscription)
    assert await taken(subscription, 1) == [1]


async def test_too_many_messages_push_out_the_oldest_and_leave_one_gap():
    subscription = a_subscription(max_messages=3)
    put(subscription, 1)
    assert await taken(subscription, 1) == [1]
    put(subscription, *range(2, 8))
    assert subscription.waiting_messages == 3
    assert await taken(subscription, 4) == [Gap("1", "overflow", 3), 5, 6, 7]


@pytest.mark.parametrize("size", [1, 10, 40, 99])
async def test_bytes_are_bounded_too(size):
    subscription = a_subscription(max_messages=1000, max_bytes=100)
    put(subscription, *range(1, 201), size=size)
    assert 100 - size < subscription.waiting_bytes <= 100
    kept = 100 // size
    assert await taken(subscription, kept + 1) == [Gap(None, "overflow", 200 - kept), *range(201 - kept, 201)]


async def test_a_message_larger_than_the_bound_fits_into_an_empty_queue_alone():
    subscription = a_subscription(max_bytes=100)
    put(subscription, 1, 2)
    put(subscription, 3, size=1000)
    assert subscription.waiting_messages == 1
    put(subscription, 4)
    assert await taken(subscription, 2) == [Gap(None, "overflow", 3), 4]


async def test_gaps_stand_where_messages_are_missing_and_side_by_side_are_one():
    subscription = a_subscription()
    subscription._put_gap("reconnect")
    subscription._put_gap("trimmed", 2)
    assert await taken(subscription, 1) == [Gap(None, "reconnect", None)]
    put(subscription, 1)
    subscription._put_gap("trimmed", 5)
    subscription._put_gap("trimmed", 7)
    put(subscription, 2)
    subscription._put_gap("reconnect")
    assert await taken(subscription, 4) == [1, Gap("1", "trimmed", 12), 2, Gap("2", "reconnect", None)]


async def test_a_gap_that_comes_to_stand_beside_what_was_dropped_becomes_one_with_it():
    subscription = a_subscription(max_messages=2)
    put(subscription, 1)
    subscription._put_gap("trimmed", 10)
    put(subscription, 2, 3)
    assert await taken(subscription, 3) == [Gap(None, "overflow", 11), 2, 3]
    subscription._put_gap("reconnect")
    put(subscription, 4, 5, 6)
    assert await taken(subscription, 3) == [Gap("3", "reconnect", None), 5, 6]


async def test_who_is_too_slow_is_cut_off_if_he_asked_for_it_and_everything_is_let_go():
    subscription = a_subscription(max_messages=2, overflow="disconnect")
    put(subscription, 1, 2)
    assert await taken(subscription, 2) == [1, 2]
    put(subscription, 1, 2, 3)
    assert subscription.waiting_bytes == 0
    for _ in range(2):
        with pytest.raises(
            trionet.LimitExceededError, match=r"'room' is too slow: 2 messages of 2 bytes .* is 2, max_by"
        ):
            await anext(subscription)
    put(subscription, 4)
    subscription._put_gap("reconnect")
    assert subscription.waiting_messages == 0


async def test_the_end_wakes_who_waits():
    subscription = a_subscription()
    async with trio.open_nursery() as nursery:

        async def take():
            with pytest.raises(FanoutClosedError, match="the subscription to 'room' has ended"):
                await anext(subscription)

        nursery.start_soon(take)
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        subscription._close()


async def test_who_takes_what_waits_lets_others_run():
    subscription = a_subscription(max_messages=100)
    put(subscription, *range(100))
    turns = 0

    async def other():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(100):
            await anext(subscription)
        nursery.cancel_scope.cancel()
    assert 1 <= turns <= 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_messages": 0}, ValueError),
        ({"max_bytes": 0}, ValueError),
        ({"max_bytes": 1.5}, TypeError),
        ({"overflow": "block"}, ValueError),
    ],
)
async def test_bounds_that_cannot_be(options, error):
    with pytest.raises(error, match=next(iter(options))):
        async with MemoryFanout().subscribe("room", **options):
            pass
