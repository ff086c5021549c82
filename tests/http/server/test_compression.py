"""`Compression`: which responses are compressed, what becomes of their fields, and when a piece can be read."""

import contextlib
import gzip
import os

import pytest
import trio

import trionet
from trionet import Compression, LocalProtocolError
from trionet.http.coding import make_decoder
from trionet.http.coding.compressors import available_codings, make_compressor
from trionet.http.server.recipe import to_http_server

from ...helpers.http_served import ask, get
from ...helpers.pairs import memory_pair

TEXT = "one line of a text, and another one like it\n" * 100
JSON = ("Content-Type", "application/json")
GZIP = "Accept-Encoding: gzip"


def decoded(answer):
    """What a client makes of the body: all of it, to the end of the coded data."""
    decoder = make_decoder(answer.fields.get("content-encoding"))
    if decoder is None:
        return answer.body
    data = b"".join(decoder.decode(answer.body))
    decoder.end()
    return data


async def answer_of(handler, *lines, compression=None, method="GET", version="1.1", path="/"):
    """The answer to one request, of a server that compresses."""
    async with trionet.open_scope() as scope:
        one, client = memory_pair(scope)
        http = await one.upgrade(to_http_server(compression=compression or Compression()))

        async def serve():
            async for exchange in http:
                await handler(exchange)

        scope.start_soon(serve)
        answer = await ask(client, get(path, *lines, method=method, version=version), method)
        scope.cancel()
    return answer


async def serve_one(handler):
    """A served connection, of which the client's end and the error that the handler ended with are given."""
    outcome = []
    async with trionet.open_scope() as scope:
        one, client = memory_pair(scope)
        http = await one.upgrade(to_http_server(compression=Compression()))

        async def serve():
            async for exchange in http:
                try:
                    await handler(exchange)
                except Exception as exc:  # noqa: BLE001
                    outcome.append(exc)

        scope.start_soon(serve)
        await client.send_all(get("/", GZIP))
        data = b""
        with contextlib.suppress(trionet.HandleBrokenError):
            while chunk := await client.receive_some():
                data += chunk
        scope.cancel()
    return data, outcome


def saying(body=TEXT, status=200, **options):
    async def handler(exchange):
        await exchange.respond(status, body, **options)

    return handler


# --- what is compressed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", available_codings())
@pytest.mark.parametrize("size", [1024, 16384, 16385, 65536, 300_000])
async def test_a_whole_response(coding, size):
    body = (TEXT * 80)[:size]
    answer = await answer_of(saying(body), f"Accept-Encoding: {coding}")
    assert answer.fields["content-encoding"] == coding
    assert answer.fields["vary"] == "Accept-Encoding"
    assert answer.fields["content-type"] == "text/plain; charset=utf-8"
    assert int(answer.fields["content-length"]) == len(answer.body) < size / 4
    assert decoded(answer) == body.encode()


@pytest.mark.parametrize("body", [bytearray(TEXT.encode()), memoryview(TEXT.encode())])
async def test_other_kinds_of_bytes(body):
    answer = await answer_of(saying(body, headers=[("Content-Type", "text/css")]), GZIP)
    assert gzip.decompress(answer.body) == TEXT.encode()


async def test_all_codings_are_offered_and_the_cheapest_is_taken():
    assert Compression().codings == ("zstd", "br", "gzip")
    assert (await answer_of(saying(), "Accept-Encoding: gzip, br, zstd")).fields["content-encoding"] == "zstd"
    only = Compression(codings=("gzip",))
    assert (await answer_of(saying(), "Accept-Encoding: gzip, br", compression=only)).fields[
        "content-encoding"
    ] == "gzip"


@pytest.mark.parametrize("lines", [(), ("Accept-Encoding: identity",), ("Accept-Encoding: gzip;q=0",)])
async def test_a_client_that_does_not_ask_gets_the_body_and_caches_learn_that_others_do_not(lines):
    answer = await answer_of(saying(headers=[("ETag", '"1"')]), *lines)
    assert answer.body == TEXT.encode()
    assert "content-encoding" not in answer.fields
    assert answer.fields["vary"] == "Accept-Encoding"
    assert answer.fields["etag"] == '"1"'


