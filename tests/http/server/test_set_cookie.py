"""Cookies that a handler sets: with whichever final response there is."""

import pytest
import trio

import trionet
from trionet import LocalProtocolError, to_connection, to_websocket_server

from ...helpers.http_served import GET, WEBSOCKET, ask, get, read_answer, served

PLAIN = "a=b; Path=/; HttpOnly; SameSite=Lax"


async def respond(exchange):
    await exchange.respond(200, b"ok")


async def respond_with_fields(exchange):
    await exchange.respond(200, b"ok", headers={"X": "y"})


async def respond_at_length(exchange):
    await exchange.respond(200, b"x" * 100_000)


async def stream(exchange):
    async with exchange.stream(200) as body:
        await body.send(b"ok")


async def nothing(exchange):
    """It is answered with 500."""


@pytest.mark.parametrize("answer", [respond, respond_with_fields, respond_at_length, stream, nothing])
@pytest.mark.parametrize("before", [0, 2])
async def test_they_go_out_with_every_final_response_and_only_with_their_own(answer, before):
    async def handler(exchange):
        if exchange.path == "/set":
            await exchange.inform(103)
            exchange.set_cookie("a", "b")
        await answer(exchange)

    async with served(handler) as it:
        for _ in range(before):
            assert "set-cookie" not in (await ask(it.client, GET)).fields
        await it.client.send_all(get("/set"))
        assert (await read_answer(it.client)).status == 103
        last = await read_answer(it.client)
        assert last.fields["set-cookie"] == PLAIN
        assert last.fields.get("x", "y") == "y"
        if last.fields.get("connection") != "close":
            assert "set-cookie" not in (await ask(it.client, GET)).fields


@pytest.mark.parametrize("recipe", [to_websocket_server, lambda: to_connection("websocket")])
async def test_they_go_out_with_a_101(recipe):
    async def handler(exchange):
        exchange.set_cookie("a", "b")
        await exchange.upgrade(recipe())

    async with served(handler) as it:
        await it.client.send_all(WEBSOCKET)
        head = await it.client.receive_until(b"\r\n\r\n", max_bytes=999)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert f"Set-Cookie: {PLAIN}\r\n".encode() in head


async def test_they_go_out_with_the_response_of_an_exception(nursery):
    async def handler(exchange):
        exchange.set_cookie("a", "b")
        raise trionet.HTTPException(403)

    server = await nursery.start(trionet.serve_http, handler, 0)
    async with (
        trionet.open_http_client() as client,
        client.request("GET", f"http://127.0.0.1:{server.port}") as response,
    ):
        assert (response.status, response.headers["set-cookie"]) == (403, PLAIN)


async def test_the_later_of_two_with_one_name_domain_and_path_counts():
    async def handler(exchange):
        exchange.set_cookie("a", "1")
        exchange.set_cookie("b", "1")
        exchange.set_cookie("a", "elsewhere", path="/x")
        exchange.set_cookie("a", "2", max_age=5)
        exchange.delete_cookie("b")
        await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(GET)
        head = (await it.client.receive_until(b"\r\n\r\n", max_bytes=999)).decode()
    set_cookies = [line.removeprefix("Set-Cookie: ") for line in head.splitlines() if line.startswith("Set-Cookie")]
    assert set_cookies == [
        "a=elsewhere; Path=/x; HttpOnly; SameSite=Lax",
        "a=2; Max-Age=5; Path=/; HttpOnly; SameSite=Lax",
        "b=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; HttpOnly; SameSite=Lax",
    ]


async def test_over_tls_they_are_secure(nursery, server_context, client_context):
    async def handler(exchange):
        exchange.set_cookie("__Host-a", "b")
        exchange.set_cookie("c", "d", secure=False)
        await exchange.respond(200)

    def serve(task_status):
        return trionet.serve_http(handler, 0, ssl_context=server_context, task_status=task_status)

    server = await nursery.start(serve)
    async with (
        trionet.open_http_client(ssl_context=client_context) as client,
        client.request("GET", f"https://localhost:{server.port}/") as response,
    ):
        assert response.headers.get_list("set-cookie") == [
            "__Host-a=b; Path=/; Secure; HttpOnly; SameSite=Lax",
            PLAIN.replace("a=b", "c=d"),
        ]


async def test_without_tls_a_promise_of_it_is_refused_unless_a_proxy_keeps_it():
    async def handler(exchange):
        with pytest.raises(ValueError, match="promises by its name that it is Secure; give secure=True"):
            exchange.set_cookie("__Host-a", "b")
        with pytest.raises(TypeError, match="secure"):
            exchange.set_cookie("a", "b", secure="yes")
        exchange.set_cookie("__Host-a", "b", secure=True)
        await exchange.respond(200)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).fields["set-cookie"].startswith("__Host-a=b; Path=/; Secure;")


async def test_they_come_too_late_once_the_response_has_begun():
    async def handler(exchange):
        async with exchange.stream(200) as body:
            with pytest.raises(LocalProtocolError, match="Set-Cookie comes too late: the response has begun"):
                exchange.set_cookie("a", "b")
            await body.send(b"ok")
        with pytest.raises(LocalProtocolError, match="set_cookie refused: .* is over"):
            exchange.delete_cookie("a")

    async with served(handler) as it:
        assert "set-cookie" not in (await ask(it.client, GET)).fields
        assert "set-cookie" not in (await ask(it.client, GET)).fields


async def test_a_stream_that_is_taken_back_leaves_them_to_the_next_response():
    async def handler(exchange):
        exchange.set_cookie("a", "b")
        with pytest.raises(ValueError, match="before a byte"):
            async with exchange.stream(200):
                raise ValueError("before a byte is out")
        await exchange.respond(418)

    async with served(handler) as it, trio.open_nursery():
        answer = await ask(it.client, GET)
        assert (answer.status, answer.fields["set-cookie"]) == (418, PLAIN)
