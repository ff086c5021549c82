"""Files as responses: sent by the system where it can, and by other ways with the same result."""

import errno
import os
import tempfile

import pytest
import trio

import trionet
from trionet import LocalProtocolError
from trionet.transport import file_region
from trionet.transport.file_region import FileRegion
from trionet.transport.socket import SocketTransport

from ...helpers.http_served import GET, HUGE, ask, get, read_answer, served

LONG = HUGE * 2 + b"the end"


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as opened:
        opened.write(b"skipped" + LONG)
        yield opened


@pytest.fixture
def sent(monkeypatch):
    """What sendfile is asked for: offset and count, each time."""
    asked = []
    plain = os.sendfile

    def sendfile(out, source, offset, count):
        done = plain(out, source, offset, count)
        asked.append((offset, done))
        return done

    monkeypatch.setattr(os, "sendfile", sendfile)
    return asked


def of(file, **options):
    async def handler(exchange):
        file.seek(7)
        await exchange.respond(200, file, **options)

    return handler


async def test_the_system_sends_a_file_from_where_it_stands(file, sent):
    async with served(of(file)) as it:
        for _ in range(2):
            sent.clear()
            answer = await ask(it.client, GET)
            assert answer.body == LONG
            assert answer.fields["content-length"] == str(len(LONG))
            assert sent[0][0] == 7
            assert sum(count for _, count in sent) == len(LONG)
        assert it.http.statistics().bytes_sent == it.client.statistics().bytes_received
        assert it.failure is None


async def test_a_worker_thread_reads_what_the_system_has_not_in_memory(file, sent, monkeypatch):
    monkeypatch.setattr(file_region, "_can_read", lambda fd, offset: False)
    threads = []
    run_sync = trio.to_thread.run_sync

    async def counted(function, *args, **options):
        threads.append(function)
        return await run_sync(function, *args, **options)

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    async with served(of(file)) as it:
        assert (await ask(it.client, GET)).body == LONG
    assert len(threads) == -(-len(LONG) // file_region.PIECE)


@pytest.mark.parametrize("code", [None, 11, 95])
def test_a_byte_counts_as_there_unless_the_system_says_that_it_would_have_to_wait(file, monkeypatch, code):
    if code is None:
        monkeypatch.setattr(file_region, "_NO_WAIT", 0)
    else:

        def preadv(*args):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "preadv", preadv)
        monkeypatch.setattr(file_region, "_NO_WAIT", 8)
    assert file_region._can_read(file.fileno(), 0) is (code != 11)


async def test_where_the_system_cannot_the_bytes_come_through_the_process(file, sent, monkeypatch):
    monkeypatch.setattr(SocketTransport, "file_sender", None)
    async with served(of(file)) as it:
        assert (await ask(it.client, GET)).body == LONG
    assert not sent


async def test_over_tls_the_bytes_come_through_the_process(file, sent, server_context, client_context):
    async with trionet.open_scope() as scope:
        server = await scope.start(
            lambda task_status: trionet.serve_http(
                of(file), 0, host="127.0.0.1", ssl_context=server_context, task_status=task_status
            )
        )
        url = f"https://localhost:{server.port}/"
        async with (
            trionet.open_http_client(ssl_context=client_context) as client,
            client.request("GET", url) as response,
        ):
            assert await response.read(max_bytes=2**22) == LONG
        scope.cancel()
    assert not sent


async def test_head_gets_the_length_and_nothing_is_sent(file, sent):
    async with served(of(file)) as it:
        answer = await ask(it.client, get("/", method="HEAD"), "HEAD")
        assert answer.fields["content-length"] == str(len(LONG))
    assert not sent


async def test_a_file_comes_behind_responses_that_are_held_back(file):
    async def handler(exchange):
        if exchange.path == "/file":
            await of(file)(exchange)
        else:
            await exchange.respond(200, exchange.path.encode("ascii"))

    async with served(handler) as it:
        await it.client.send_all(get("/1") + get("/file") + get("/2"))
        bodies = [(await read_answer(it.client)).body for _ in range(3)]
    assert bodies == [b"/1", LONG, b"/2"]


async def test_a_file_that_becomes_shorter_is_a_failure_and_visibly_cut_off(file, monkeypatch):
    async def shorten(region):
        os.ftruncate(region.fd, 100)

    async def truncating(exchange):
        file.seek(7)
        monkeypatch.setattr(FileRegion, "fetch", shorten)
        await exchange.respond(200, file)

    async with served(truncating) as it:
        await it.client.send_all(GET)
        head = await it.client.receive_until(b"\r\n\r\n", max_bytes=9999)
        assert b"Content-Length: 2097159" in head
        body = b""
        with pytest.raises(trio.BrokenResourceError):
            while data := await it.client.receive_some():
                body += data
            raise trio.BrokenResourceError
        assert len(body) == 93
        await it.ended()
    assert isinstance(it.failure, LocalProtocolError)


async def test_cancelled_in_the_middle_the_response_is_visibly_cut_off(file):
    began, scopes = trio.Event(), []

    async def handler(exchange):
        file.seek(7)
        with trio.CancelScope() as scope:
            scopes.append(scope)
            began.set()
            await exchange.respond(200, file)
        assert scope.cancelled_caught
        assert exchange.connection.statistics().bytes_sent > 0

    file.seek(0, os.SEEK_END)
    file.write(HUGE * 16)  # more than the buffers of a connection hold
    async with served(handler) as it:
        await it.client.send_all(GET)
        await began.wait()
        await trio.testing.wait_all_tasks_blocked()
        scopes[0].cancel()
        size = int(
            (await it.client.receive_until(b"\r\n\r\n", max_bytes=9999)).split(b"Content-Length: ")[1].split()[0]
        )
        received = 0
        with pytest.raises(trio.BrokenResourceError):
            while data := await it.client.receive_some():
                received += len(data)
            raise trio.BrokenResourceError
        assert 0 < received < size


async def test_what_was_written_into_a_file_is_sent_wherever_it_waits(file, sent):
    async def handler(exchange):
        file.seek(0)
        file.read(1)
        file.seek(9)
        file.write(b"NEW")  # into what the file object has read ahead
        file.seek(7)
        await exchange.respond(200, file)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).body == LONG[:2] + b"NEW" + LONG[5:]
    assert sent


@pytest.mark.parametrize("way", ["by the system", "through the process"])
async def test_a_file_stands_at_its_end_behind_the_response(file, monkeypatch, way):
    if way == "through the process":
        monkeypatch.setattr(SocketTransport, "file_sender", None)
    async with served(of(file)) as it:
        assert (await ask(it.client, GET)).body == LONG
    assert file.tell() == 7 + len(LONG)


@pytest.mark.parametrize("code", [errno.EBADF, errno.EIO])
async def test_a_file_that_cannot_be_read_is_the_programs_fault_and_not_the_clients(file, monkeypatch, code):
    def fail(*args):
        raise OSError(code, os.strerror(code))

    async def handler(exchange):
        file.seek(7)
        monkeypatch.setattr(os, "sendfile", fail)
        monkeypatch.setattr(os, "pread", fail)
        await exchange.respond(200, file)

    async with served(handler) as it:
        await it.client.send_all(GET)
        await it.ended()
    assert isinstance(it.failure, OSError)
    assert it.failure.errno == code
