"""RFC 6455 rule by rule: the closing handshake, close codes and reasons (§5.5.1, §7)."""

from __future__ import annotations

import pytest
import trio

import trionet
from trionet import ConnectionClosed, Reason, RemoteProtocolError

from ..helpers.pairs import memory_pair
from .test_websocket_rules import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    F,
    Seen,
    assert_closed,
    assert_fails,
    both_sides,
    by_frames,
    by_octets,
    close,
    echo,
    every_application,
    every_cut,
    in_one,
    opened,
    talk,
    text,
)
from .test_websocket_rules_utf8 import INVALID, cases

# --- 7.1: what comes before and behind a close --------------------------------------------------------------------


@both_sides
@every_application
async def test_a_message_then_a_close(application, side):
    """7.1.1."""
    seen = await talk(side, by_frames([text("Hello World!"), close()], side), application=application)
    assert seen.messages == ["Hello World!"]
    assert seen.frames == [(0x81, b"Hello World!"), (0x88, b"\x03\xe8")]
    assert_closed(seen, 1000)


@both_sides
@every_application
async def test_messages_in_the_same_segment_as_the_close_are_given_all_the_same(application, side):
    frames = [text("a"), F(BINARY, b"b"), text("c", fin=False), F(CONT, b"d"), close()]
    seen = await talk(side, in_one(frames, side), application=application)
    assert seen.messages == ["a", b"b", "cd"]
    assert_closed(seen, 1000)


BEHIND_A_CLOSE = {
    "7.1.2 a second close": [close(1001)],
    "7.1.3 a ping": [F(PING)],
    "7.1.4 a message": [text("Hello World!")],
    "an offence": [text("x", rsv=7)],
    "text that is not UTF-8": [text(b"\xff")],
    "a bad close": [close(999)],
    "no frame": [F(BINARY, b"x", announced=100)],
    "much": [F(BINARY, bytes(60000)), F(PING, b"x")] * 3,
}


@both_sides
@pytest.mark.parametrize("cut", [in_one, by_frames])
@every_application
@pytest.mark.parametrize("case", BEHIND_A_CLOSE)
async def test_what_comes_behind_a_close_is_ignored(case, application, cut, side):
    pieces = cut([text("before"), close(), *BEHIND_A_CLOSE[case]], side)
    seen = await talk(side, pieces, application=application)
    assert seen.messages == ["before"]
    assert seen.frames in ([(0x81, b"before"), (0x88, b"\x03\xe8")], [(0x88, b"\x03\xe8")])
    assert_closed(seen, 1000)


@both_sides
@every_cut
async def test_a_close_inside_a_fragmented_message(cut, side):
    """7.1.5."""
    frames = [text("fragment1", fin=False), close(), F(CONT, b"fragment2")]
    seen = await talk(side, cut(frames, side))
    assert seen.messages == []
    assert seen.frames == [(0x88, b"\x03\xe8")]
    assert_closed(seen, 1000)


@both_sides
@pytest.mark.parametrize("cut", [in_one, by_frames])
async def test_a_close_behind_a_large_message(cut, side):
    """7.1.6: whether there is time for an echo is up to the moment, but both messages are given."""
    frames = [text("BAsd7&jh23" * 26214), text("Hello World!"), close(), F(PING)]
    seen = await talk(side, cut(frames, side))
    assert seen.messages == ["BAsd7&jh23" * 26214, "Hello World!"]
    assert_closed(seen, 1000)


@both_sides
@every_cut
async def test_the_server_ends_the_connection_first(cut, side):
    """§7.1.1: a server that has answered closes at once, a client gives the server the time to do that."""
    seen = await talk(side, cut([close()], side))
    assert_closed(seen, 1000)
    assert seen.at_eof == (side == "server")


# --- 7.3: the payload of a close frame ----------------------------------------------------------------------------

REASONS = {
    "7.3.3 none": b"",
    "7.3.4 a short one": b"Hello World!",
    "7.3.5 123 bytes": b"*" * 123,
    "characters of many bytes": "ä€😀".encode() * 13,
    "NUL": b"\0",
}


