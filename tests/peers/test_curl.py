"""curl makes a WebSocket handshake: a peer that nobody here has written. Its HTTP is in `test_http_server`."""

import shutil

import pytest
import trio

import trionet

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed (apt-get install curl)")


async def curl(*arguments):
    """Run curl: its exit status, what it printed, and what it complained of."""
    result = await trio.run_process(
        [CURL, "--silent", "--show-error", "--max-time", "20", *arguments],
        check=False,
        capture_stdout=True,
        capture_stderr=True,
    )
    return result.returncode, result.stdout, result.stderr.decode()


async def test_curl_speaks_a_websocket_handshake(nursery):
    async def handler(connection):
        websocket = await connection.upgrade(trionet.to_websocket_server(subprotocols=["chat"]))
        await websocket.send_message("hello curl")
        websocket.abort()  # curl answers no close frame

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    _status, printed, _complaint = await curl(
        "--include",
        "--no-buffer",
        *("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13"),
        *("-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-H", "Sec-WebSocket-Protocol: chat"),
        f"http://localhost:{server.port}/",
    )
    head, _, frames = printed.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()  # the example of RFC 6455 §1.3
    assert b"sec-websocket-protocol: chat" in head.lower()
    assert frames.startswith(b"\x81\x0ahello curl")
    nursery.cancel_scope.cancel()


async def test_curl_is_told_which_version_is_wanted(nursery):
    async def handler(connection):
        with pytest.raises(trionet.UpgradeRefusedError):
            await connection.upgrade(trionet.to_websocket_server())

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    status, printed, _ = await curl(
        "--include",
        *("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 8"),
        *("-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        f"http://localhost:{server.port}/",
    )
    assert status == 0
    assert printed.startswith(b"HTTP/1.1 426 ")
    assert b"sec-websocket-version: 13" in printed.lower()
    nursery.cancel_scope.cancel()