@pytest.mark.parametrize(
    "fields",
    [
        [("Content-Type", "image/png")],
        [("Content-Type", "application/octet-stream")],
        [("Content-Type", "text/event-stream")],
        [("Content-Type", "")],
        [JSON, ("Content-Encoding", "gzip")],
        [JSON, ("Content-Encoding", "identity")],
        [JSON, ("Content-Range", "bytes 0-4399/9999")],
        [JSON, ("Cache-Control", "private, No-Transform")],
        [JSON, ("Content-Digest", "sha-256=:AAAA:")],
        [JSON, ("Repr-Digest", "sha-256=:AAAA:")],
        [JSON, ("Content-MD5", "AAAA")],
        [JSON, ("Set-Cookie", "a=b")],
    ],
)
async def test_what_is_left_alone(fields):
    """Also not said to vary: it is the same for everybody."""
    answer = await answer_of(saying(TEXT.encode(), headers=fields), GZIP)
    assert answer.body == TEXT.encode()
    assert answer.fields.get("content-encoding") == dict(fields).get("Content-Encoding")
    assert "vary" not in answer.fields


async def test_no_compression_by_default():
    async with trionet.open_scope() as scope:
        one, client = memory_pair(scope)
        http = await one.upgrade(to_http_server())

        async def serve():
            async for exchange in http:
                await exchange.respond(200, TEXT)

        scope.start_soon(serve)
        answer = await ask(client, get("/", GZIP))
        assert answer.body == TEXT.encode()
        assert "vary" not in answer.fields
        scope.cancel()


@pytest.mark.parametrize("kind", ["text/html", "application/problem+json; a=b", "image/svg+xml", "Application/JSON"])
async def test_formats_that_are_text(kind):
    answer = await answer_of(saying(TEXT.encode(), headers=[("Content-Type", kind)]), GZIP)
    assert answer.fields["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", [204, 205, 206, 304])
async def test_statuses_without_a_whole_body(status):
    answer = await answer_of(saying(b"", status, headers=[JSON]), GZIP, compression=Compression(min_size=0))
    assert answer.status == status
    assert "content-encoding" not in answer.fields


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_all_others(status):
    assert (await answer_of(saying(status=status), GZIP)).fields["content-encoding"] == "gzip"


async def test_tiny_bodies_and_those_that_would_grow():
    least = Compression(min_size=100)
    assert "vary" not in (await answer_of(saying("a" * 99), GZIP, compression=least)).fields
    assert "content-encoding" in (await answer_of(saying("a" * 100), GZIP, compression=least)).fields
    noise = os.urandom(2000)
    answer = await answer_of(saying(noise, headers=[JSON, ("Accept-Ranges", "bytes")]), GZIP)
    assert answer.body == noise
    assert "content-encoding" not in answer.fields
    assert answer.fields["vary"] == "Accept-Encoding"
    assert answer.fields["accept-ranges"] == "bytes"
    assert (await answer_of(saying("", headers=[JSON]), GZIP, compression=Compression(min_size=0))).body == b""


@pytest.mark.parametrize("given", ["method", "field"])
async def test_a_secret_in_a_cookie_is_not_compressed_beside_what_others_can_write(given):
    """BREACH: the length of the compressed response tells how much of the two is alike."""

    async def handler(exchange):
        if given == "method":
            exchange.set_cookie("session", "secret")
        await exchange.respond(200, TEXT, headers=[("Set-Cookie", "session=secret")] if given == "field" else ())

    assert (await answer_of(handler, GZIP)).body == TEXT.encode()
    answer = await answer_of(handler, GZIP, compression=Compression(with_cookies=True))
    assert decoded(answer) == TEXT.encode()
    assert answer.fields["set-cookie"].startswith("session=secret")


