"""RFC 6455 rule by rule: reserved bits, reserved opcodes, and what is left of a connection that was failed for them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet

from ..helpers.pairs import memory_pair
from ..helpers.websockets_by_hand import REQUEST, answer_by_hand, both
from .test_websocket_rules import (
    BINARY,
    CONT,
    PING,
    PONG,
    F,
    Seen,
    assert_failed,
    assert_fails,
    both_sides,
    by_frames,
    by_octets,
    close,
    echo,
    every_cut,
    in_one,
    listen,
    talk,
    text,
)

HELLO = b"Hello, world!"

# --- 3: reserved bits (RFC 6455 §5.2) -----------------------------------------------------------------------------

KINDS = {
    "text": text("x"),
    "empty text": text(""),
    "binary": F(BINARY, b"\0\xff\xfe"),
    "first fragment": text("x", fin=False),
    "ping": F(PING, b"x"),
    "pong": F(PONG, b"x"),
    "close": close(),
    "empty close": close(None),
}


@both_sides
@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("kind", KINDS)
async def test_a_reserved_bit_fails(kind, rsv, side):
    frame = KINDS[kind]
    await assert_fails(side, [F(frame.opcode, frame.data, frame.fin, rsv)])


@both_sides
@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("fin", [False, True])
async def test_a_reserved_bit_in_a_continuation_fails(fin, rsv, side):
    await assert_fails(side, [text("a", fin=False), F(CONT, b"b", fin, rsv)])


RESERVED_BITS = {
    "3.1": [text(HELLO, rsv=1)],
    "3.2": [text("good"), text(HELLO, rsv=2), F(PING)],
    "3.3": [text("good"), text(HELLO, rsv=3), F(PING)],
    "3.4": [text("good"), text(HELLO, rsv=4), F(PING)],
    "3.5": [F(BINARY, b"\0\xff\xfe\xfd\xfc\xfb\0\xff", rsv=5)],
    "3.6": [F(PING, HELLO, rsv=6)],
    "3.7": [close(rsv=7)],
}


@both_sides
@every_cut
@pytest.mark.parametrize("case", RESERVED_BITS)
async def test_reserved_bits_of_the_testsuite(case, cut, side):
    frames = RESERVED_BITS[case]
    await assert_fails(side, frames, cut=cut, messages=["good"] * (frames[0].rsv == 0))


# --- 4: reserved opcodes (RFC 6455 §5.2) --------------------------------------------------------------------------

RESERVED_OPCODES = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]


@both_sides
@pytest.mark.parametrize("data", [b"", b"reserved opcode payload", b"x" * 200], ids=["empty", "short", "long"])
@pytest.mark.parametrize("fin", [True, False], ids=["final", "not final"])
@pytest.mark.parametrize("opcode", RESERVED_OPCODES)
async def test_a_reserved_opcode_fails(opcode, fin, data, side):
    """4.1.1, 4.1.2, 4.2.1, 4.2.2."""
    await assert_fails(side, [F(opcode, data, fin)])


@both_sides
@every_cut
@pytest.mark.parametrize("data", [b"", HELLO], ids=["empty", "payload"])
@pytest.mark.parametrize("opcode", RESERVED_OPCODES)
async def test_a_reserved_opcode_between_a_message_and_a_ping_fails(opcode, data, cut, side):
    """4.1.3 to 4.1.5, 4.2.3 to 4.2.5."""
    await assert_fails(side, [text("good"), F(opcode, data), F(PING)], cut=cut, messages=["good"])


@both_sides
@pytest.mark.parametrize("opcode", RESERVED_OPCODES)
async def test_a_reserved_opcode_inside_a_fragmented_message_fails(opcode, side):
    await assert_fails(side, [text("a", fin=False), F(opcode), F(CONT, b"b")])


# --- nothing is looked at behind a failure (RFC 6455 §7.1.7) ------------------------------------------------------

BEHIND = {
    "message": [text("behind")],
    "ping": [F(PING, b"behind")],
    "close": [close()],
    "another offence": [close(999), text(b"\xff")],
    "the same offence": [text("", rsv=1)],
    "a torn frame": [F(BINARY, b"x", announced=1000)],
    "everything": [text("behind"), F(PING), close(), text("behind"), F(15)],
}


@both_sides
@every_cut
@pytest.mark.parametrize("case", BEHIND)
async def test_what_comes_behind_an_offence_is_ignored(case, cut, side):
    await assert_fails(side, [text("good"), text("bad", rsv=1), *BEHIND[case]], cut=cut, messages=["good"])


@both_sides
async def test_a_ping_before_an_offence_is_answered(side):
    """Also in the same segment, where an answer before the close frame is not a must: it is the newest news."""
    for cut in (by_frames, by_octets):
        seen = await talk(side, cut([F(PING, b"?"), text("bad", rsv=1)], side))
        assert [first for first, _ in seen.frames] == [0x8A, 0x88]
    seen = await talk(side, in_one([F(PING, b"?"), text("bad", rsv=1)], side))
    assert [first for first, _ in seen.frames][-1] == 0x88


@both_sides
async def test_an_offence_in_the_bytes_behind_the_handshake_fails(side):
    """It was received together with the peer's part of the handshake."""
    async with trionet.open_scope() as scope:
        one, other = memory_pair(scope)
        frames = in_one([text("good"), text("bad", rsv=1)], side)[0]
        if side == "server":
            await other.send_all(REQUEST + frames)
            websocket = await one.upgrade(trionet.to_websocket_server())
            await other.receive_until(b"\r\n\r\n", max_bytes=2000)
        else:
            websocket, _ = await both(
                lambda: one.upgrade(trionet.to_websocket_client("ws://example/chat")),
                lambda: answer_by_hand(other, behind=frames),
            )
        seen = Seen(side, websocket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, websocket, seen)
            nursery.start_soon(listen, other, seen)
            await wait_all_tasks_blocked()
            await other.send_eof()
    assert_failed(seen, 1002, messages=["good"])
