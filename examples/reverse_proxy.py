"""A reverse proxy: HTTP and WebSocket, bodies as they come, and never the whole of one in memory."""

from contextlib import suppress

import trio

import trionet
from trionet import forwarded_request_headers, forwarded_response_headers, to_connection, to_websocket_server


def proxy(client, backend):
    """A handler that gives every request to `backend`, such as ``"localhost:8000"``."""

    async def app(exchange: trionet.Exchange) -> None:
        if exchange.method in ("CONNECT", "TRACE"):
            raise trionet.HTTPException(501, "This proxy gives no tunnels, and tells nobody what it was sent.\n")
        # Not the target itself: that may be a whole URL, and then a client would choose whom this proxy asks.
        url = f"http://{backend}{exchange.path}" + (f"?{exchange.query}" if exchange.query else "")
        has_body = "content-length" in exchange.headers or "transfer-encoding" in exchange.headers
        body = exchange if has_body else b""
        fields = forwarded_request_headers(exchange, upgrade="websocket" if exchange.wants_websocket else None)
        try:
            async with client.request(exchange.method, url, headers=fields, content=body) as response:
                onward = forwarded_response_headers(response.headers)
                if response.status == 101:  # from here on it is frames, which are the two ends' own business
                    back = exchange.connection.scope.adopt(response.connection.detach())
                    front = await exchange.upgrade(to_connection("websocket", headers=onward))
                    with suppress(trionet.HandleBrokenError):  # a reset on one side has become one on the other
                        await trionet.pump(front, back)
                else:
                    await exchange.respond(response.status, response.raw(), headers=onward)
        except trionet.HTTPClientError as exc:
            if exchange.status:  # the response has begun: what is raised here cuts it off, for all to see
                raise
            await exchange.respond(502, f"{exc}\n")

    return app


async def backend(exchange: trionet.Exchange) -> None:
    """What stands behind the proxy in this program."""
    if exchange.wants_websocket:
        ws = await exchange.upgrade(to_websocket_server())
        async for message in ws:
            await ws.send_message(f"the backend heard {message!r}")
    else:
        await exchange.respond(200, f"{exchange.method} {exchange.target}: {len(await exchange.read())} bytes")


async def main() -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, backend, 0)
        address = f"localhost:{server.port}"
        async with scope.open_http_client(follow_redirects=False) as to_backend:
            front = await scope.start(trionet.serve_http, proxy(to_backend, address), 0)
            async with scope.open_http_client(base_url=f"http://localhost:{front.port}") as client:
                for method, body in ("GET", b""), ("POST", bytes(200_000)):
                    async with client.request(method, "/a?b=c", content=body) as response:
                        print(response.status, (await response.read()).decode())
            async with trionet.open_websocket(f"ws://localhost:{front.port}/chat") as ws:
                await ws.send_message("hello")
                print(await ws.get_message())
            print(await front.drain(5))
        scope.cancel()


if __name__ == "__main__":
    trio.run(main)
