"""`Exchange.form`: bounds, files on the disk, and that nothing of them is left."""

import errno
import os
import tempfile
import threading

import pytest
import trio

import trionet
from trionet import UploadedFile
from trionet.http.server import spill

from ...helpers.http_served import ask, read_answer
from ...helpers.multipart_corpus import END, GOOD, B, field, file

MULTIPART = f"multipart/form-data; boundary={B}"
URLENCODED = "application/x-www-form-urlencoded"


def post(body, kind=MULTIPART):
    return f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
async def serve(nursery):
    """Serves what happens within the form's block, and gives a client."""
    async with trionet.open_scope(drain_timeout=0) as scope:

        async def start(within, **bounds):
            async def handler(exchange):
                async with exchange.form(**bounds) as form:
                    await within(form)
                await exchange.respond(200)

            server = await nursery.start(trionet.serve_http, handler, 0)
            return await scope.connect_tcp("127.0.0.1", server.port)

        yield start
        scope.cancel()


@pytest.fixture
def open_files():
    before = len(os.listdir("/proc/self/fd"))
    return lambda: len(os.listdir("/proc/self/fd")) - before


@pytest.mark.parametrize("kind", [URLENCODED, "Application/X-WWW-Form-Urlencoded; charset=utf-8"])
async def test_an_urlencoded_form(serve, kind):
    async def within(form):
        found.append(form.items())

    found = []
    client = await serve(within)
    assert (await ask(client, post(b"a=1&b=&c&a=%C3%A4+x&%ff=y", kind))).status == 200
    assert found == [[("a", "1"), ("b", ""), ("c", ""), ("a", "ä x"), ("\ufffd", "y")]]


