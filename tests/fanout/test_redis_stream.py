"""Fan-out over streams, with a real redis-server that is killed and stopped in the middle."""

import logging
import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trionet.fanout import FanoutClosedError, FanoutError, Gap, Message, RedisStreamFanout, open_fanout
from trionet.fanout.stream_page import order

from ..helpers.redis import RedisServer, needs_redis

pytestmark = needs_redis


@pytest.fixture
async def redis(tmp_path):
    async with RedisServer(tmp_path, durable=True) as server:
        yield server


@pytest.fixture(autouse=True)
def quiet_coredis():
    logging.getLogger("coredis").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("coredis").setLevel(logging.NOTSET)


async def next_of(items):
    with trio.fail_after(20):
        return await anext(items)


async def data_of(items, count):
    found = [await next_of(items) for _ in range(count)]
    assert [order(item.id) for item in found] == sorted({order(item.id) for item in found})
    return [int(item.data) for item in found]


async def publish(fanout, *numbers, topic="room"):
    for number in numbers:
        await fanout.publish(topic, str(number))


async def test_messages_reach_the_subscribers_of_all_processes_in_order(redis):
    async with RedisStreamFanout(redis.url) as here, RedisStreamFanout(redis.url) as there:
        assert repr(here) == f"<RedisStreamFanout at {redis.socket}: 0 topics with subscribers>"
        await publish(here, 1, 2)
        async with (
            here.subscribe("room") as one,
            here.subscribe("room") as two,
            there.subscribe("room") as three,
            there.subscribe("räume") as other,
        ):
            for number in range(100):
                await publish(here if number % 2 else there, number)
            await there.publish("räume", b"\0\xff")
            for items in (one, two, three):
                assert await data_of(items, 100) == [*range(100)]
            assert (await next_of(other)).data == b"\0\xff"


async def test_who_comes_later_gets_what_is_published_later(redis):
    async with RedisStreamFanout(redis.url) as fanout:
        for number in range(20):
            async with fanout.subscribe("room") as items:
                await publish(fanout, number)
                assert await data_of(items, 1) == [number]
        async with fanout.subscribe("room"), trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(publish, fanout, -1)
                async with fanout.subscribe("room") as items:
                    await publish(fanout, number)
                    while (item := await next_of(items)).data == b"-1":
                        pass
                    assert item.data == b"%d" % number


async def test_the_reader_that_waits_looks_at_a_new_topic_at_once(redis, monkeypatch):
    monkeypatch.setattr("trionet.fanout.stream_reader._BLOCK", 0)  # for ever
    monkeypatch.setattr("trionet.fanout.redis_client.ANSWER_TIMEOUT", 1000)
    async with RedisStreamFanout(redis.url) as fanout:
        for topic in ("one", "two", "three"):
            async with fanout.subscribe(topic) as items:
                await publish(fanout, 1, topic=topic)
                assert await data_of(items, 1) == [1]


async def test_a_second_subscriber_gets_nothing_that_the_reader_has_yet_to_read(redis):
    async with RedisStreamFanout(redis.url) as fanout, fanout.subscribe("room") as first:
        reader = fanout._reader
        await publish(fanout, 1)
        assert await data_of(first, 1) == [1]
        before = reader.positions["room"]
        await publish(fanout, 2)
        assert await data_of(first, 1) == [2]
        reader.positions["room"] = before  # as though it were behind
        async with fanout.subscribe("room") as second:
            reader._suspects.add("room")
            await publish(fanout, 3)
            assert await data_of(second, 1) == [3]


async def test_going_on_behind_an_id(redis):
    async with RedisStreamFanout(redis.url) as fanout:
        async with fanout.subscribe("room") as items:
            await publish(fanout, *range(300))
            seen = [await next_of(items) for _ in range(10)]
        async with fanout.subscribe("room", after=seen[-1].id) as items:
            await publish(fanout, *range(300, 320))
            assert await data_of(items, 310) == [*range(10, 320)]
            await publish(fanout, 320)
            assert await data_of(items, 1) == [320]
            async with fanout.subscribe("room", after="0-0") as all_of_it:
                assert await data_of(all_of_it, 321) == [*range(321)]
        async with fanout.subscribe("hall", after="0-0") as items:
            await publish(fanout, 1, topic="hall")
            assert await data_of(items, 1) == [1]


