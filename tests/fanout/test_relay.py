"""From a topic to the WebSockets of this process."""

import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet.fanout import Gap, MemoryFanout, Message, relay

from ..helpers.pairs import clog, memory_pair, tcp_pair
from ..helpers.websockets_by_hand import two_websockets


async def test_all_websockets_get_every_message_also_those_that_come_later():
    async with trionet.open_scope() as scope:
        fanout, room = MemoryFanout(), set()
        (ours, ann), (late, bob) = [await two_websockets(*memory_pair(scope)) for _ in range(2)]
        room.add(ours)
        await scope.start(relay, fanout, "room", room)
        await fanout.publish("room", b"one")
        assert await ann.get_message() == b"one"
        room.add(late)
        await fanout.publish("room", b"two")
        assert (await ann.get_message(), await bob.get_message()) == (b"two", b"two")
        room.discard(ours)
        await fanout.publish("room", b"three")
        assert await bob.get_message() == b"three"
        scope.cancel()


async def test_a_program_says_what_is_sent_for_a_message_and_for_a_gap():
    class Gappy(MemoryFanout):
        def gap(self):
            self._switchboard.gap("room", "reconnect")

    def encode(item: Message | Gap) -> str | None:
        if isinstance(item, Gap):
            return f"missed: {item.reason}"
        return None if item.data == b"secret" else item.data.decode()

    async with trionet.open_scope() as scope:
        fanout = Gappy()
        ours, ann = await two_websockets(*memory_pair(scope))
        await scope.start(trio_start(relay, encode=encode), fanout, "room", [ours])
        for data in ("secret", "hello"):
            await fanout.publish("room", data)
        fanout.gap()
        assert [await ann.get_message() for _ in range(2)] == ["hello", "missed: reconnect"]
        scope.cancel()


async def test_who_does_not_read_is_closed_and_the_others_go_on():
    async with trionet.open_scope() as scope:
        fanout = MemoryFanout()
        pair = tcp_pair(scope)
        slow, _deaf = await two_websockets(*pair)
        ours, ann = await two_websockets(*memory_pair(scope))
        await scope.start(trio_start(relay, max_buffered=100_000), fanout, "room", [slow, ours])
        clog(slow)
        for number in range(20):
            await fanout.publish("room", bytes([number]) * 10_000)
            assert (await ann.get_message())[0] == number
        await wait_all_tasks_blocked()
        assert slow.closed.code == 1013
        scope.cancel()


def trio_start(function, **options):
    async def started(*arguments, task_status=trio.TASK_STATUS_IGNORED):
        await function(*arguments, **options, task_status=task_status)

    return started
