"""RFC 6455 rule by rule: large messages in one frame, in fragments, in small segments, and those that are too large.

The Autobahn testsuite sends up to 16 MiB; what takes long for that is behind `soak`.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import ConnectionClosed, LimitExceededError

from ..helpers.pairs import memory_pair, tcp_pair
from .test_websocket_rules import (
    BINARY,
    CONT,
    PING,
    TEXT,
    F,
    Seen,
    assert_echoed,
    assert_failed,
    assert_fails,
    both_sides,
    by_frames,
    by_octets,
    chopped,
    close,
    echo,
    echo_in_parts,
    every_application,
    every_cut,
    in_one,
    listen,
    opened,
    talk,
    text,
    thorough,
)

KIB, MIB = 2**10, 2**20
every_opcode = pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])


def payload(opcode: int, size: int) -> bytes:
    """Each KiB is another one, so that nothing can change places unseen; with characters of two bytes."""
    block = b"".join(b"%05d " % index + "ä".encode() * 509 for index in range(-(-size // KIB)))
    assert size % KIB == 0
    return block if opcode == TEXT else bytes(reversed(block))


def as_message(opcode: int, data: bytes) -> str | bytes:
    return data.decode() if opcode == TEXT else data


def in_fragments(opcode: int, data: bytes, size: int) -> list[F]:
    parts = chopped(data, size)
    return [F(opcode if index == 0 else CONT, part, index == len(parts) - 1) for index, part in enumerate(parts)]


# --- 9: large messages --------------------------------------------------------------------------------------------


@both_sides
@every_opcode
@every_application
@pytest.mark.parametrize("size", [64 * KIB, 256 * KIB, MIB, *thorough(4 * MIB, 8 * MIB, 16 * MIB)])
async def test_a_large_message(size, application, opcode, side):
    """9.1, 9.2."""
    data = payload(opcode, size)
    message = as_message(opcode, data)
    how = {"application": application, "make_pair": tcp_pair, "max_message_size": None}
    await assert_echoed(side, [F(opcode, data)], [message], **how)


@both_sides
@every_opcode
@every_application
@pytest.mark.parametrize("size", [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB])
async def test_a_message_in_fragments_of_every_size(size, application, opcode, side):
    """9.3, 9.4, with 256 KiB instead of 4 MiB."""
    data = payload(opcode, 256 * KIB)
    frames = in_fragments(opcode, data, size)
    await assert_echoed(side, frames, [as_message(opcode, data)], application=application, make_pair=tcp_pair)


@pytest.mark.soak
@both_sides
@every_opcode
@every_application
@pytest.mark.parametrize("size", [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB])
async def test_a_very_large_message_in_fragments_of_every_size(size, application, opcode, side):
    data = payload(opcode, 4 * MIB)
    frames = in_fragments(opcode, data, size)
    how = {"application": application, "make_pair": tcp_pair, "max_message_size": None}
    await assert_echoed(side, frames, [as_message(opcode, data)], **how)


@both_sides
@every_opcode
@pytest.mark.parametrize("size", [64, 128, 256, 512, KIB, 2 * KIB])
@pytest.mark.parametrize("whole", [32 * KIB, *thorough(MIB)])
async def test_a_message_in_segments_of_every_size(whole, size, opcode, side):
    """9.5, 9.6, with 32 KiB instead of 1 MiB."""
    data = payload(opcode, whole)

    def cut(frames, side):
        return chopped(in_one(frames, side)[0], size)

    await assert_echoed(side, [F(opcode, data)], [as_message(opcode, data)], cut=cut)


@both_sides
@every_opcode
@pytest.mark.parametrize("cut", [in_one, by_frames])
@pytest.mark.parametrize("size", [0, 16, 64, 256, KIB, 4 * KIB])
@pytest.mark.parametrize("count", [100, *thorough(1000)])
async def test_many_messages(count, size, cut, opcode, side):
    """9.7, 9.8: one after the other, and all of them at once."""
    datas = [(b"%04d" % index * (size // 4)) for index in range(count)]
    frames = [F(opcode, data) for data in datas]
    await assert_echoed(side, frames, [as_message(opcode, data) for data in datas], cut=cut)


# --- messages that are too large (§7.4.1: 1009) -------------------------------------------------------------------


@both_sides
@every_cut
@every_opcode
@pytest.mark.parametrize("size", [125, 126, 200])
async def test_a_message_as_large_as_is_allowed(size, opcode, cut, side):
    data = b"x" * size
    frames = [F(opcode, data), F(opcode, data[:50], fin=False), F(CONT, data[50:]), F(opcode, data)]
    await assert_echoed(side, frames, [as_message(opcode, data)] * 3, cut=cut, max_message_size=size)


@both_sides
@every_cut
@every_opcode
@pytest.mark.parametrize("size", [125, 126, 200])
async def test_a_message_of_one_byte_more_fails(size, opcode, cut, side):
    frames = [text("good"), F(opcode, b"x" * (size + 1)), text("behind")]
    await assert_fails(side, frames, 1009, cut=cut, messages=["good"], max_message_size=size)


@both_sides
@every_cut
@every_opcode
@pytest.mark.parametrize(
    "sizes",
    [(101, 0), (100, 1), (60, 41), (0, 101), (33, 33, 33, 1, 0, 1), (1,) * 101],
    ids=lambda sizes: "+".join(map(str, sizes)) if len(sizes) < 10 else "1+1+...",
)
async def test_a_message_of_one_byte_more_in_fragments_fails(sizes, opcode, cut, side):
    frames = [F(opcode if index == 0 else CONT, b"x" * size, False) for index, size in enumerate(sizes)]
    await assert_fails(side, [*frames, F(CONT)], 1009, cut=cut, max_message_size=100)


@both_sides
async def test_the_limit_is_in_bytes_not_characters(side):
    await assert_echoed(side, [text("ä" * 50)], ["ä" * 50], max_message_size=100)
    await assert_fails(side, [text("ä" * 51)], 1009, max_message_size=100)


@both_sides
@pytest.mark.parametrize("announced", [101, 126, 65535, 65536, 2**32, 2**63 - 1])
async def test_the_announcement_of_too_much_fails_before_the_first_byte_of_it(announced, side):
    frame = F(BINARY, b"", announced=announced)
    await assert_fails(side, [text("good"), frame], 1009, cut=by_frames, messages=["good"], max_message_size=100)


@both_sides
async def test_the_announcement_of_too_much_in_a_continuation_fails_too(side):
    frames = [F(BINARY, b"x" * 60, fin=False), F(PING), F(CONT, b"", announced=41)]
    seen = await talk(side, by_frames(frames, side), max_message_size=100)
    assert [first for first, _ in seen.frames] == [0x8A, 0x88]
    assert seen.frames[1][1][:2] == b"\x03\xf1"
    assert seen.frames == seen.frames_after(2)
    assert isinstance(seen.error, LimitExceededError)


@both_sides
async def test_control_frames_are_not_held_against_the_limit(side):
    frames = [F(PING, b"p" * 125), text("x", fin=False), F(PING, b"q" * 125), F(CONT, b"y"), close(1000, b"z" * 123)]
    seen = await talk(side, by_frames(frames, side), max_message_size=2)
    assert seen.messages == ["xy"]
    assert seen.pongs == [b"p" * 125, b"q" * 125]
    assert seen.websocket.closed.code == 1000


@both_sides
@pytest.mark.parametrize("announced", [2**32, 2**40, 2**62])
async def test_without_a_limit_a_frame_may_announce_more_than_there_is_room_for(announced, side):
    """Nothing is set aside for what has not come yet; that it does not come is told as 1006."""
    frame = F(BINARY, b"x" * 10, announced=announced)
    seen = await talk(side, [text("a").wire(side), frame.wire(side)], max_message_size=None)
    assert seen.messages == ["a"]
    assert seen.frames == [(0x81, b"a")]
    assert seen.websocket.closed.code == 1006


@both_sides
@pytest.mark.parametrize("cut", [in_one, by_frames])
async def test_the_limit_does_not_hold_for_messages_that_are_taken_in_parts(cut, side):
    frames = [F(BINARY, b"x" * 500), *in_fragments(BINARY, b"y" * 500, 50), text("z" * 100)]

    async def application(websocket, seen):
        for _ in range(2):
            seen.messages.append(b"".join([part async for part in websocket.receive_fragments()]))
        await echo(websocket, seen)

    pieces = cut([*frames, text("!" * 101)], side)
    seen = await talk(side, pieces, application=application, max_message_size=100)
    assert seen.messages == [b"x" * 500, b"y" * 500, "z" * 100]
    assert isinstance(seen.error, LimitExceededError)
    assert seen.websocket.closed.code == 1009


@both_sides
@pytest.mark.parametrize("cut", [in_one, by_frames, by_octets])
@pytest.mark.parametrize("size", [50, 200, 500], ids=["in small fragments", "in large ones", "in one frame"])
async def test_nor_does_it_hold_where_such_a_message_came_together_with_the_one_before(size, cut, side):
    """How the peer's frames were put into segments must not decide over it."""
    frames = [text("a"), *in_fragments(BINARY, b"y" * 500, size), text("b"), *in_fragments(TEXT, b"z" * 500, size)]

    async def application(websocket, seen):
        for _ in range(2):
            seen.messages.append(await websocket.get_message())
            parts = [part async for part in websocket.receive_fragments()]
            seen.messages.append(type(parts[0])().join(parts))
        await echo(websocket, seen)

    seen = await talk(side, [*cut(frames, side), close().wire(side)], application=application, max_message_size=100)
    assert seen.messages == ["a", b"y" * 500, "b", "z" * 500]
    assert seen.websocket.closed.code == 1000


