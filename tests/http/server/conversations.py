"""Conversations with a server, at random: requests of all kinds, and a handler with as many manners."""

import trio
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

BODIES = st.sampled_from([None, b"", b"x", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"y" * 5000])
MANNERS = st.sampled_from(
    [
        "plain",
        "plain",
        "plain",
        "read",
        "iterate",
        "large",
        "stream",
        "late",
        "early",
        "none",
        "raise",
        "undone",
        "hint",
        "watch",
        "watch-on",
    ]
)
TALKS = st.lists(st.tuples(MANNERS, BODIES, st.booleans()), min_size=1, max_size=12)


def request_of(number, manner, body, chunked):
    start = f"{'POST' if body is not None else 'GET'} /{manner}/{number} HTTP/1.1\r\nHost: a\r\n".encode()
    if body is None:
        return start + b"\r\n"
    if not chunked:
        return start + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
    return start + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


async def converse(exchange):
    _, manner, number = exchange.path.split("/")
    text = number.encode()
    match manner:
        case "read":
            await exchange.respond(200, text + b":" + await exchange.read())
        case "iterate":
            parts = [chunk async for chunk in exchange]
            await exchange.respond(200, text + b":" + b"".join(parts))
        case "large":
            await exchange.respond(200, text + b":" + b"z" * 30000)
        case "stream":
            async with exchange.stream(200) as stream:
                await stream.send(text)
                await trio.lowlevel.checkpoint()
                await stream.send(b":")
        case "late":
            await wait_all_tasks_blocked()
            await exchange.respond(200, text + b":")
        case "early":
            await exchange.respond(200, text + b":")
            if exchange.connection._cycle.exchange is exchange:
                await exchange.read()
        case "none":
            pass
        case "raise":
            raise ValueError(number)
        case "undone":
            try:
                async with exchange.stream(404):
                    await exchange.read()
                    raise KeyError
            except KeyError:
                await exchange.respond(200, text + b":")
        case "hint":
            await exchange.inform(103)
            await exchange.respond(200, text + b":")
        case "watch":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange.wait_disconnected)
                await trio.lowlevel.checkpoint()
                body = await exchange.read()
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await exchange.respond(200, text + b":" + body)
        case "watch-on":
            exchange.connection.scope.start_soon(exchange.wait_disconnected)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            await exchange.respond(200, text + b":")
        case _:
            await exchange.respond(200, text + b":")
