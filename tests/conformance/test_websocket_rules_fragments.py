"""RFC 6455 rule by rule: messages in fragments, and control frames among them (§5.4)."""

from __future__ import annotations

import pytest

from .test_websocket_rules import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    F,
    assert_closed,
    assert_echoed,
    assert_fails,
    both_sides,
    by_frames,
    close,
    every_cut,
    talk,
    text,
)

HELLO = b"Hello, world!"

# --- 5: fragments (RFC 6455 §5.4) ---------------------------------------------------------------------------------


@both_sides
@every_cut
@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
async def test_a_control_frame_in_fragments_fails(opcode, cut, side):
    """5.1, 5.2; §5.5."""
    await assert_fails(side, [F(opcode, b"\x03\xe8", fin=False), F(CONT, b"fragment2")], cut=cut)


@both_sides
@every_cut
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("count", [2, 3, 10])
async def test_fragments_become_one_message(count, opcode, cut, side):
    """5.3 to 5.5."""
    parts = [b"fragment%d" % index for index in range(count)]
    frames = [F(opcode if index == 0 else CONT, part, index == count - 1) for index, part in enumerate(parts)]
    whole = b"".join(parts)
    await assert_echoed(side, frames, [whole.decode() if opcode == TEXT else whole], cut=cut)


@both_sides
@every_cut
async def test_a_ping_between_two_fragments_is_answered_at_once(cut, side):
    """5.6 to 5.8."""
    frames = [text("fragment1", fin=False), F(PING, b"ping payload"), F(CONT, b"fragment2")]
    seen = await assert_echoed(side, frames, ["fragment1fragment2"], cut=cut)
    assert seen.frames[:2] == [(0x8A, b"ping payload"), (0x81, b"fragment1fragment2")]


@both_sides
@every_cut
@pytest.mark.parametrize("fin", [True, False], ids=["5.9 final", "5.12 not final"])
async def test_a_continuation_of_nothing_fails(fin, cut, side):
    """5.9 to 5.14."""
    await assert_fails(side, [F(CONT, b"non-continuation payload", fin), text(HELLO)], cut=cut)


NOTHING_TO_CONTINUE = {
    "5.15": [text("frag", fin=False), F(CONT, b"ment"), F(CONT, b"more", fin=False), text(HELLO)],
    "5.15 final": [text("frag", fin=False), F(CONT, b"ment"), F(CONT, b"more"), text(HELLO)],
    "5.16": [F(CONT, b"fragment1", fin=False), text("fragment2", fin=False), F(CONT, b"fragment3")] * 2,
    "5.17": [F(CONT, b"fragment1"), text("fragment2", fin=False), F(CONT, b"fragment3")] * 2,
    "5.18": [text("fragment1", fin=False), text("fragment2")],
    "5.18 not final": [text("fragment1", fin=False), text("fragment2", fin=False), F(CONT, b"x")],
    "5.18 binary in text": [text("fragment1", fin=False), F(BINARY, b"fragment2"), F(CONT, b"x")],
    "5.18 text in binary": [F(BINARY, b"fragment1", fin=False), text(""), F(CONT, b"x")],
    "5.18 behind a ping": [text("fragment1", fin=False), F(PONG), text("fragment2")],
    "a continuation behind a message": [text("fragment"), F(CONT, b"x")],
    "an empty continuation behind a message": [text("fragment"), F(CONT)],
    "a continuation behind a ping": [text("fragment"), F(PONG), F(CONT, b"", fin=False)],
}


@both_sides
@every_cut
@pytest.mark.parametrize("case", NOTHING_TO_CONTINUE)
async def test_fragments_out_of_order_fail(case, cut, side):
    messages = ["fragment"] if case.startswith(("5.15", "a")) else []
    await assert_fails(side, NOTHING_TO_CONTINUE[case], cut=cut, messages=messages)


@both_sides
@every_cut
async def test_pings_among_five_fragments(cut, side):
    """5.19, 5.20: each ping is answered before the message has come to its end."""
    frames = [
        text("fragment1", fin=False),
        F(CONT, b"fragment2", fin=False),
        F(PING, b"pongme 1!"),
        F(CONT, b"fragment3", fin=False),
        F(CONT, b"fragment4", fin=False),
        F(PING, b"pongme 2!"),
        F(CONT, b"fragment5"),
    ]
    message = "fragment1fragment2fragment3fragment4fragment5"
    seen = await assert_echoed(side, frames, [message], cut=cut)
    assert seen.frames[:3] == [(0x8A, b"pongme 1!"), (0x8A, b"pongme 2!"), (0x81, message.encode())]
    if cut is by_frames:
        assert [len(seen.frames_after(index)) for index in range(7)] == [0, 0, 1, 1, 1, 2, 3]


@both_sides
@every_cut
async def test_every_control_frame_may_stand_between_fragments(cut, side):
    """§5.4; also a close, behind which the message never comes to its end."""
    frames = [text("a", fin=False), F(PONG, b"x"), F(PING, b"y"), F(CONT, b"b", fin=False), close(1001)]
    seen = await talk(side, cut(frames, side))
    assert seen.messages == []
    assert seen.frames == [(0x8A, b"y"), (0x88, b"\x03\xe9")]
    assert_closed(seen, 1001)


@both_sides
@every_cut
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_two_fragmented_messages_one_after_another(opcode, cut, side):
    frames = [F(opcode, b"a", fin=False), F(CONT, b"b"), F(3 - opcode, b"c", fin=False), F(CONT), F(opcode, b"d")]
    messages = ["ab", b"c", "d"] if opcode == TEXT else [b"ab", "c", b"d"]
    await assert_echoed(side, frames, messages, cut=cut)