# --- 10: messages in fragments, on their way out too (§5.4) -------------------------------------------------------


@both_sides
@pytest.mark.parametrize("application", [echo, echo_in_parts])
@pytest.mark.parametrize("cut", [in_one, by_frames])
async def test_a_message_in_fragments_of_1300_bytes(cut, application, side):
    """10.1.1."""
    data = payload(TEXT, 64 * KIB)
    frames = in_fragments(TEXT, data, 1300)
    await assert_echoed(side, frames, [data.decode()], cut=cut, application=application)


PARTS = {
    "text": (["a", "ä" * 100, "€" * 30000], 0x01),
    "binary": ([b"a", bytearray(b"b" * 200), memoryview(b"c" * 70000)], 0x02),
    "one": (["a"], 0x01),
}


@both_sides
@pytest.mark.parametrize("case", PARTS)
async def test_a_message_is_sent_in_fragments(case, side):
    """The first one says which kind it is, the last one that it is over; each is as the application cut it."""
    parts, first = PARTS[case]

    async def application(websocket, seen):
        await websocket.send_fragments(parts)
        await websocket.send_message("next")
        await echo(websocket, seen)

    seen = await talk(side, [], application=application)
    payloads = [part.encode() if isinstance(part, str) else bytes(part) for part in parts]
    assert seen.frames == [
        (first, payloads[0]), *[(0x00, part) for part in payloads[1:]], (0x80, b""), (0x81, b"next")
    ]  # fmt: skip