@both_sides
@every_cut
@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
async def test_code_and_reason_are_told_and_the_code_is_answered(reason, cut, side):
    seen = await talk(side, cut([close(1000, reason)], side))
    ((first, payload),) = seen.frames
    assert first == 0x88
    assert payload in (b"\x03\xe8", b"\x03\xe8" + reason)
    assert seen.error.reason.code == seen.websocket.closed.code == 1000
    assert seen.error.reason.reason == seen.websocket.closed.reason == (reason.decode() or None)


@both_sides
@every_cut
async def test_a_close_without_a_code(cut, side):
    """7.3.1; §7.1.5: that is told as 1005, which itself is never sent."""
    seen = await talk(side, cut([close(None)], side))
    assert seen.frames == [(0x88, b"")]
    assert_closed(seen, None)


@both_sides
@every_cut
@pytest.mark.parametrize("data", [b"a", b"\x03", b"\0"])
async def test_half_a_code_fails(data, cut, side):
    """7.3.2."""
    await assert_fails(side, [text("good"), F(CLOSE, data)], cut=cut, messages=["good"])


@both_sides
@every_cut
@pytest.mark.parametrize("size", [124, 125, 1000])
async def test_a_reason_of_more_than_123_bytes_fails(size, cut, side):
    """7.3.6."""
    await assert_fails(side, [close(1000, b"*" * size)], cut=cut)


@both_sides
async def test_a_reason_that_is_not_utf_8_fails(side):
    """7.5.1."""
    reason = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64"
    await assert_fails(side, [text("good"), close(1000, reason)], 1007, cut=by_frames, messages=["good"])


@both_sides
@pytest.mark.parametrize("reason", cases(INVALID))
async def test_every_reason_that_is_not_utf_8_fails(reason, side):
    await assert_fails(side, [close(4000, reason[:123])], 1007)


# --- 7.7, 7.9, 7.13: close codes (§7.4) ---------------------------------------------------------------------------

VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 1, 255, 256, 999, 1004, 1005, 1006, 1015, 1016, 1099, 1100, 1999, 2000, 2999, 5000, 5001, 65535]


@both_sides
@pytest.mark.parametrize("cut", [in_one, by_octets])
@pytest.mark.parametrize("reason", [b"", b"why"])
@pytest.mark.parametrize("code", VALID_CODES)
async def test_a_close_with_a_valid_code(code, reason, cut, side):
    """7.7. Codes 1012 to 1014 are in IANA's registry."""
    seen = await talk(side, cut([text("before"), close(code, reason)], side))
    assert seen.messages == ["before"]
    first, payload = seen.frames[-1]
    assert (first, payload[:2]) == (0x88, code.to_bytes(2))
    assert seen.error.reason.code == seen.websocket.closed.code == code
    assert seen.error.reason.reason == (reason.decode() or None)
    assert seen.websocket.end.reason is Reason.PEER_EOF


@both_sides
@pytest.mark.parametrize("cut", [in_one, by_octets])
@pytest.mark.parametrize("reason", [b"", b"why"])
@pytest.mark.parametrize("code", INVALID_CODES)
async def test_a_close_with_an_invalid_code_fails(code, reason, cut, side):
    """7.9, 7.13. 1004 is reserved; 1005, 1006 and 1015 must not be sent (§7.4.1); from 5000 on none is defined."""
    await assert_fails(side, [text("before"), close(code, reason)], cut=cut, messages=["before"])


# --- the end without a close --------------------------------------------------------------------------------------

UNFINISHED = {
    "nothing": [],
    "a message": [text("a")],
    "a fragment": [text("a"), text("b", fin=False)],
    "half a frame": [text("a"), F(BINARY, b"x", announced=10)],
    "half a head": [text("a"), F(BINARY, b"", announced=65536)],
}


