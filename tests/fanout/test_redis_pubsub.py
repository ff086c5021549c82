"""Fan-out over publish and subscribe, with a real redis-server that is killed and stopped in the middle."""

import logging
import math

import pytest
import trio

import trionet
from trionet.fanout import FanoutClosedError, FanoutError, Gap, Message, RedisFanout

from ..helpers.redis import RedisServer, needs_redis

pytestmark = needs_redis


@pytest.fixture
async def redis(tmp_path):
    async with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def in_time():
    logging.getLogger("coredis").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("coredis").setLevel(logging.NOTSET)


async def next_of(items):
    with trio.fail_after(20):
        return await anext(items)


async def test_messages_reach_the_subscribers_of_all_processes_in_order(redis):
    async with RedisFanout(redis.url) as here, RedisFanout(redis.url) as there:
        assert repr(here) == f"<RedisFanout at {redis.socket}: 0 topics with subscribers>"
        async with (
            here.subscribe("room") as one,
            here.subscribe("room") as two,
            there.subscribe("room") as three,
            there.subscribe("räume") as other,
        ):
            for number in range(100):
                await (here if number % 2 else there).publish("room", str(number))
            await there.publish("räume", b"\0\xff")
            for items in (one, two, three):
                assert [await next_of(items) for _ in range(100)] == [Message(None, b"%d" % n) for n in range(100)]
            assert await next_of(other) == Message(None, b"\0\xff")


async def test_programs_with_other_prefixes_do_not_hear_each_other(redis):
    async with (
        RedisFanout(redis.url, prefix="a:") as a,
        RedisFanout(redis.url, prefix="b:") as b,
        a.subscribe("room") as items,
        b.subscribe("room") as others,
    ):
        await a.publish("room", "1")
        await b.publish("room", "2")
        assert [(await next_of(it)).data for it in (items, others)] == [b"1", b"2"]


async def test_a_topic_that_is_left_and_joined_again_and_again_misses_nothing(redis):
    async with RedisFanout(redis.url) as fanout:
        for number in range(30):
            async with fanout.subscribe("room") as items:
                await fanout.publish("room", str(number))
                assert await next_of(items) == Message(None, b"%d" % number)

        async def come_and_go():
            for _ in range(20):
                async with fanout.subscribe("room"):
                    pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_and_go)
            nursery.start_soon(come_and_go)
            for number in range(20):
                async with fanout.subscribe("room") as items:
                    await fanout.publish("room", str(number))
                    assert await next_of(items) == Message(None, b"%d" % number)


async def test_a_topic_that_nobody_wants_any_more_is_left_and_can_be_joined_again(redis):
    async def subscribers(fanout):
        return (await fanout._link.ask(b"PUBSUB", b"NUMSUB", b"trionet:room"))[1]

    async with RedisFanout(redis.url) as fanout:
        for number in range(3):
            async with fanout.subscribe("room") as items:
                assert await subscribers(fanout) == 1
                await fanout.publish("room", str(number))
                assert await next_of(items) == Message(None, b"%d" % number)
            with trio.fail_after(20):
                while await subscribers(fanout):
                    await trio.sleep(0.001)


async def test_after_a_kill_each_subscriber_gets_a_gap_and_then_goes_on(redis, caplog):
    caplog.set_level(logging.INFO, "trionet.fanout")
    async with RedisFanout(redis.url) as fanout, fanout.subscribe("room") as one, fanout.subscribe("hall") as two:
        await fanout.publish("room", "1")
        assert await next_of(one) == Message(None, b"1")
        for number in range(3):
            redis.kill()
            with pytest.raises(FanoutError, match=r"Redis at .*redis.sock") as caught:
                while True:
                    await fanout.publish("room", "lost")
            assert caught.value.retry_safe in (True, False)
            await redis.start()
            assert await next_of(one) == Gap(None, "reconnect")
            assert await next_of(two) == Gap(None, "reconnect")
            await fanout.publish("room", str(number))
            await fanout.publish("hall", str(number))
            assert await next_of(one) == await next_of(two) == Message(None, b"%d" % number)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 3
    assert "is lost, trying again: " in caplog.text


async def test_while_redis_is_away_a_publish_says_that_it_was_not_sent_and_subscribing_waits(redis):
    async with RedisFanout(redis.url) as fanout, trio.open_nursery() as nursery:
        redis.kill()
        with pytest.raises(FanoutError):
            await fanout.publish("room", "lost")
        with pytest.raises(FanoutError, match="cannot be reached") as caught:
            await fanout.publish("room", "lost")
        assert caught.value.retry_safe
        with trio.move_on_after(0.05) as scope:
            async with fanout.subscribe("room"):
                pass
        assert scope.cancelled_caught

        async def listen(task_status):
            async with fanout.subscribe("room") as items:
                task_status.started()
                item = await next_of(items)
                if isinstance(item, Gap):
                    item = await next_of(items)
                assert item == Message(None, b"new")

        nursery.start_soon(redis.start)
        with trio.fail_after(20):
            await nursery.start(listen)
        await fanout.publish("room", "new")