@both_sides
async def test_between_our_fragments_pings_are_answered_and_no_message_is_sent(side):
    with trio.fail_after(30):
        async with trionet.open_scope() as scope:
            one, other = memory_pair(scope)
            websocket, _ = await opened(side, one, other)
            seen = Seen(side, websocket)
            more = trio.Event()

            async def parts():
                yield "first"
                await more.wait()
                yield "second"

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, other, seen)
                nursery.start_soon(echo, websocket, seen)
                nursery.start_soon(websocket.send_fragments, parts())
                await wait_all_tasks_blocked()
                nursery.start_soon(websocket.send_message, "another")
                await other.send_all(F(PING, b"?").wire(side))
                await wait_all_tasks_blocked()
                assert seen.frames == [(0x01, b"first"), (0x8A, b"?")]
                more.set()
                await wait_all_tasks_blocked()
                await other.send_all(close().wire(side))
                await other.send_eof()
    assert seen.frames == [
        (0x01, b"first"), (0x8A, b"?"), (0x00, b"second"), (0x80, b""), (0x81, b"another"), (0x88, b"\x03\xe8")
    ]  # fmt: skip


@both_sides
async def test_a_producer_that_raises_never_completes_its_message(side):
    """The peer must not take the truncated message for a whole one: it is told that something went wrong (1011)."""

    async def application(websocket, seen):
        def parts():
            yield "first"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await websocket.send_fragments(parts())
        with pytest.raises(ConnectionClosed):
            await websocket.send_message("late")

    seen = await talk(side, [close(1011).wire(side)], application=application)
    first, (last, payload_) = seen.frames
    assert first == (0x01, b"first")
    assert (last, payload_[:2]) == (0x88, b"\x03\xf3")


# --- a connection that is failed for its size ---------------------------------------------------------------------


@both_sides
async def test_octet_by_octet_the_head_is_enough(side):
    wire = by_octets([F(BINARY, b"x" * 300)], side)
    seen = await talk(side, wire, max_message_size=100)
    assert_failed(seen, 1009, strict=True)
    assert seen.frames_after(3) == seen.frames