async def test_a_client_of_http_1_0_gets_no_body_without_an_end():
    answer = await answer_of(saying(), GZIP, version="1.0")
    assert answer.body == TEXT.encode()
    assert answer.fields["vary"] == "Accept-Encoding"


# --- fields ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("etag", "weak"), [('"1"', 'W/"1"'), ('W/"2"', 'W/"2"')])
async def test_validators_and_ranges(etag, weak):
    fields = [("ETag", etag), ("Accept-Ranges", "bytes"), ("Content-Length", str(len(TEXT)))]
    answer = await answer_of(saying(headers=fields), GZIP)
    assert answer.fields["etag"] == weak
    assert "accept-ranges" not in answer.fields
    assert decoded(answer) == TEXT.encode()


@pytest.mark.parametrize(
    ("given", "vary"), [("Origin", b"Vary: Origin\r\nVary: Accept-Encoding"), ("*", b"Vary: *"),
                        ("accept-ENCODING, Origin", b"Vary: accept-ENCODING, Origin")]
)  # fmt: skip
async def test_vary_is_added_to_what_is_there(given, vary):
    async def handler(exchange):
        await exchange.respond(200, TEXT, headers=[("Vary", given)])

    async with trionet.open_scope() as scope:
        one, client = memory_pair(scope)
        http = await one.upgrade(to_http_server(compression=Compression()))

        async def serve():
            async for exchange in http:
                await handler(exchange)

        scope.start_soon(serve)
        await client.send_all(get("/", GZIP))
        head = await client.receive_until(b"\r\n\r\n", max_bytes=9999)
        assert vary in head
        assert head.count(b"Vary") == vary.count(b"Vary")
        scope.cancel()


@pytest.mark.parametrize("wrong", ["7", "x", "9" * 40])
async def test_a_wrong_length_is_refused_as_without_compression(wrong):
    async def handler(exchange):
        with pytest.raises(LocalProtocolError, match=r"Content-Length|not a length|digits"):
            await exchange.respond(200, TEXT, headers=[("Content-Length", wrong)])
        await exchange.respond(500, b"")

    assert (await answer_of(handler, GZIP)).status == 500


@pytest.mark.parametrize("tail", ["", "stream"])
async def test_head_has_the_fields_of_get(tail):
    async def handler(exchange):
        if not tail:
            await exchange.respond(200, TEXT)
            return
        async with exchange.stream(200, headers=[JSON], length=len(TEXT)) as stream:
            await stream.send(TEXT)

    one = await answer_of(handler, GZIP)
    other = await answer_of(handler, GZIP, method="HEAD")
    for answer in (one, other):
        del answer.fields["date"]
        answer.fields.pop("transfer-encoding", None)  # is about a body that comes
    assert one.fields == other.fields
    assert other.body == b""


async def test_a_file_keeps_its_ranges_and_conditions(tmp_path):
    """A range is one of the file as it is. What is compressed has another tag, which finds the file again."""
    (tmp_path / "page.html").write_text(TEXT * 30)
    (tmp_path / "image.png").write_bytes(TEXT.encode())

    async def handler(exchange):
        await exchange.respond_file(exchange.path, root=tmp_path)

    answer = await answer_of(handler, GZIP, path="/page.html")
    assert decoded(answer) == TEXT.encode() * 30
    assert "transfer-encoding" in answer.fields
    tag = answer.fields["etag"]
    assert tag.startswith("W/")
    again = await answer_of(handler, GZIP, f"If-None-Match: {tag}", path="/page.html")
    assert (again.status, again.fields["etag"], again.fields["vary"]) == (304, tag, "Accept-Encoding")
    strong = await answer_of(handler, f"If-None-Match: {tag[2:]}", path="/page.html")
    assert (strong.status, strong.fields["etag"]) == (304, tag[2:])
    part = await answer_of(handler, GZIP, "Range: bytes=5-9", path="/page.html")
    assert (part.status, part.body) == (206, TEXT[5:10].encode())
    assert "content-encoding" not in part.fields
    whole = await answer_of(handler, GZIP, "Range: bytes=5-9", f"If-Range: {tag}", path="/page.html")
    assert whole.status == 200
    assert (await answer_of(handler, GZIP, path="/image.png")).body == TEXT.encode()


