"""What a request sends: lengths, types, and what can be sent again."""

from __future__ import annotations

import gzip
import io
import math
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trionet import BodyNotReplayableError, LocalProtocolError
from trionet.http.content import CHUNK, NOTHING, Content, make_content

DATA = bytes(range(256)) * 1000


async def whole(content: Content) -> bytes:
    pieces = [piece async for piece in content.chunks()]
    assert all(isinstance(piece, bytes) and piece for piece in pieces)
    return b"".join(pieces)


# --- in memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [b"hello", bytearray(b"hello"), memoryview(b"hello"), memoryview(b"h.e.l.l.o")[::2]])
async def test_bytes_are_there_as_a_whole_and_can_be_sent_again(given: Any) -> None:
    content = make_content(given)
    assert (content.length, content.data, content.replayable, content.content_type) == (5, b"hello", True, None)
    assert await whole(content) == await whole(content) == b"hello"


async def test_text_is_utf_8() -> None:
    content = make_content("grüße")
    assert content.data == "grüße".encode()
    assert content.length == 7
    assert content.content_type == "text/plain; charset=utf-8"


async def test_no_body_is_nothing() -> None:
    assert make_content() is NOTHING
    assert (NOTHING.length, NOTHING.data, NOTHING.content_type) == (0, b"", None)
    assert await whole(NOTHING) == b""
    assert make_content(NOTHING) is NOTHING


async def test_json_is_compact_and_not_escaped() -> None:
    content = make_content(json={"name": "Zoë", "n": [1, 2.5, None, True]})
    assert content.data == '{"name":"Zoë","n":[1,2.5,null,true]}'.encode()
    assert content.content_type == "application/json"
    assert make_content(json=0).data == b"0"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_has_no_such_numbers(number: float) -> None:
    with pytest.raises(ValueError, match="NaN or Infinity"):
        make_content(json={"x": [number]})


def test_what_else_json_cannot_express() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        make_content(json="\ud800")
    with pytest.raises(TypeError, match="not JSON serializable"):
        make_content(json={1, 2})
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        make_content(json=loop)