async def test_however_it_is_cut_into_pieces_it_is_the_same_form(serve):
    async def within(form):
        found.append(
            [(name, await value.read() if isinstance(value, UploadedFile) else value) for name, value in form.items()]
        )

    found = []
    client = await serve(within)
    body = GOOD["a value that is nearly a boundary"].removesuffix(END) + file("f", "x", b"\r\n--data") + END
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {MULTIPART}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for size in (1, 2, 7, 10_000):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        await client.send_all(head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
        assert (await read_answer(client)).status == 200
    assert len(found) == 4
    assert all(one == found[0] for one in found)
    assert found[0][1] == ("f", b"\r\n--data")


async def test_files_small_and_large_and_what_is_left_of_them(serve, open_files, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def within(form):
        small, large = form["small"], form["large"]
        assert (small.filename, small.content_type, small.size) == ("../x", "text/plain", 5)
        assert small.is_in_memory
        assert not large.is_in_memory
        assert large.size == len(data)
        assert not list(tmp_path.iterdir())
        for _ in range(2):
            assert await large.read() == data
            pieces = [piece async for piece in large]
            assert b"".join(pieces) == data
            assert max(map(len, pieces)) == 65536
        assert [piece async for piece in small] == [b"small"]
        kept.append((large, open_files()))

    data = os.urandom(3 * 2**20 + 7)
    kept = []
    client = await serve(within)
    before = open_files()
    body = file("small", "../x", b"small") + file("large", "y", data) + END
    assert (await ask(client, post(body))).status == 200
    ((large, within_block),) = kept
    assert large.file.closed
    assert within_block == before + 1
    assert open_files() == before


async def test_a_disk_that_takes_a_part_of_a_write_gets_the_rest(serve, monkeypatch):
    async def within(form):
        assert await form["f"].read() == data

    plain = os.write
    monkeypatch.setattr(spill.os, "writev", lambda fd, pieces: plain(fd, b"".join(pieces)[:7]))
    monkeypatch.setattr(spill.os, "write", lambda fd, data: plain(fd, data[:30_000]))
    data = os.urandom(200_000)
    client = await serve(within)
    assert (await ask(client, post(file("f", "x", data) + END))).status == 200


async def test_many_files_use_one_descriptor_and_little_memory(serve, open_files):
    async def within(form):
        files = form.get_list("f")
        kept.extend(value.is_in_memory for value in files)
        assert [await value.read() for value in files] == [bytes([number]) * 9_000 for number in range(200)]
        opened.append(open_files())

    kept, opened = [], []
    client = await serve(within)
    body = b"".join(file("f", str(number), bytes([number]) * 9_000) for number in range(200)) + END
    before = open_files()
    assert (await ask(client, post(body))).status == 200
    assert 100 < kept.count(True) < 120
    assert opened == [before + 1]
    assert open_files() == before


async def test_a_file_on_the_disk_is_a_file_like_any_other(serve):
    async def within(form):
        first, second = form["a"].file, form["b"].file
        for opened, data in ((first, one), (second, other), (first, one)):
            assert opened.seek(0, os.SEEK_END) == len(data)
            assert opened.read() == b""
            opened.seek(-5, os.SEEK_END)
            assert opened.read(100) == data[-5:]
            opened.seek(10)
            opened.seek(5, os.SEEK_CUR)
            assert opened.read(7) == data[15:22]
            assert opened.tell() == 22
            with pytest.raises((ValueError, OSError)):
                opened.seek(-1)
        kept.append(first)

    kept = []
    one, other = os.urandom(100_000), os.urandom(200_000)
    client = await serve(within)
    assert (await ask(client, post(file("a", "x", one) + file("b", "y", other) + END))).status == 200
    with pytest.raises(ValueError, match="closed"):
        kept[0].read(1)


async def test_what_is_written_is_written_in_threads(serve, monkeypatch):
    async def within(form):
        assert form["f"].size == 3_000_000

    plain, threads = spill.Spill.append, set()

    def append(self, pieces):
        threads.add(threading.current_thread())
        plain(self, pieces)

    monkeypatch.setattr(spill.Spill, "append", append)
    client = await serve(within)
    assert (await ask(client, post(file("f", "x", bytes(3_000_000)) + END))).status == 200
    assert threads
    assert threading.current_thread() not in threads


async def test_a_chunked_form_is_bounded_as_a_whole(serve):
    async def within(form):
        raise AssertionError(form)

    client = await serve(within, max_bytes=1000)
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {MULTIPART}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = file("f", "x", b"x" * 1000) + END
    assert (await ask(client, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))).status == 413


async def test_a_form_that_was_read_already_is_the_programs_mistake(nursery, caplog):
    async def handler(exchange):
        async with exchange.form() as form:
            assert form["a"] == "x"
        async with exchange.form() as form:
            raise AssertionError(form)

    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        client = await scope.connect_tcp("127.0.0.1", server.port)
        assert (await ask(client, post(field("a") + END))).status == 500
    assert "has been read already" in caplog.text


@pytest.mark.parametrize(
    ("body", "kind", "bounds", "status", "text"),
    [
        (field("a") * 4 + END, MULTIPART, {"max_parts": 3}, 413, "more than 3 parts"),
        (field("a", "x" * 11) + END, MULTIPART, {"max_field_bytes": 10}, 413, "more than 10 bytes in a field"),
        (field("a", "x" * 10) * 9 + END, MULTIPART, {"max_field_bytes": 10}, 413, "more than 80 bytes in its fields"),
        (file("f", "x", b"x" * 1000) + END, MULTIPART, {"max_bytes": 900}, 413, "more than 900 bytes"),
        (b"a=1&b=2&c=3&d=4", URLENCODED, {"max_parts": 3}, 413, "more than 3 fields"),
        (b"a=" + b"x" * 10, URLENCODED, {"max_field_bytes": 10}, 413, "more than 10 bytes"),
        (b"{}", "application/json", {}, 415, "not 'application/json'"),
        (b"x", "", {}, 415, "not ''"),
        (b"x", "multipart/form-data", {}, 400, "boundary"),
        (b"x", f"multipart/form-data; boundary={'x' * 71}", {}, 400, "boundary"),
        (field("a"), MULTIPART, {}, 400, "ends before its last boundary"),
        (b"nonsense", MULTIPART, {}, 400, "malformed"),
    ],
)
async def test_what_is_too_much_or_no_form_is_the_clients_fault(serve, body, kind, bounds, status, text, caplog):
    async def within(form):
        raise AssertionError(form)

    caplog.set_level("INFO", "trionet.server")
    client = await serve(within, **bounds)
    assert (await ask(client, post(body, kind))).status == status
    assert text in caplog.text
    assert {record.levelname for record in caplog.records if record.name.startswith("trionet")} == {"INFO"}


async def test_a_form_that_says_it_is_too_long_is_not_read(serve):
    async def within(form):
        raise AssertionError(form)

    client = await serve(within, max_bytes=100)
    head = post(b"x" * 101).removesuffix(b"\r\n\r\n" + b"x" * 101)
    assert (await ask(client, head + b"\r\nExpect: 100-continue\r\n\r\n")).status == 413


async def test_bounds_that_cannot_be(serve):
    async def within(form):
        raise AssertionError(form)

    for bounds in ({"max_parts": 0}, {"max_field_bytes": -1}, {"max_bytes": 1.5}):
        client = await serve(within, **bounds)
        assert (await ask(client, post(END))).status == 500


async def test_a_full_disk_is_507(serve, monkeypatch, caplog, open_files):
    async def within(form):
        raise AssertionError(form)

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spill.Spill, "append", full)
    client = await serve(within)
    before = open_files()
    assert (await ask(client, post(file("f", "x", b"x" * 100_000) + END))).status == 507
    assert "there is no room for the files of a form" in caplog.text
    assert open_files() == before


async def test_nothing_stays_open_when_the_client_leaves_in_the_middle(serve, open_files):
    async def within(form):
        raise AssertionError(form)

    client = await serve(within)
    before = open_files()
    await client.send_all(post(file("f", "x", b"x" * 5_000_000) + END)[:3_000_000])
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert open_files() == before + 1
    client.abort()
    with trio.fail_after(5):
        while open_files() >= before:
            await trio.testing.wait_all_tasks_blocked()
