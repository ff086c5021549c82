"""The loop over a connection: clients that go, and requests that are none."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Headers, HTTPLimits, Phase, Reason, RemoteProtocolError

from ...helpers.http_served import (
    CHUNKED,
    GET,
    HUGE,
    POST,
    ask,
    read_answer,
    replying,
    served,
    vanish,
)
from ...helpers.pairs import receive_all

# --- clients that go ---------------------------------------------------------------------------------------------


async def test_a_client_that_resets_between_two_requests_ends_the_loop_quietly():
    async with served(replying()) as it:
        await ask(it.client, GET)
        await wait_all_tasks_blocked()
        vanish(it.client)
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None
        with pytest.raises(trionet.HandleClosedError):
            await anext(it.http)


@pytest.mark.parametrize("answers", [True, False])
async def test_a_client_that_resets_while_its_body_is_dropped_ends_the_loop_quietly(answers):
    gone = trio.Event()

    async def handler(exchange):
        if answers:
            await exchange.respond(200)
        else:
            await gone.wait()

    async with served(handler) as it:
        await it.client.send_all(POST % 100)
        await wait_all_tasks_blocked()
        vanish(it.client)
        gone.set()
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None


async def test_a_client_that_resets_in_its_body_breaks_the_read():
    async def handler(exchange):
        with pytest.raises(trionet.HandleBrokenError, match="receive failed"):
            await exchange.read()
        with pytest.raises(trionet.HandleBrokenError):
            await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(POST % 100)
        await wait_all_tasks_blocked()
        vanish(it.client)
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None


@pytest.mark.parametrize("body", [b"ok", HUGE, [b"ok"]], ids=["small", "large", "list"])
async def test_a_client_that_has_reset_breaks_the_answer(body):
    async def handler(exchange):
        vanish(it.client)
        with pytest.raises(trionet.HandleBrokenError, match="send failed"):
            await exchange.respond(200, body)
        assert it.http.phase is Phase.CLOSED

    async with served(handler) as it:
        await it.client.send_all(GET)
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None


async def test_answers_that_were_put_off_break_quietly():
    async def handler(exchange):
        await exchange.respond(200)
        if len(it.exchanges) == 2:
            vanish(it.client)
            await wait_all_tasks_blocked()
            assert it.http._life.state.reset

    async with served(handler) as it:
        await it.client.send_all(GET * 3)
        await it.over.wait()
        assert isinstance(it.failure, (trionet.HandleBrokenError, type(None)))


# --- nothing smuggled --------------------------------------------------------------------------------------------


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LINES = {
    "CL.TE": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE.CL": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "TE.TE": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE listed": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE in disguise": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE with a tab": b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "TE with a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "space before the field": b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare CR": b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL": b"X: y\0\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n",
    "the same length twice": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": b"Content-Length: 0, 35\r\n\r\n",
    "signed": b"Content-Length: +0\r\n\r\n",
    "negative": b"Content-Length: -0\r\n\r\n",
    "hexadecimal": b"Content-Length: 0x0\r\n\r\n",
    "underscore": b"Content-Length: 0_0\r\n\r\n",
    "fraction": b"Content-Length: 0.0\r\n\r\n",
    "endless": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "chunk size signed": b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
    "chunk size in hex notation": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "chunk size with space": b"Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n",
    "chunk size too long": b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 17 + b"\r\n\r\n",
    "chunk ended by LF": b"Transfer-Encoding: chunked\r\n\r\n0\n\n",
    "chunk extension with LF": b"Transfer-Encoding: chunked\r\n\r\n0;x\n\r\n\r\n",
    "chunk data too long": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
    "chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n1\r\nx0\r\n\r\n",
    "length among the trailers": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 35\r\n\r\n",
    "trailers folded": b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
}


@pytest.mark.parametrize("reads", ["reads", "drops", "streams"])
@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_no_request_is_smuggled_past_the_server(lines, reads, version):
    served_targets = []

    async def handler(exchange):
        served_targets.append(exchange.target)
        if reads == "reads":
            await exchange.read()
        elif reads == "streams":
            try:
                async with exchange.stream(200):
                    await exchange.read()
                return
            except RemoteProtocolError:
                pass
        await exchange.respond(200)

    async with served(handler, limits=HTTPLimits(drain_timeout=0)) as it:
        await it.client.send_all(b"POST / HTTP/%b\r\nHost: a\r\n%b" % (version, lines) + SMUGGLED)
        await it.client.send_eof()
        data = await receive_all(it.client)
        await it.over.wait()
        assert "/smuggled" not in served_targets
        assert data.count(b"HTTP/1.1 ") == 1


async def test_the_same_with_good_framing_is_two_requests():
    async def handler(exchange):
        await exchange.read()
        await exchange.respond(200, exchange.path.encode())

    async with served(handler) as it:
        await it.client.send_all(CHUNKED + b"0\r\n\r\n" + SMUGGLED)
        assert [(await read_answer(it.client)).body for _ in range(2)] == [b"/", b"/smuggled"]


def test_fields_are_headers():
    assert Headers({"a": "b"})["A"] == "b"
