"""A small HTTP server, and a client that uses it: bodies both ways, a stream, an error, keep-alive."""

import json
from collections.abc import AsyncIterator

import trio

import trionet


async def app(exchange: trionet.Exchange) -> None:
    match exchange.method, exchange.path:
        case "GET", "/":
            await exchange.respond(200, b"hello\n", headers=[("Content-Type", "text/plain")])
        case "POST", "/sum":
            body = await exchange.read(max_bytes=65536)  # a longer one is answered with 413
            try:
                total = sum(json.loads(body))
            except (ValueError, TypeError, RecursionError):  # what is no JSON, or no numbers, is the client's mistake
                await exchange.respond(400, b"a list of numbers, please\n")
            else:
                await exchange.respond(200, json={"sum": total})
        case "GET", "/count":
            async with exchange.stream(200) as stream:
                for number in range(3):
                    await stream.send(b"%d\n" % number)
        case "PUT", _:
            size = 0
            async for chunk in exchange:  # never all of it in memory
                size += len(chunk)
            await exchange.respond(201, b"%d bytes\n" % size)
        case _:
            await exchange.respond(404, b"nothing here\n")


async def large() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield bytes(10_000)


async def main() -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, app, 0)
        async with scope.open_http_client(base_url=f"http://localhost:{server.port}") as client:
            async with client.request("GET", "/") as response:
                print(response.status, await response.read())
            async with client.request("POST", "/sum", json=[1, 2, 3]) as response:
                print(await response.json())
            async with client.request("GET", "/count") as response:
                print(b"".join([chunk async for chunk in response]))
            async with client.request("PUT", "/file", content=large()) as response:
                print(response.status, await response.read())
            try:
                async with client.request("GET", "/missing") as response:
                    response.raise_for_status()
            except trionet.HTTPStatusError as exc:
                print(exc.response.status)
            print(client.statistics().opened, "connection")
        scope.cancel()


trio.run(main)
