"""Conversations with a server, at random."""

import random

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, Reason

from ...helpers.http_served import GET, read_answer, served
from ...helpers.pairs import receive_all, unix_pair
from .conversations import TALKS, converse, request_of

# --- random conversations ----------------------------------------------------------------------------------------


@given(talk=TALKS, seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_every_request_of_a_random_conversation_is_answered_in_order_and_once(talk, seed):
    """Pipelined, in pieces of any size, whatever the handlers do: nobody's answer is another's."""

    async def main():
        handler = trionet.http_handler(converse, on_error=lambda *_: None)
        data = b"".join(request_of(number, *turn) for number, turn in enumerate(talk))
        rng = random.Random(seed)
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 3, 8])))
        async with trionet.open_scope() as scope:
            one, client = unix_pair(scope)
            scope.start_soon(handler, one)

            async def send():
                for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    await client.send_all(data[start:end])
                    for _ in range(rng.randrange(6)):
                        await trio.lowlevel.checkpoint()

            scope.start_soon(send)
            with trio.fail_after(30):
                for number, (manner, body, _) in enumerate(talk):
                    if manner == "hint":
                        assert (await read_answer(client)).status == 103
                    answer = await read_answer(client)
                    if manner in ("none", "raise"):
                        assert answer.status == 500
                        continue
                    expected = body or b"" if manner in ("read", "iterate", "watch") else b""
                    if manner == "large":
                        expected = b"z" * 30000
                    assert (answer.status, answer.body) == (200, b"%d:%b" % (number, expected))
                await wait_all_tasks_blocked()
                assert client._transport.receive_nowait(9) is None
                assert one.end.successor._cycle.exchange is None
            scope.cancel()

    trio.run(main)


@given(data=st.binary(max_size=40), at=st.integers(0, 200), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_garbage_anywhere_ends_a_connection_and_nothing_else(data, at, seed):
    async def main():
        rng = random.Random(seed)
        turns = [
            (rng.choice(["plain", "read", "none", "stream"]), rng.choice([None, b"x", b"y" * 99]), rng.random() < 0.5)
        ]
        whole = b"".join(request_of(number, *turn) for number, turn in enumerate(turns * 4))
        bad = whole[:at] + data + whole[at:]
        async with trionet.open_scope() as scope:
            one, client = unix_pair(scope)
            handler = trionet.http_handler(converse, on_error=lambda *_: None, limits=HTTPLimits(drain_timeout=0.05))
            done = trio.Event()

            async def serve():
                await handler(one)
                done.set()

            scope.start_soon(serve)
            await client.send_all(bad)
            await client.send_eof()
            with trio.fail_after(30):
                try:
                    said = await receive_all(client)
                except trio.BrokenResourceError:
                    said = b""
                await done.wait()
            assert said.startswith(b"HTTP/1.1 ") or not said
            scope.cancel()

    trio.run(main)


async def test_what_a_client_sends_behind_its_last_request_does_not_reset_the_answer_away():
    """It is still in the kernel when the connection ends, and a close without reading it would be a reset."""

    async def handler(exchange):
        await it.client.send_all(GET)
        await exchange.respond(200, b"the last", headers=[("Connection", "close")])

    async with served(handler) as it:
        await it.client.send_all(GET)
        answer = await read_answer(it.client)
        assert (answer.status, answer.body) == (200, b"the last")
        assert await it.client.receive_some() == b""
        await it.client.aclose()
        assert (await it.ended()).reason is Reason.LOCAL
