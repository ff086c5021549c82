"""Clients and proxies that nobody here has written, on `serve_asgi`: curl, websockets, nginx."""

import shutil
import textwrap

import pytest
import trio
import websockets.trio.client

from ..helpers.asgi_served import START, body, read_all, respond, serving

CURL = shutil.which("curl")
NGINX = shutil.which("nginx")
PATIENCE = 20


async def curl(*arguments):
    """What curl prints."""
    command = [CURL, "--silent", "--show-error", "--max-time", "20", *arguments]
    return (await trio.run_process(command, capture_stdout=True)).stdout


@pytest.mark.skipif(CURL is None, reason="curl is not installed (apt-get install curl)")
async def test_curl(tmp_path):
    async def app(scope, receive, send):
        if scope["path"] == "/stream":
            await send({**START, "trailers": True})
            for piece in (b"one", b"two"):
                await send(body(piece, more=True))
            await send(body())
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"2")]})
        else:
            await respond(send, b"%d bytes" % len(await read_all(receive)))

    (tmp_path / "large").write_bytes(b"x" * 5_000_000)
    async with serving(app) as served:
        url = f"http://127.0.0.1:{served.server.port}"
        assert await curl(url + "/", url + "/") == b"0 bytes" * 2
        assert await curl("--data-binary", f"@{tmp_path / 'large'}", url) == b"5000000 bytes"
        assert await curl("-T", str(tmp_path / "large"), "-H", "Transfer-Encoding: chunked", url) == b"5000000 bytes"
        assert await curl("--http1.0", url + "/stream") == b"onetwo"
        printed = await curl("--raw", url + "/stream")
        assert printed == b"3\r\none\r\n3\r\ntwo\r\n0\r\nx-sum: 2\r\n\r\n"
        head = await curl("--head", url)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_websockets_as_a_client(compression):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "chat"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        codes.append((message["code"], message["reason"]))

    codes = []
    async with serving(app) as served:
        connect = websockets.trio.client.connect(
            f"ws://127.0.0.1:{served.server.port}/", subprotocols=["chat"], compression=compression
        )
        async with connect as ws:
            assert ws.subprotocol == "chat"
            for message in ("text", b"bytes", "x" * 70_000):
                await ws.send(message)
                assert await ws.recv() == message
            await ws.aclose(3333, "done")
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert codes == [(3333, "done")]


@pytest.fixture
async def nginx(tmp_path):
    """Starts nginx with the configuration that everybody has, in front of a port: gives its own port."""
    if NGINX is None:
        pytest.skip("nginx is not installed (apt-get install nginx)")

    async def start(nursery, port):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as free:
            own = free.getsockname()[1]
        (tmp_path / "nginx.conf").write_text(
            textwrap.dedent(f"""
            daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {tmp_path}/a; proxy_temp_path {tmp_path}/b; fastcgi_temp_path {tmp_path}/c;
                uwsgi_temp_path {tmp_path}/d; scgi_temp_path {tmp_path}/e;
                map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
                server {{
                    listen 127.0.0.1:{own};
                    location / {{
                        proxy_pass http://127.0.0.1:{port};
                        proxy_http_version 1.1;
                        proxy_set_header Host $host;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection $connection_upgrade;
                        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                        proxy_set_header X-Forwarded-Proto $scheme;
                    }}
                }}
            }}
            """)
        )
        await nursery.start(trio.run_process, [NGINX, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", own)
                except OSError:
                    await trio.sleep(0.02)
                else:
                    await stream.aclose()
                    return own

    return start


@pytest.mark.skipif(CURL is None, reason="curl is not installed (apt-get install curl)")
async def test_through_nginx_nobody_forges_where_he_comes_from(nginx):
    """The client sends every field that anybody believes somewhere; what nginx passes on unchanged does not count."""
    scopes = []

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["scheme"]})
        else:
            scopes.append(scope)
            await respond(send)

    lies = (
        "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 666", "Forwarded: for=6.6.6.6;proto=https;host=evil.example",
    )  # fmt: skip
    async with serving(app) as served, trio.open_nursery() as nursery:
        port = await nginx(nursery, served.server.port)
        assert await curl(*(part for lie in lies for part in ("-H", lie)), f"http://127.0.0.1:{port}/") == b"ok"
        async with websockets.trio.client.connect(f"ws://127.0.0.1:{port}/") as ws:
            assert await ws.recv() == "ws"
        nursery.cancel_scope.cancel()
    [scope] = scopes
    # nginx is trusted, and so is the client's own address: the last that is not is what the client has written before
    # it. With the client on another machine, its address would be that last one.
    assert scope["scheme"] == "http"
    assert dict(scope["headers"])[b"host"] == b"127.0.0.1"
    assert scope["client"][0] == "6.6.6.6"


@pytest.mark.skipif(CURL is None, reason="curl is not installed (apt-get install curl)")
async def test_through_nginx_with_a_client_that_is_not_trusted(nginx):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    async with serving(app, forwarded_allow_ips=["127.0.0.1"]) as served, trio.open_nursery() as nursery:
        port = await nginx(nursery, served.server.port)
        lie = "X-Forwarded-For: 6.6.6.6"
        assert await curl("--interface", "127.0.0.9", "-H", lie, f"http://127.0.0.1:{port}/") == b"ok"
        nursery.cancel_scope.cancel()
    assert scopes[0]["client"][0] == "127.0.0.9"