async def test_a_server_that_stands_still_loses_nothing(redis):
    async with RedisFanout(redis.url) as fanout, fanout.subscribe("room") as items, trio.open_nursery() as nursery:
        redis.pause()
        for number in range(10):
            nursery.start_soon(fanout.publish, "room", str(number))
            await trio.testing.wait_all_tasks_blocked(0.001)
        redis.resume()
        assert sorted([(await next_of(items)).data for _ in range(10)]) == [b"%d" % n for n in range(10)]


async def test_a_slow_subscriber_is_bounded_in_bytes_and_holds_up_nobody(redis):
    async with (
        RedisFanout(redis.url) as fanout,
        fanout.subscribe("room", max_bytes=10_000) as slow,
        fanout.subscribe("room") as quick,
    ):
        for number in range(100):
            await fanout.publish("room", b"%3d" % number + bytes(1000))
            assert (await next_of(quick)).data[:3] == b"%3d" % number
            assert slow.waiting_bytes <= 10_000
        assert await next_of(slow) == Gap(None, "overflow", 91)
        assert (await next_of(slow)).data[:3] == b" 91"


async def test_who_is_present_in_all_processes(redis):
    async with RedisFanout(redis.url) as here, RedisFanout(redis.url) as there:
        async with here.present("room", "ann"), there.present("room", "ann"), there.present("room", "bób"):
            assert await here.members("room") == ["ann", "bób"]
            async with here.present("room", "ann"):
                pass
            assert await here.members("room") == ["ann", "bób"]
        assert await there.members("room") == []


async def test_who_was_held_by_a_process_that_is_gone_is_gone_and_who_is_held_stays(redis):
    async with RedisFanout(redis.url, presence_ttl=0.15) as here, RedisFanout(redis.url) as there:
        gone = RedisFanout(redis.url, presence_ttl=0.1)
        gone._presence._ttl = math.inf  # a process that was killed renews nothing
        async with gone, gone.present("room", "ghost"), here.present("room", "ann"):
            assert await there.members("room") == ["ann", "ghost"]
            with trio.fail_after(20):
                while "ghost" in await there.members("room"):
                    await trio.sleep(0.01)
            for _ in range(10):
                await trio.sleep(0.02)
                assert await there.members("room") == ["ann"]


async def test_who_is_present_is_there_again_after_redis_has_lost_everything(redis):
    async with RedisFanout(redis.url, presence_ttl=0.15) as fanout, fanout.present("room", "ann"):
        redis.kill()
        with pytest.raises(FanoutError):
            async with fanout.present("room", "bob"):
                pytest.fail("entered")
        await redis.start()
        with trio.fail_after(20):
            while True:
                try:
                    if await fanout.members("room") == ["ann"]:
                        break
                except FanoutError:
                    pass
                await trio.sleep(0.01)


async def test_a_server_that_is_not_there_is_told_at_once_and_without_a_group(tmp_path):
    with pytest.raises(FanoutError, match=r"Redis at .*/none.sock cannot be reached"):
        async with RedisFanout(f"unix://{tmp_path}/none.sock"):
            pytest.fail("entered")


async def test_what_the_block_raises_comes_out_as_it_is(redis):
    with pytest.raises(KeyError):
        async with RedisFanout(redis.url) as fanout, fanout.subscribe("room"):
            raise KeyError
    with trio.move_on_after(0.05) as scope:
        async with RedisFanout(redis.url) as fanout, fanout.subscribe("room") as items:
            await anext(items)
    assert scope.cancelled_caught


async def test_outside_of_its_block_it_refuses(redis):
    fanout = RedisFanout(redis.url)
    with pytest.raises(FanoutClosedError, match="has to be entered first"):
        await fanout.publish("room", "")
    async with fanout:
        pass
    for refused in (fanout.publish("room", ""), fanout.members("room"), fanout.subscribe("room").__aenter__()):
        with pytest.raises(FanoutClosedError, match="the block of this fan-out has ended"):
            await refused
    with pytest.raises(RuntimeError, match="entered once"):
        async with fanout:
            pass


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((1,), {}, TypeError, "url must be a str"),
        (("http://x",), {}, ValueError, "must begin with redis://, rediss:// or unix://, not 'http:'"),
        (("redis://x",), {"presence_ttl": 0}, ValueError, "presence_ttl must be more than 0"),
        (("redis://x",), {"prefix": b""}, TypeError, "prefix must be a str"),
    ],
)
def test_what_is_no_fanout(arguments, options, error, message):
    with pytest.raises(error, match=message):
        RedisFanout(*arguments, **options)


def test_a_password_is_not_shown():
    assert repr(RedisFanout("redis://me:secret@host:1/2")) == "<RedisFanout at host:1: 0 topics with subscribers>"


async def test_a_fanout_by_its_url(redis):
    async with trionet.fanout.open_fanout() as fanout:
        assert isinstance(fanout, trionet.fanout.MemoryFanout)
    async with trionet.fanout.open_fanout(redis.url) as fanout:
        assert isinstance(fanout, RedisFanout)
