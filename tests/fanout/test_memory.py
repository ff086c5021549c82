"""Fan-out in one process."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trionet.fanout import FanoutClosedError, Gap, MemoryFanout, Message


async def test_every_subscriber_of_the_topic_gets_every_message_in_order():
    async with MemoryFanout() as fanout:
        await fanout.publish("room", "nobody hears this")
        async with fanout.subscribe("room") as one, fanout.subscribe("room") as other, fanout.subscribe("hall") as hall:
            assert repr(fanout) == "<MemoryFanout: 2 topics with subscribers>"
            for data in ("ä", b"\0", bytearray(b"b"), memoryview(b"abcd")[::2]):
                await fanout.publish("room", data)
            for subscription in (one, other):
                found = [await anext(subscription) for _ in range(4)]
                assert [item.data for item in found] == ["ä".encode(), b"\0", b"b", b"ac"]
                assert [item.id for item in found] == ["2", "3", "4", "5"]
            assert hall.waiting_messages == 0
        assert repr(fanout) == "<MemoryFanout: 0 topics with subscribers>"


async def test_a_slow_subscriber_holds_up_nobody_and_gets_a_gap():
    fanout = MemoryFanout()
    async with fanout.subscribe("room", max_bytes=10) as slow, fanout.subscribe("room") as quick:
        for number in range(100):
            await fanout.publish("room", b"%3d" % number)
            assert (await anext(quick)).data == b"%3d" % number
            assert slow.waiting_bytes <= 10
        assert [await anext(slow) for _ in range(2)] == [Gap(None, "overflow", 97), Message("98", b" 97")]


async def test_what_was_published_cannot_be_changed_afterwards():
    fanout, data = MemoryFanout(), bytearray(b"abc")
    async with fanout.subscribe("room") as items:
        await fanout.publish("room", data)
        data[:] = b"xyz"
        assert (await anext(items)).data == b"abc"


async def test_a_cancelled_publish_has_sent_nothing():
    fanout = MemoryFanout()
    async with fanout.subscribe("room") as items:
        with trio.CancelScope() as scope:
            scope.cancel()
            await fanout.publish("room", b"")
        assert items.waiting_messages == 0


async def test_the_end_of_the_fanout_ends_its_subscriptions():
    async with trio.open_nursery() as nursery:
        fanout = MemoryFanout()
        async with fanout:

            async def take():
                with pytest.raises(FanoutClosedError):
                    async with fanout.subscribe("room") as items:
                        async for _ in items:
                            pass

            nursery.start_soon(take)
            await wait_all_tasks_blocked()
    for refused in (
        fanout.publish("room", b""),
        fanout.subscribe("room").__aenter__(),
        fanout.present("room", "ann").__aenter__(),
    ):
        with pytest.raises(FanoutClosedError, match="is refused: the block of this fan-out has ended"):
            await refused
    assert await fanout.members("room") == []


async def test_a_subscription_ends_with_its_block():
    async with MemoryFanout().subscribe("room") as items:
        pass
    with pytest.raises(FanoutClosedError):
        await anext(items)


async def test_who_is_present_until_the_last_block_ends():
    fanout = MemoryFanout()
    async with fanout.present("room", "bob"):
        async with fanout.present("room", "ann"), fanout.present("room", "ann"), fanout.present("hall", "cleo"):
            assert await fanout.members("room") == ["ann", "bob"]
        async with fanout.present("room", "ann"):
            assert await fanout.members("room") == ["ann", "bob"]
        assert await fanout.members("room") == ["bob"]
        assert await fanout.members("hall") == []
    assert fanout._present == {}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", b""), ValueError, "topic must not be empty"),
        ((1, b""), TypeError, "topic must be a str, not 1"),
        (("room", 1), TypeError, "data must be str, which is sent as UTF-8, or bytes, not int"),
    ],
)
async def test_what_cannot_be_published(arguments, error, message):
    with pytest.raises(error, match=message):
        await MemoryFanout().publish(*arguments)