# --- in pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", available_codings())
async def test_each_piece_of_a_stream_can_be_read_at_once(coding):
    async with trionet.open_scope() as scope:
        one, client = memory_pair(scope)
        http = await one.upgrade(to_http_server(compression=Compression()))
        proceed = trio.Event()

        async def serve():
            async for exchange in http:
                async with exchange.stream(200, headers=[JSON]) as stream:
                    await stream.flush()
                    await stream.send("first")
                    await proceed.wait()
                    await stream.send(b"second" * 50_000)
                    stream.trailers([("X-Sum", "1")])

        scope.start_soon(serve)
        await client.send_all(get("/", f"Accept-Encoding: {coding}"))
        head = await client.receive_until(b"\r\n\r\n", max_bytes=9999)
        assert f"Content-Encoding: {coding}".encode() in head
        decoder, found = make_decoder(coding), b""
        assert decoder is not None
        while found != b"first":
            size = int(await client.receive_until(b"\r\n", max_bytes=9), 16)
            found += b"".join(decoder.decode(await client.receive_exactly(size)))
            await client.receive_exactly(2)
        proceed.set()
        while size := int(await client.receive_until(b"\r\n", max_bytes=9), 16):
            found += b"".join(decoder.decode(await client.receive_exactly(size)))
            await client.receive_exactly(2)
        decoder.end()
        assert found == b"first" + b"second" * 50_000
        assert await client.receive_until(b"\r\n\r\n", max_bytes=99) == b"X-Sum: 1\r\n\r\n"
        scope.cancel()


async def test_iterables():
    async def pieces():
        for line in TEXT.splitlines(keepends=True):
            yield line.encode()

    assert decoded(await answer_of(saying(pieces(), headers=[JSON]), GZIP)) == TEXT.encode()


async def test_long_pieces_of_several_tasks_stay_whole():
    ours, theirs = b"a" * 200_000, b"b" * 200_000

    async def handler(exchange):
        async with exchange.stream(200, headers=[JSON]) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, ours)
            nursery.start_soon(stream.send, theirs)

    assert decoded(await answer_of(handler, GZIP)) in (ours + theirs, theirs + ours)


@pytest.mark.parametrize("how", ["argument", "field"])
async def test_the_length_of_a_stream_is_kept_account_of(how):
    async def handler(exchange):
        options = {"length": 2000} if how == "argument" else {"headers": [JSON, ("Content-Length", "2000")]}
        async with exchange.stream(200, **{"headers": [JSON], **options}) as stream:
            await stream.send(b"a" * 1500)
            with pytest.raises(LocalProtocolError, match="longer than its Content-Length of 2000: 1500 bytes"):
                await stream.send(b"a" * 501)
            await stream.send(b"a" * 500)

    answer = await answer_of(handler, GZIP)
    assert decoded(answer) == b"a" * 2000
    assert "content-length" not in answer.fields


async def test_a_stream_that_is_too_short_is_truncated():
    async def handler(exchange):
        async with exchange.stream(200, headers=[JSON], length=2000) as stream:
            await stream.send(b"a" * 1999)

    data, [error] = await serve_one(handler)
    assert isinstance(error, LocalProtocolError)
    assert not data.endswith(b"0\r\n\r\n")


