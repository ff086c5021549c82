"""Every way in which a request fails: the class that says what happened, the words, and whether a retry is safe.

Each failure is also an `HTTPClientError`. A retry is called safe only where that is true and helps.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import trio

import trionet
from trionet.http.protocol.limits import HTTPLimits

from ...helpers.http_by_hand import HELLO, Asked, serving

SAFE = "nothing of the request was sent: a retry is safe"
UNSENT = r"\(nothing of the request was sent\)$"


class Failure(NamedTuple):
    """What a request fails with, and what `retry_safe` is for GET and for POST."""

    kind: type[Exception]
    text: str
    safe: tuple[bool | None, bool | None]


def answers(wire: bytes, *, then: str = "wait") -> Callable[[trionet.Connection, Asked], Awaitable[None]]:
    async def answer(connection: trionet.Connection, asked: Asked) -> None:
        await connection.send_all(wire)
        if then == "end":
            await connection.aclose()
        if then == "reset":
            connection._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.abort()

    return answer


def whole(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, head, len(body), body)


ANSWERED: dict[str, tuple[Any, Failure]] = {
    # The connection broke: another attempt may find a better one.
    "ended": (answers(b"", then="end"), Failure(trionet.RemoteProtocolError, "instead of answering", (True, False))),
    "reset": (answers(b"", then="reset"), Failure(trionet.HandleBrokenError, "reset", (True, False))),
    "half a head": (
        answers(b"HTTP/1.1 200", then="end"),
        Failure(trionet.RemoteProtocolError, "EOF in the middle of a head", (True, False)),
    ),
    "half a body": (
        answers(HELLO[:-1], then="end"),
        Failure(trionet.RemoteProtocolError, "1 of 5 bytes missing", (True, False)),
    ),
    "half a coded body up to the end": (
        answers(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello")[:-4], then="end"),
        Failure(trionet.RemoteProtocolError, "in the middle of its gzip data", (True, False)),
    ),
    # The server means it: it would say the same again.
    "malformed": (
        answers(b"SSH-2.0-OpenSSH\r\n"),
        Failure(trionet.RemoteProtocolError, "does not begin with", (None, False)),
    ),
    "oversized head": (
        answers(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000),
        Failure(trionet.RemoteProtocolError, "max_head", (None, False)),
    ),
    "too many fields": (
        answers(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
        Failure(trionet.RemoteProtocolError, "max_fields", (None, False)),
    ),
    "two lengths": (
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        Failure(trionet.RemoteProtocolError, "Content-Length", (None, False)),
    ),
    "bad chunk": (
        answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"),
        Failure(trionet.RemoteProtocolError, "chunk", (None, False)),
    ),
    "not gzip": (
        answers(whole(b"hello", b"Content-Encoding: gzip")),
        Failure(trionet.RemoteProtocolError, "not gzip data", (None, False)),
    ),
    "half a coded body": (
        answers(whole(gzip.compress(b"hello")[:-4], b"Content-Encoding: gzip")),
        Failure(trionet.RemoteProtocolError, "in the middle of its gzip data", (None, False)),
    ),
    "too many codings": (
        answers(whole(b"hello", b"Content-Encoding: gzip, gzip, gzip")),
        Failure(trionet.RemoteProtocolError, "3 content codings", (None, False)),
    ),
    "a redirect to nowhere": (
        answers(whole(b"", b"Location: gopher://x", status=b"302 Found")),
        Failure(trionet.RemoteProtocolError, "gopher", (None, False)),
    ),
    "a redirect in a circle": (
        answers(whole(b"", b"Location: /", status=b"307 Again")),
        Failure(trionet.TooManyRedirectsError, "max_redirects", (None, False)),
    ),
    # It is an answer; what to make of it is the program's business.
    "a status": (
        answers(whole(b"no", status=b"404 Not Found")),
        Failure(trionet.HTTPStatusError, "was answered with 404 Not Found$", (None, None)),
    ),
    "a long body": (
        answers(whole(bytes(101))),
        Failure(trionet.LimitExceededError, r"longer than 100 bytes .*: Content-Length says 101$", (None, None)),
    ),
    "a body that grows long": (
        answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + bytes(101)),
        Failure(
            trionet.LimitExceededError, r"longer than 100 bytes \(max_bytes\): 101 have been received$", (None, None)
        ),
    ),
}  # fmt: skip


async def fail(client: trionet.HTTPClient, method: str, url: str, expected: Failure) -> Exception:
    """What the request has failed with, which is an `HTTPClientError` and the same for who catches the other class."""
    with pytest.raises(trionet.HTTPClientError, match=expected.text) as caught:
        async with client.request(method, url) as response:
            response.raise_for_status()
            await response.read(max_bytes=100)
    error = caught.value
    assert isinstance(error, expected.kind)
    assert type(error).__name__ == expected.kind.__name__
    safe = expected.safe[method == "POST"]
    assert error.retry_safe is safe
    said = "a retry is safe" if "a retry is safe" in str(error) else "not safe" if "not safe" in str(error) else ""
    assert said == {True: "a retry is safe", False: "not safe", None: ""}[safe]
    assert "Errno None" not in str(error)
    assert client.statistics().running == 0
    return error


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("what", ANSWERED)
async def test_a_request_that_was_sent_and_failed(what, method):
    answer, expected = ANSWERED[what]
    async with serving(answer) as server, trionet.open_http_client() as client:
        await fail(client, method, f"{server.url}/", expected)


# --- before anything was sent -----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.asynccontextmanager
async def saying(wire: bytes) -> AsyncIterator[int]:
    """A server that reads once, says this, and ends the connection; without `wire` it ends it at once."""

    async def handle(connection: trionet.Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await connection.receive_some()
            await connection.send_all(wire)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handle, 0)
        yield server.port
        nursery.cancel_scope.cancel()


def refusal(status: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("through", ["", "http", "https", "socks5h"])
async def test_who_is_not_there_is_named_and_a_proxy_as_a_proxy(through, method, client_context):
    port = free_port()
    where = f"the proxy {through}://127.0.0.1:{port}" if through else f"127.0.0.1:{port}"
    proxy = f"{through}://user:secret@127.0.0.1:{port}" if through else None
    text = (
        rf"^\[Errno {errno.ECONNREFUSED}\] cannot connect to {where}: .*Connection refused \(nothing was sent: a retry"
    )
    async with trionet.open_http_client(proxy=proxy, ssl_context=client_context) as client:
        url = "http://host.example/" if through else f"http://127.0.0.1:{port}/"
        error = await fail(client, method, url, Failure(ConnectionRefusedError, text, (True, True)))
        assert isinstance(error, OSError)
        assert error.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("url", "options", "kind", "text", "safe"),
    [
        ("http://nosuchname.invalid/", {}, socket.gaierror, r"nosuchname.invalid:80: .*\(nothing was sent\)$", None),
        ("http://localhost/", {"unix_path": "/no/such"}, FileNotFoundError, "/no/such: .*a retry is safe", True),
        ("http://127.0.0.1:9/", {"local_address": "::1"}, OSError, r"127.0.0.1:9: .*\(nothing was sent\)$", None),
    ],
)
async def test_what_cannot_be_connected_to(url, options, kind, text, safe):
    async with trionet.open_http_client(**options) as client:
        await fail(client, "POST", url, Failure(kind, text, (safe, safe)))


@pytest.mark.parametrize(
    ("wire", "text", "safe"),
    [
        (b"", "ended the connection", True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS", None),
        (b"\x15\x03\x03\x00\x02\x02\x28", "handshake", None),  # the alert handshake_failure
    ],
)
async def test_a_server_that_does_not_come_to_tls(wire, text, safe):
    async with saying(wire) as port, trionet.open_http_client() as client:
        url = f"https://localhost:{port}/"
        await fail(client, "POST", url, Failure(trionet.UpgradeFailedError, text, (safe, safe)))


async def test_a_certificate_is_as_wrong_the_next_time(server_context):
    async with serving(HELLO, server_context) as server, trionet.open_http_client() as client:
        expected = Failure(trionet.UpgradeFailedError, f"certificate verify failed.*{UNSENT}", (None, None))
        for method in ("GET", "POST"):
            await fail(client, method, server.url, expected)


async def test_a_certificate_that_the_server_misses_is_missed_the_next_time(
    server_context, client_context, monkeypatch
):
    """With TLS 1.3 the server says so behind the handshake: the request has been sent by then."""
    monkeypatch.setattr(server_context, "verify_mode", ssl.CERT_REQUIRED)
    async with (
        serving(HELLO, server_context) as server,
        trionet.open_http_client(ssl_context=client_context) as client,
    ):
        expected = Failure(trionet.HandleBrokenError, "the peer sent the alert 'certificate required'", (None, False))
        for method in ("GET", "POST"):
            await fail(client, method, server.url, expected)


async def test_a_handshake_that_takes_too_long_is_too_slow(autojump_clock):
    async def handle(connection: trionet.Connection) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handle, 0)
        async with trionet.open_http_client() as client:
            expected = Failure(trionet.UpgradeFailedError, f"within 10 s.*{SAFE}", (True, True))
            with pytest.raises(trio.TooSlowError):
                async with client.request("GET", f"https://localhost:{server.port}/"):
                    pass
            with pytest.raises(trionet.UpgradeFailedError, match=expected.text) as caught:
                async with client.request("GET", f"https://localhost:{server.port}/"):
                    pass
            assert isinstance(caught.value, trionet.HTTPClientError)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("scheme", "wire", "kind", "text", "safe"),
    [
        ("http", refusal(b"407 Who"), trionet.UpgradeRefusedError, f"407 Who {UNSENT}", None),
        ("http", refusal(b"403 No"), trionet.UpgradeRefusedError, f"403 No {UNSENT}", None),
        ("http", refusal(b"429 Slow"), trionet.UpgradeRefusedError, f"429 Slow .*{SAFE}", True),
        ("http", refusal(b"502 Bad"), trionet.UpgradeRefusedError, f"502 Bad .*{SAFE}", True),
        ("http", b"HTTP/1.1 403 No\r\n\r\n", trionet.UpgradeFailedError, f"403 No.*{UNSENT}", None),
        ("http", b"SSH-2.0\r\n\r\n", trionet.UpgradeFailedError, UNSENT, None),
        ("http", b"", trionet.UpgradeFailedError, f"instead of answering.*{SAFE}", True),
        ("socks5h", b"\5\xff", trionet.UpgradeFailedError, f"accepts none.*{UNSENT}", None),
        ("socks5h", b"\4\0", trionet.UpgradeFailedError, f"not a SOCKS5 proxy.*{UNSENT}", None),
        ("socks5h", b"\5", trionet.UpgradeFailedError, f"in the middle of its reply.*{SAFE}", True),
        ("socks5h", b"\5\0\5\2\0\1", trionet.UpgradeFailedError, f"rules do not allow.*{UNSENT}", None),
        ("socks5h", b"\5\0\5\4\0\1", trionet.UpgradeFailedError, f"host unreachable.*{SAFE}", True),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", trionet.UpgradeFailedError, f"speak TLS.*{UNSENT}", None),
    ],
)
async def test_a_proxy_that_does_not_lead_on_is_named(scheme, wire, kind, text, safe):
    async with saying(wire) as port:
        proxy = f"{scheme}://127.0.0.1:{port}"
        async with trionet.open_http_client(proxy=proxy) as client:
            whole_text = f"the proxy {proxy}: .*{text}"
            await fail(client, "POST", "https://host.example/", Failure(kind, whole_text, (safe, safe)))
            assert client.scope.handles == ()


# --- on this side -----------------------------------------------------------------------------------------------


async def test_a_client_that_is_closed_has_sent_nothing():
    async with trionet.open_http_client() as client:
        await client.aclose()
        await fail(client, "POST", "http://127.0.0.1:9/", Failure(trionet.ScopeClosedError, SAFE, (True, True)))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_is_aborted_may_have_sent_it(method):
    async with trionet.open_http_client() as client:

        async def abort(connection: trionet.Connection, asked: Asked) -> None:
            client.abort()

        async with serving(abort) as server:
            await fail(client, method, server.url, Failure(trionet.HandleClosedError, "interrupted", (True, False)))


@pytest.mark.parametrize("status", [302, 303])
@pytest.mark.parametrize("there", ["nobody", "ended", "cut off", "garbage"])
async def test_what_was_carried_out_before_its_redirect_is_not_safe_to_be_sent_again(status, there):
    """The error was that of a GET of which nothing was sent; but the program had asked for a POST, and got it."""

    async def answer(connection: trionet.Connection, asked: Asked) -> None:
        if asked.target == "/":
            location = "http://127.0.0.1:1/" if there == "nobody" else "/there"
            await connection.send_all(whole(b"", f"Location: {location}".encode(), status=b"%d See" % status))
        else:
            await connection.send_all({"cut off": HELLO[:-1], "garbage": b"x\r\n\r\n"}.get(there, b""))
            await connection.aclose()

    async with serving(answer) as server, trionet.open_http_client() as client:
        with pytest.raises(trionet.HTTPClientError, match=r"\(POST is not idempotent and [^()]*not safe\)$") as caught:
            async with client.request("POST", f"{server.url}/", content=b"x") as response:
                await response.read()
        assert caught.value.retry_safe is False
        assert str(caught.value).count("retry") == 1


async def test_what_was_not_carried_out_before_its_redirect_is_safe_to_be_sent_again():
    leads_on = whole(b"", b"Location: http://127.0.0.1:1/", status=b"307 Elsewhere")
    async with serving(leads_on) as server, trionet.open_http_client() as client:
        with pytest.raises(ConnectionRefusedError) as caught:
            async with client.request("POST", f"{server.url}/", content=b"x"):
                pass
        assert caught.value.retry_safe is True


async def test_a_body_that_cannot_be_sent_on():
    wire = whole(b"", b"Location: /", status=b"307 Again")
    async with serving(wire) as server, trionet.open_http_client() as client:
        for method, safe in (("PUT", None), ("POST", False)):
            with pytest.raises(trionet.BodyNotReplayableError) as caught:
                async with client.request(method, server.url, content=iter([b"x"])):
                    pass
            assert isinstance(caught.value, trionet.HTTPClientError)
            assert caught.value.retry_safe is safe


async def test_a_redirect_from_https_to_http(client_context, server_context):
    wire = whole(b"", b"Location: http://localhost/", status=b"302 Found")
    async with (
        serving(wire, server_context) as server,
        trionet.open_http_client(ssl_context=client_context) as client,
    ):
        expected = Failure(trionet.LocalProtocolError, "allow_downgrade=True", (None, False))
        for method in ("GET", "POST"):
            await fail(client, method, server.url, expected)


async def test_mistakes_of_the_program_are_no_failures_of_a_request():
    async with trionet.open_http_client(limits=HTTPLimits()) as client:
        for method, url, error in (("GET", "ftp://x", ValueError), ("G T", "http://x", trionet.LocalProtocolError)):
            with pytest.raises(error) as caught:
                async with client.request(method, url):
                    pass
            assert not isinstance(caught.value, trionet.HTTPClientError)


def test_the_errors_of_the_client_have_one_base():
    for kind in (trionet.TooManyRedirectsError, trionet.HTTPStatusError, trionet.BodyNotReplayableError):
        assert issubclass(kind, trionet.HTTPClientError)
    assert issubclass(trionet.HTTPClientError, trionet.TrionetError)
    assert not issubclass(ssl.SSLError, trionet.HTTPClientError)
