"""curl as a client, a peer that nobody here has written: over TCP, TLS and a Unix socket, and to a WebSocket handshake.

The server answers HTTP by hand, as far as curl needs it; what is tested are connections, TLS and the upgrade.
"""

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


async def answer(connection):
    """One HTTP response, which says what the connection is."""
    head = await connection.receive_until(b"\r\n\r\n", max_bytes=65536)
    said = connection.tls.version.encode() if connection.tls else b"plain"
    body = head.split(b" ", 2)[1] + b" over " + said + b"\n"
    await connection.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)


@pytest.fixture
def certificate(ca, tmp_path):
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


async def test_curl_over_tcp_and_a_unix_socket(nursery, tmp_path):
    server = await nursery.start(trionet.serve_tcp, answer, 0)
    assert await curl(f"http://localhost:{server.port}/tcp") == (0, b"/tcp over plain\n", "")
    await nursery.start(trionet.serve_unix, answer, tmp_path / "sock")
    assert await curl("--unix-socket", str(tmp_path / "sock"), "http://localhost/unix") == (
        0,
        b"/unix over plain\n",
        "",
    )
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl_over_tls(nursery, server_context, certificate, version):
    server = await nursery.start(lambda **kw: trionet.serve_tcp(answer, 0, ssl_context=server_context, **kw))
    url = f"https://localhost:{server.port}/tls"
    pinned = ["--http1.1", f"--tlsv{version}", "--tls-max", version]
    assert await curl("--cacert", certificate, *pinned, url) == (0, f"/tls over TLSv{version}\n".encode(), "")
    nursery.cancel_scope.cancel()


async def test_curl_that_does_not_trust_the_certificate_gets_nothing(nursery, server_context, caplog):
    caplog.set_level("INFO", logger="trionet.server")
    server = await nursery.start(lambda **kw: trionet.serve_tcp(answer, 0, ssl_context=server_context, **kw))
    status, printed, complaint = await curl(f"https://localhost:{server.port}/")
    assert (status, printed) == (60, b"")  # CURLE_PEER_FAILED_VERIFICATION
    assert "SSL certificate problem" in complaint
    with trio.fail_after(10):
        while server.statistics().open:
            await trio.lowlevel.checkpoint()
    assert server.statistics().failed == 0
    assert "TLS handshake" in caplog.text
    assert "unknown ca" in caplog.text.lower()
    nursery.cancel_scope.cancel()


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