def test_content_and_json_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        make_content(b"x", json=1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (5, "must be bytes"),
        ({"a": 1}, "json="),
        (object(), "must be bytes"),
        (io.StringIO("text"), "'rb'"),
        (["a", "b"], "encode it"),
        ([b"a", 5], "must be bytes, not 5"),
    ],
)
def test_what_is_no_content(given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        make_content(given)


# --- iterables ---------------------------------------------------------------------------------------------------


async def test_a_list_has_a_length_and_can_be_sent_again() -> None:
    content = make_content([b"one", b"", bytearray(b"two")])
    assert (content.length, content.replayable, content.data) == (6, True, None)
    assert await whole(content) == await whole(content) == b"onetwo"


async def test_an_iterator_can_be_sent_once() -> None:
    content = make_content(piece for piece in (b"one", b"", memoryview(b"two")))
    assert (content.length, content.replayable) == (None, False)
    assert await whole(content) == b"onetwo"
    with pytest.raises(BodyNotReplayableError, match="follow_redirects=False"):
        content.chunks()


async def test_an_async_iterator_can_be_sent_once() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b""
        await trio.lowlevel.checkpoint()
        yield b"two"

    content = make_content(pieces())
    assert (content.length, content.replayable) == (None, False)
    assert await whole(content) == b"onetwo"
    with pytest.raises(BodyNotReplayableError):
        content.chunks()


async def test_a_piece_of_text_is_refused_where_it_comes() -> None:
    content = make_content(iter([b"one", "two"]))
    chunks = content.chunks()
    assert await anext(chunks) == b"one"
    with pytest.raises(TypeError, match="encode it"):
        await anext(chunks)


async def test_a_generator_learns_that_no_more_is_wanted() -> None:
    ended = []

    async def asynchronous() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            ended.append("async")

    def synchronous() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            ended.append("sync")

    for source in (asynchronous(), synchronous()):
        chunks = make_content(source).chunks()
        assert await anext(chunks) == b"one"
        await chunks.aclose()
    assert ended == ["async", "sync"]
    for nothing_to_close in (make_content([b"x"]), make_content(b"x"), make_content(io.BytesIO(b"x"))):
        await nothing_to_close.chunks().aclose()


async def test_an_iterator_that_cannot_be_closed_is_left_alone() -> None:
    class Pieces:
        def __aiter__(self) -> Pieces:
            return self

        async def __anext__(self) -> bytes:
            await trio.lowlevel.checkpoint()
            return b"x"

    chunks = make_content(Pieces()).chunks()
    assert await anext(chunks) == b"x"
    await chunks.aclose()


# --- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(DATA)
    return path


async def test_a_file_has_a_length_and_can_be_sent_again(path: Path) -> None:
    with path.open("rb") as file:
        content = make_content(file)
        assert (content.length, content.replayable, content.data) == (len(DATA), True, None)
        assert await whole(content) == await whole(content) == DATA


async def test_a_file_is_sent_from_where_it_stands(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(1000)
        content = make_content(file)
        assert content.length == len(DATA) - 1000
        assert await whole(content) == await whole(content) == DATA[1000:]
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        content = make_content(file)
        assert content.length == 0
        assert await whole(content) == b""


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_a_file_is_read_in_another_thread_and_in_pieces(path: Path, buffering: int) -> None:
    threads = []

    class Watched(io.FileIO):
        def read(self, size: int | None = -1) -> Any:
            threads.append(threading.get_ident())
            return super().read(size)

        def readinto(self, buffer: Any) -> Any:
            threads.append(threading.get_ident())
            return super().readinto(buffer)

    with Watched(path) as raw:
        file = raw if buffering == 0 else io.BufferedReader(raw)
        chunks = make_content(file).chunks()
        assert len(await anext(chunks)) == CHUNK
        assert threads
        assert threading.get_ident() not in threads


async def test_a_file_of_trio_is_the_file_within(path: Path) -> None:
    async with await trio.open_file(path, "rb") as file:
        content = make_content(file)
        assert content.length == len(DATA)
        assert await whole(content) == DATA


async def test_memory_files_and_temporary_ones_have_a_length_too() -> None:
    memory = io.BytesIO(b"0123456789")
    memory.seek(4)
    content = make_content(memory)
    assert content.length == 6
    assert await whole(content) == await whole(content) == b"456789"
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"hello")
        file.seek(1)
        content = make_content(file)
        assert content.length == 4
        assert await whole(content) == b"ello"


async def test_a_file_around_another_one_does_not_have_its_length(tmp_path: Path) -> None:
    path = tmp_path / "archive.gz"
    path.write_bytes(gzip.compress(DATA))
    with gzip.open(path, "rb") as file:
        content = make_content(file)
        assert (content.length, content.replayable) == (None, True)
        assert await whole(content) == await whole(content) == DATA


async def test_a_pipe_has_no_length_and_can_be_sent_once() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file:  # noqa: ASYNC230 - of a pipe that has all it will ever have
        os.write(writing, b"through a pipe")
        os.close(writing)
        content = make_content(file)
        assert (content.length, content.replayable) == (None, False)
        assert await whole(content) == b"through a pipe"
        with pytest.raises(BodyNotReplayableError, match="the file"):
            content.chunks()


async def test_waiting_for_a_pipe_can_be_cancelled() -> None:
    reading, writing = os.pipe()
    left = threading.Event()

    class Pipe:
        def read(self, size: int) -> bytes:
            with os.fdopen(reading, "rb", buffering=0) as file:
                data = file.read(size)
            left.set()
            return data or b""

    chunks = make_content(Pipe()).chunks()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(anext, chunks)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    os.close(writing)  # ends the thread that was left behind
    while not left.is_set():
        await trio.lowlevel.checkpoint()


async def test_a_file_that_has_become_longer_is_sent_as_long_as_it_was(path: Path) -> None:
    with path.open("rb") as file:
        content = make_content(file)
        await trio.Path(path).write_bytes(DATA + b"more")
        assert await whole(content) == DATA


async def test_a_file_that_has_become_shorter_is_an_error(path: Path) -> None:
    with path.open("rb") as file:
        content = make_content(file)
        await trio.Path(path).write_bytes(b"short")
        with pytest.raises(LocalProtocolError, match="ended after 5 of 256000 bytes"):
            await whole(content)


def test_a_file_in_text_mode_is_refused(path: Path) -> None:
    with path.open() as file, pytest.raises(TypeError, match=r"open\(path, 'rb'\)"):
        make_content(file)


async def test_what_reads_something_else_than_bytes_is_refused() -> None:
    class Odd:
        def read(self, size: int) -> Any:
            return None

    content = make_content(Odd())
    assert content.length is None
    with pytest.raises(TypeError, match="not bytes"):
        await whole(content)