async def test_what_was_cut_off_is_a_gap(redis):
    async with RedisStreamFanout(redis.url, maxlen=1) as fanout:
        await publish(fanout, 0)
        async with fanout.subscribe("room", after="0-0") as items:
            first = await next_of(items)
        await publish(fanout, *range(1, 1000))
        for after in (first.id, "0-0", "1-1"):
            async with fanout.subscribe("room", after=after) as items:
                assert await next_of(items) == Gap(after, "trimmed")
                item = await next_of(items)
                number = int(item.data)
                assert 500 < number < 1000  # it cuts whole blocks of 100
                if number < 999:
                    assert await data_of(items, 999 - number) == [*range(number + 1, 1000)]
        async with fanout.subscribe("room", after=f"{2**63}-0") as items:
            assert await next_of(items) == Gap(f"{2**63}-0", "trimmed")
            assert int((await next_of(items)).data) > 500


async def test_what_was_cut_off_before_the_reader_came_to_it_is_a_gap(redis):
    async with RedisStreamFanout(redis.url, maxlen=10) as fanout, fanout.subscribe("room") as items:
        await publish(fanout, 0)
        assert (await next_of(items)).data == b"0"
        first = fanout._reader.positions["room"]
        script = "for i = 1, 1000 do redis.call('XADD', KEYS[1], 'MAXLEN', '10', '*', 'd', i) end"
        await fanout._link.ask(b"EVAL", script, 1, "trionet:stream:room")
        assert await next_of(items) == Gap(first, "trimmed")
        assert await data_of(items, 10) == [*range(991, 1001)]


async def test_many_at_once_are_read_page_by_page_and_without_a_gap(redis):
    async with RedisStreamFanout(redis.url) as fanout, fanout.subscribe("room", max_messages=5000) as items:
        script = "for i = 1, 3000 do redis.call('XADD', KEYS[1], '*', 'd', i) end"
        await fanout._link.ask(b"EVAL", script, 1, "trionet:stream:room")
        assert await data_of(items, 3000) == [*range(1, 3001)]


async def test_a_slow_subscriber_is_bounded_in_bytes(redis):
    async with (
        RedisStreamFanout(redis.url) as fanout,
        fanout.subscribe("room", max_bytes=10_000) as slow,
        fanout.subscribe("room") as quick,
    ):
        for number in range(100):
            await fanout.publish("room", b"%3d" % number + bytes(1000))
            assert (await next_of(quick)).data[:3] == b"%3d" % number
            assert slow.waiting_bytes <= 10_000
        assert await next_of(slow) == Gap(None, "overflow", 91)
        assert (await next_of(slow)).data[:3] == b" 91"