async def test_a_piece_that_was_cancelled_in_the_middle_truncates_the_response():
    """The compressor has taken bytes that the client will never see: what came behind them would be garbage."""

    async def handler(exchange):
        async with exchange.stream(200, headers=[JSON]) as stream:
            await stream.flush()
            with trio.CancelScope() as scope:

                async def cancel():
                    scope.cancel()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel)
                    await stream.send(os.urandom(2_000_000))
            assert scope.cancelled_caught
            await stream.send(b"more")

    data, [error] = await serve_one(handler)
    assert isinstance(error, (trionet.HandleBrokenError, trionet.HandleClosedError))
    assert not data.endswith(b"0\r\n\r\n")


async def test_a_piece_that_was_cancelled_before_it_began_changes_nothing():
    async def handler(exchange):
        async with exchange.stream(200, headers=[JSON]) as stream:
            await stream.send(b"first")
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.send(b"never")
            await stream.send(b"second")

    assert decoded(await answer_of(handler, GZIP)) == b"firstsecond"


async def test_a_handler_that_fails_before_the_first_piece_can_respond_otherwise():
    async def handler(exchange):
        with pytest.raises(OSError, match="lost"):
            async with exchange.stream(200, headers=[JSON]):
                raise OSError("lost")
        await exchange.respond(503, "sorry")

    answer = await answer_of(handler, GZIP)
    assert (answer.status, answer.body) == (503, b"sorry")


async def test_a_long_body_lets_other_tasks_run():
    turns = []

    async def handler(exchange):
        async def count():
            while True:
                turns.append(1)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            before = len(turns)
            await exchange.respond(200, b"a" * 65536 * 8, headers=[JSON])
            assert len(turns) - before >= 7
            nursery.cancel_scope.cancel()

    assert decoded(await answer_of(handler, GZIP)) == b"a" * 65536 * 8


# --- options --------------------------------------------------------------------------------------------------------


async def test_a_server_is_given_it():
    async def handler(exchange):
        await exchange.respond(200, json=["a"] * 1000)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda task_status: trionet.serve_http(
                handler, 0, host="127.0.0.1", compression=Compression(), task_status=task_status
            )
        )
        url = f"http://127.0.0.1:{server.port}/"
        async with trionet.open_http_client() as client, client.request("GET", url) as response:
            assert await response.json() == ["a"] * 1000
            assert response.headers["Content-Encoding"] == "zstd"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"codings": "gzip"}, TypeError, r"codings must be a tuple of names such as \('zstd', 'gzip'\), not 'gzip'"),
        ({"codings": (b"gzip",)}, TypeError, "codings must be a tuple"),
        ({"codings": ("deflate",)}, ValueError, "codings must be of 'zstd', 'br', 'gzip', not 'deflate'"),
        ({"min_size": -1}, ValueError, "min_size"),
        ({"min_size": 1.5}, TypeError, "min_size"),
        ({"with_cookies": 1}, TypeError, "with_cookies"),
    ],
)
def test_what_it_does_not_take(options, error, says):
    with pytest.raises(error, match=says):
        Compression(**options)


def test_what_is_not_installed_is_not_offered(monkeypatch):
    monkeypatch.setattr("trionet.http.coding.compressors.brotli", lambda: None)
    monkeypatch.setattr("trionet.http.coding.compressors.zstd", lambda: None)
    assert Compression().codings == ("gzip",)
    with pytest.raises(ValueError, match=r"the package for 'br' is not installed: pip install 'trionet\[codings\]'"):
        Compression(codings=("br",))


def test_a_recipe_takes_nothing_else():
    with pytest.raises(TypeError, match=r"compression must be a trionet.Compression, not True|compression"):
        to_http_server(compression=True)


@pytest.mark.parametrize("coding", available_codings())
def test_a_compressor_gives_all_that_it_took_when_it_is_flushed(coding):
    compressor = make_compressor(coding)
    decoder = make_decoder(coding)
    assert decoder is not None
    for part in (b"a", b"b" * 100_000, os.urandom(1000)):
        assert b"".join(decoder.decode(compressor.encode(part) + compressor.flush())) == part
    assert b"".join(decoder.decode(compressor.finish())) == b""
    decoder.end()
