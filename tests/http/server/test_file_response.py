"""`Exchange.respond_file`: types, validators, ranges; and that nothing stays open."""

import contextlib
import os

import pytest
import trio

import trionet
from trionet import LocalProtocolError
from trionet.http.server.open_file import SMALL

from ...helpers.http_served import ask, get, served
from ...helpers.pairs import memory_pair, tcp_pair

LARGE = os.urandom(SMALL * 5 + 3)
FILES = {
    "page.html": b"<p>",
    "notes.txt": "nö".encode(),
    "data.json": b"{}",
    "archive.tar.gz": b"\x1f\x8b",
    "unknown.xyz1": b"?",
    "http:": b"scheme",
    "empty": b"",
    "large.bin": LARGE,
}


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, ns=(0, 784111777 * 10**9 + 5))
    return tmp_path


@pytest.fixture
def open_files():
    """How many descriptors there are beyond those at the beginning."""
    before = len(os.listdir("/proc/self/fd"))
    return lambda: len(os.listdir("/proc/self/fd")) - before


def serving(folder, **options):
    async def handler(exchange):
        await exchange.respond_file(exchange.path, root=folder, **options)

    return handler


@pytest.mark.parametrize("make_pair", [tcp_pair, memory_pair])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.html", "text/html; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("data.json", "application/json"),
        ("archive.tar.gz", "application/gzip"),
        ("unknown.xyz1", "application/octet-stream"),
        ("http:", "application/octet-stream"),
        ("empty", "application/octet-stream"),
        ("large.bin", "application/octet-stream"),
    ],
)
async def test_a_file_with_its_type_and_validators(folder, name, kind, make_pair):
    async with served(serving(folder), make_pair=make_pair) as it:
        for method in ("GET", "HEAD", "GET"):
            answer = await ask(it.client, get(f"/{name}", method=method), method)
            assert answer.status == 200
            assert answer.body == (FILES[name] if method == "GET" else b"")
            fields = answer.fields
            assert fields.get("content-length", "0") == str(len(FILES[name]))
            assert fields["content-type"] == kind
            assert fields["x-content-type-options"] == "nosniff"
            assert fields["last-modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"
            assert fields["etag"] == f'"{784111777 * 10**9 + 5:x}-{len(FILES[name]):x}"'
            assert fields["accept-ranges"] == "bytes"


@pytest.mark.parametrize("name", ["notes.txt", "large.bin"])
async def test_a_client_that_has_it_is_told_so(folder, name, open_files):
    async with served(serving(folder, headers={"Cache-Control": "no-cache"})) as it:
        etag = (await ask(it.client, get(f"/{name}"))).fields["etag"]
        answer = await ask(it.client, get(f"/{name}", f"If-None-Match: {etag}"))
        assert (answer.status, answer.body) == (304, b"")
        assert answer.fields["etag"] == etag
        assert answer.fields["cache-control"] == "no-cache"
        assert "content-type" not in answer.fields
        assert (await ask(it.client, get(f"/{name}", 'If-Match: "other"'))).status == 412
        inside = open_files()
        assert (await ask(it.client, get(f"/{name}"))).body == FILES[name]
        await trio.testing.wait_all_tasks_blocked()
        assert open_files() == inside


@pytest.mark.parametrize("name", ["data.json", "large.bin"])
@pytest.mark.parametrize("make_pair", [tcp_pair, memory_pair])
async def test_one_part(folder, name, make_pair):
    data = FILES[name]
    async with served(serving(folder), make_pair=make_pair) as it:
        for wanted, start, end in (("0-0", 0, 1), ("1-", 1, len(data)), ("-1", len(data) - 1, len(data))):
            answer = await ask(it.client, get(f"/{name}", f"Range: bytes={wanted}"))
            assert (answer.status, answer.body) == (206, data[start:end])
            assert answer.fields["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
            assert answer.fields["content-length"] == str(end - start)
        answer = await ask(it.client, get(f"/{name}", f"Range: bytes={len(data)}-"))
        assert (answer.status, answer.fields["content-range"]) == (416, f"bytes */{len(data)}")
        answer = await ask(it.client, get(f"/{name}", "Range: bytes=0-0", method="HEAD"), "HEAD")
        assert (answer.status, answer.fields["content-length"]) == (200, str(len(data)))


async def test_several_parts(folder):
    async with served(serving(folder)) as it:
        for name, spans in (("page.html", [(0, 1), (2, 3)]), ("large.bin", [(9, 70_000), (70_002, 70_003)])):
            wanted = ",".join(f"{start}-{end - 1}" for start, end in spans)
            answer = await ask(it.client, get(f"/{name}", f"Range: bytes={wanted}"))
            assert answer.status == 206
            kind, _, boundary = answer.fields["content-type"].partition("; boundary=")
            assert kind == "multipart/byteranges"
            assert len(boundary) == 32
            data, expected = FILES[name], b""
            type_ = b"text/html; charset=utf-8" if name == "page.html" else b"application/octet-stream"
            for start, end in spans:
                expected += b"\r\n--%b\r\nContent-Type: %b\r\n" % (boundary.encode(), type_)
                expected += b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (start, end - 1, len(data)) + data[start:end]
            assert answer.body == expected + b"\r\n--%b--\r\n" % boundary.encode()
        assert (await ask(it.client, get("/page.html"))).status == 200


async def test_a_range_of_another_version_gives_all_of_it(folder):
    async with served(serving(folder)) as it:
        answer = await ask(it.client, get("/data.json", "Range: bytes=0-0", 'If-Range: "other"'))
        assert (answer.status, answer.body) == (200, b"{}")


async def test_fields_of_the_programs_own_come_first_and_count(folder):
    own = {"content-type": "x/y", "ETag": '"mine"', "X-Content-Type-Options": "other"}
    async with served(serving(folder, headers=own)) as it:
        answer = await ask(it.client, get("/data.json"))
        assert answer.fields["content-type"] == "x/y"
        assert answer.fields["x-content-type-options"] == "other"
        assert (await ask(it.client, get("/data.json", 'If-None-Match: "mine"'))).status == 304


async def test_what_is_not_there_and_other_methods(folder):
    async with served(serving(folder)) as it:
        assert (await ask(it.client, get("/../etc/passwd"))).status == 404
        assert (await ask(it.client, get("/nothing"))).status == 404
        answer = await ask(it.client, get("/data.json", method="DELETE"))
        assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")
        assert (await ask(it.client, get("/data.json"))).body == b"{}"


async def test_a_path_of_the_programs_own(folder):
    async def handler(exchange):
        with pytest.raises(FileNotFoundError):
            await exchange.respond_file(folder / "nothing")
        with pytest.raises(OSError, match="only a regular file"):
            await exchange.respond_file(folder)
        with pytest.raises(TypeError, match="must be a str with root"):
            await exchange.respond_file(folder / "data.json", root=folder)
        await exchange.respond_file(folder / "data.json")

    async with served(handler) as it:
        assert (await ask(it.client, get("/"))).body == b"{}"


async def test_a_file_that_becomes_shorter_truncates_the_response(folder, open_files, monkeypatch):
    path = folder / "large.bin"
    before = open_files()

    async def handler(exchange):
        with pytest.raises(LocalProtocolError, match="shorter"):
            await exchange.respond_file(path)

    plain = os.fstat

    def fstat(fd):
        status = plain(fd)
        if status.st_size == len(LARGE):
            os.truncate(path, 10)
        return status

    monkeypatch.setattr("trionet.http.server.open_file.os.fstat", fstat)
    async with served(handler) as it:
        await it.client.send_all(get("/"))
        head = await it.client.receive_until(b"\r\n\r\n", max_bytes=999)
        assert f"Content-Length: {len(LARGE)}".encode() in head
        rest = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await it.client.receive_some():
                rest += data
        assert rest == LARGE[:10]
    assert open_files() == before


@pytest.mark.parametrize("lines", [(), ("Range: bytes=0-5,9-16000000",)])
async def test_nothing_stays_open_when_it_is_cancelled(folder, open_files, lines):
    before = open_files()
    (folder / "huge").write_bytes(bytes(16 * 2**20))
    async with served(serving(folder)) as it:
        await it.client.send_all(get("/huge", *lines))
        await it.client.receive_until(b"\r\n\r\n", max_bytes=999)
        assert open_files() > before
        it.scope.cancel()
    assert open_files() == before


async def test_over_tls(folder, nursery, server_context, client_context):
    def serve(task_status):
        return trionet.serve_http(serving(folder), 0, ssl_context=server_context, task_status=task_status)

    server = await nursery.start(serve)
    async with trionet.open_http_client(ssl_context=client_context) as client:
        for name in ("large.bin", "data.json"):
            async with client.request("GET", f"https://localhost:{server.port}/{name}") as response:
                assert await response.read() == FILES[name]
        fields = {"Range": "bytes=3-40000"}
        async with client.request("GET", f"https://localhost:{server.port}/large.bin", headers=fields) as response:
            assert (response.status, await response.read()) == (206, LARGE[3:40001])