@both_sides
@every_application
@pytest.mark.parametrize("case", UNFINISHED)
async def test_eof_without_a_close_is_told_as_1006_which_is_never_sent(case, application, side):
    frames = UNFINISHED[case]
    seen = await talk(side, by_frames(frames, side), application=application)
    assert seen.messages == ["a"] * bool(frames)
    assert seen.frames == [(0x81, b"a")] * bool(frames)
    assert isinstance(seen.error, ConnectionClosed)
    assert seen.error.reason.code == seen.websocket.closed.code == 1006


# --- a close that begins on this side -----------------------------------------------------------------------------


async def closed_by_us(side, answer, code=1000, reason=None):
    """`aclose`, and what the peer sends once it has read our close frame."""
    with trio.fail_after(30):
        async with trionet.open_scope() as scope:
            one, other = memory_pair(scope)
            websocket, _ = await opened(side, one, other)
            seen = Seen(side, websocket)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.aclose, code, reason)
                seen.received += await other.receive_some()
                for piece in answer:
                    await other.send_all(piece)
                await other.send_eof()
                while data := await other.receive_some():
                    seen.received += data
    return seen


OUR_CLOSES = [(1000, None), (1001, "bye"), (1011, ""), (3000, "€" * 41), (4999, "x" * 123)]


@both_sides
@pytest.mark.parametrize("answer", [close(), close(4000, b"another"), close(None)], ids=["same", "other code", "none"])
@pytest.mark.parametrize(("code", "reason"), OUR_CLOSES)
async def test_what_a_close_says(code, reason, answer, side):
    seen = await closed_by_us(side, [answer.wire(side)], code, reason)
    assert seen.frames == [(0x88, code.to_bytes(2) + (reason or "").encode())]
    assert (seen.websocket.closed.code, seen.websocket.closed.reason) == (code, reason or None)
    assert seen.websocket.end.reason is Reason.LOCAL
    with pytest.raises(ConnectionClosed):
        await seen.websocket.send_message("late")


BEFORE_THE_ANSWER = {
    "a message": [text("x")],
    "a ping": [F(PING, b"x")],
    "a pong": [F(PONG, b"x")],
    "a fragmented message": [text("x", fin=False), F(PING), F(CONT, b"y")],
    "half a message": [text("x", fin=False)],
    "much": [F(BINARY, bytes(60000)), F(PING)] * 5,
}


@both_sides
@pytest.mark.parametrize("cut", [in_one, by_frames])
@pytest.mark.parametrize("case", BEFORE_THE_ANSWER)
async def test_behind_our_close_nothing_is_sent_any_more(case, cut, side):
    """§5.5.1. The peer may go on until it has seen our close frame; its pings are not answered then."""
    seen = await closed_by_us(side, cut([*BEFORE_THE_ANSWER[case], close()], side))
    assert seen.frames == [(0x88, b"\x03\xe8")]
    assert seen.websocket.end.reason is Reason.LOCAL


@both_sides
@pytest.mark.parametrize("offence", [close(999), F(CLOSE, b"x"), text(b"\xff"), text("x", rsv=1), F(CONT), F(15)])
async def test_an_offence_instead_of_an_answer_ends_it_too(offence, side):
    seen = await closed_by_us(side, in_one([offence], side))
    assert seen.frames == [(0x88, b"\x03\xe8")]
    assert seen.websocket.end.reason is Reason.LOCAL


@both_sides
async def test_both_may_close_at_the_same_time(side):
    """Neither answers the other's close frame: each has sent its own (§5.5.1)."""

    async def application(websocket, seen):
        await websocket.aclose(1001)
        await echo(websocket, seen)

    seen = await talk(side, [close(1000).wire(side)], application=application)
    assert seen.frames == [(0x88, b"\x03\xe9")]


@both_sides
async def test_an_offence_behind_our_messages_is_reported_behind_them(side):
    """What the application has sent before is not lost over it."""

    async def application(websocket, seen):
        await websocket.send_message("x" * 100_000)
        await echo(websocket, seen)

    seen = await talk(side, [text("x", rsv=1).wire(side)], application=application)
    message, (first, payload) = seen.frames
    assert message == (0x81, b"x" * 100_000)
    assert (first, payload[:2]) == (0x88, b"\x03\xea")
    assert isinstance(seen.error, RemoteProtocolError)