async def through_trouble(redis, count, troubles):
    """Publish `count` messages while redis-server is killed and stopped: what was acknowledged, and what arrived."""
    acknowledged, arrived = [], []
    chance = random.Random(1)
    async with RedisStreamFanout(redis.url, maxlen=count) as here, RedisStreamFanout(redis.url, maxlen=count) as there:

        async def write(task_status):
            task_status.started()
            for number in range(count):
                try:
                    await here.publish("room", str(number))
                except FanoutError:
                    await trio.sleep(0.005)
                else:
                    acknowledged.append(number)
            for _ in range(1000):
                try:
                    await here.publish("end", "")
                except FanoutError:
                    await trio.sleep(0.005)
                else:
                    break

        async def trouble():
            for kind in troubles:
                goal = len(arrived) + count // (2 * len(troubles))
                while len(arrived) < goal:
                    await trio.sleep(0.001)
                if kind == "kill":
                    redis.kill()
                    await redis.start()
                else:
                    redis.pause()
                    await trio.sleep(chance.uniform(0.01, 0.05))
                    redis.resume()

        async def read(items):
            while True:
                arrived.append(await next_of(items))

        async with (
            there.subscribe("room", max_messages=count) as items,
            there.subscribe("end") as end,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(read, items)
            nursery.start_soon(trouble)
            await nursery.start(write)
            with trio.fail_after(300):
                await anext(end)
            await wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
    return acknowledged, [int(item.data) if isinstance(item, Message) else item for item in arrived]


async def check_trouble(redis, count, troubles):
    acknowledged, arrived = await through_trouble(redis, count, troubles)
    assert count * 0.5 < len(acknowledged) <= count
    assert arrived == sorted({*arrived}), "in order, and nothing twice"
    assert {*acknowledged} <= {*arrived}, "nothing that was acknowledged is missing"
    assert len(arrived) - len(acknowledged) <= 2 * len(troubles), "a publish that raised may have been carried out"


async def test_a_kill_and_a_stop_lose_nothing_and_double_nothing(redis):
    await check_trouble(redis, 300, ["kill", "stop", "kill"])


@pytest.mark.soak
async def test_ten_thousand_messages_through_kills_and_stops(redis):
    await check_trouble(redis, 10_000, ["kill", "stop"] * 5)


async def test_while_redis_is_away_subscribing_and_reading_wait(redis):
    async with RedisStreamFanout(redis.url) as fanout:
        await publish(fanout, *range(150))
        async with fanout.subscribe("room", after="0-0") as items:
            assert await data_of(items, 100) == [*range(100)]
            redis.kill()
            got = []

            async def read_on():
                got.extend(await data_of(items, 50))

            async def join():
                async with fanout.subscribe("room", after="0-0") as others:
                    got.extend(await data_of(others, 1))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_on)
                nursery.start_soon(join)
                await trio.sleep(0.01)
                assert got == []
                await redis.start()
            assert sorted(got) == sorted([*range(100, 150), 0])


async def test_a_redis_that_has_lost_everything_is_a_gap_and_goes_on(tmp_path):
    async with (
        RedisServer(tmp_path) as redis,
        RedisStreamFanout(redis.url) as fanout,
        fanout.subscribe("room") as items,
    ):
        await publish(fanout, 1)
        last = await next_of(items)
        redis.kill()
        await redis.start()
        assert await next_of(items) == Gap(last.id, "trimmed")
        await publish(fanout, 2)
        assert (await next_of(items)).data == b"2"


async def test_who_is_present(redis):
    async with RedisStreamFanout(redis.url) as here, RedisStreamFanout(redis.url) as there:
        async with here.present("room", "ann"):
            assert await there.members("room") == ["ann"]
        assert await there.members("room") == []


async def test_what_redis_refuses_is_an_error(redis):
    async with RedisStreamFanout(redis.url) as fanout:
        await fanout._link.ask(b"SET", "trionet:stream:room", "a text")
        with pytest.raises(FanoutError, match="Redis at .* refuses: .*wrong kind of value") as caught:
            await publish(fanout, 1)
        assert caught.value.retry_safe is None
        with pytest.raises(FanoutError, match="refuses"):
            async with fanout.subscribe("room"):
                pytest.fail("entered")


async def test_outside_of_its_block_it_refuses(redis):
    fanout = open_fanout(redis.url.replace("unix:", "unix+stream:"))
    assert isinstance(fanout, RedisStreamFanout)
    with pytest.raises(FanoutClosedError, match="has to be entered first"):
        await fanout.publish("room", "")
    async with fanout:
        pass
    with pytest.raises(FanoutClosedError, match="the block of this fan-out has ended"):
        await fanout.publish("room", "")


@pytest.mark.parametrize(
    ("after", "error"),
    [
        ("", ValueError),
        ("1", ValueError),
        ("1-x", ValueError),
        (f"{2**64}-0", ValueError),
        ("$", ValueError),
        (5, TypeError),
    ],
)
async def test_what_is_no_id(redis, after, error):
    async with RedisStreamFanout(redis.url) as fanout:
        with pytest.raises(error, match="after must be the id of a message"):
            async with fanout.subscribe("room", after=after):
                pytest.fail("entered")


def test_maxlen_is_at_least_one():
    with pytest.raises(ValueError, match="maxlen must be at least 1"):
        RedisStreamFanout("redis://localhost", maxlen=0)
