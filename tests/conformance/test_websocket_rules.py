"""The rules of RFC 6455 one by one, for both sides, with a peer that writes its frames by hand: frames, masks, pings.

The numbers in the names of the cases are those of the Autobahn testsuite, which asks the same questions. The modules
beside this one, `test_websocket_rules_*`, go on from here; `talk` serves them all.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import ConnectionClosed, LimitExceededError, Reason, RemoteProtocolError

from ..helpers.pairs import memory_pair, tcp_pair
from ..helpers.websockets_by_hand import REQUEST, answer_by_hand, both

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASKING_KEY = b"\x37\xfa\x21\x3d"  # of the examples in RFC 6455 §5.7

both_sides = pytest.mark.parametrize("side", ["server", "client"])


# --- frames by hand -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class F:
    """A frame, also one that may not be."""

    opcode: int
    data: bytes = b""
    fin: bool = True
    rsv: int = 0  # RSV1 is 4, RSV2 is 2, RSV3 is 1
    length_bits: int | None = None  # 7, 16 or 64; None for as few as it takes
    announced: int | None = None  # the length in the head, where the payload has another one
    masked: bool | None = None  # None: as the side that sends it has to
    key: bytes = MASKING_KEY

    def wire(self, side: str) -> bytes:
        """What is sent to this side."""
        size = len(self.data) if self.announced is None else self.announced
        bits = self.length_bits or (7 if size < 126 else 16 if size < 65536 else 64)
        masked = side == "server" if self.masked is None else self.masked
        second = masked << 7 | {7: size, 16: 126, 64: 127}[bits]
        head = bytes((self.fin << 7 | self.rsv << 4 | self.opcode, second))
        if bits > 7:
            head += size.to_bytes(bits // 8)
        return head + (self.key + xor(self.data, self.key) if masked else self.data)


def xor(data: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 §5.3)."""
    keys = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(keys)).to_bytes(len(data))


def text(data: str | bytes = b"", **how: Any) -> F:
    return F(TEXT, data.encode() if isinstance(data, str) else data, **how)


def close(code: int | None = 1000, reason: bytes = b"", **how: Any) -> F:
    return F(CLOSE, b"" if code is None else code.to_bytes(2) + reason, **how)


def frames_of(data: bytes, side: str) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame that this side has sent; each one is held to RFC 6455 §5."""
    frames, at = [], 0
    while at < len(data):
        first, second = data[at : at + 2]
        at += 2
        assert second >> 7 == (side == "client"), "a client masks all of its frames, a server none"
        size = second & 127
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + width])
            assert size > (125 if width == 2 else 65535), "the length has more bytes than it takes"
            at += width
        if first & 8:
            assert first & 0x70 == 0, "a control frame has a reserved bit set"
            assert first & 0x80, "a control frame is fragmented"
            assert size <= 125, "a control frame is too long"
        key = b""
        if second >> 7:
            key = data[at : at + 4]
            at += 4
        payload = data[at : at + size]
        assert len(payload) == size, "the last frame is cut off"
        assert not frames or frames[-1][0] != 0x88, "there are frames behind the close frame"
        at += size
        frames.append((first, xor(payload, key) if key else payload))
    return frames


# --- how a stream is cut ------------------------------------------------------------------------------------------


def in_one(frames: list[F], side: str) -> list[bytes]:
    return [b"".join(frame.wire(side) for frame in frames)]


def by_frames(frames: list[F], side: str) -> list[bytes]:
    return [frame.wire(side) for frame in frames]


def by_octets(frames: list[F], side: str) -> list[bytes]:
    return chopped(in_one(frames, side)[0], 1)


def chopped(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


every_cut = pytest.mark.parametrize("cut", [in_one, pytest.param(by_frames, marks=pytest.mark.soak), by_octets])
"""The extremes always; what lies between them in the soak."""


def thorough(*values: Any) -> list[Any]:
    """Parameters for the soak alone."""
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


# --- a conversation -----------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What came of a conversation.

    Attributes:
        side: Which one is trionet's.
        received: All that the peer got behind the handshake.
        after: How much of it was there after each piece that the peer sent.
        at_eof: Whether trionet's side had ended its stream before the peer ended its own.
        messages: What the application got.
        error: What told it that no more will come.
    """

    side: str
    websocket: trionet.WebSocket
    received: bytearray = field(default_factory=bytearray)
    after: list[int] = field(default_factory=list)
    at_eof: bool = False
    ended: bool = False
    messages: list[str | bytes] = field(default_factory=list)
    error: Exception | None = None

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        return frames_of(bytes(self.received), self.side)

    def frames_after(self, piece: int) -> list[tuple[int, bytes]]:
        return frames_of(bytes(self.received[: self.after[piece]]), self.side)

    @property
    def data_frames(self) -> list[tuple[int, bytes]]:
        return [frame for frame in self.frames if not frame[0] & 8]

    @property
    def pongs(self) -> list[bytes]:
        return [payload for first, payload in self.frames if first == 0x8A]


async def opened(side, one, other, extensions=None, **options):
    """trionet's side of a WebSocket on `one`; its peer is `other`. And the head that the peer got."""
    field_ = b"" if extensions is None else f"Sec-WebSocket-Extensions: {extensions}\r\n".encode()
    if side == "server":
        await other.send_all(REQUEST[:-2] + field_ + b"\r\n")
        websocket = await one.upgrade(trionet.to_websocket_server(**options))
        return websocket, await other.receive_until(b"\r\n\r\n", max_bytes=2000)
    return await both(
        lambda: one.upgrade(trionet.to_websocket_client("ws://example/chat", **options)),
        lambda: answer_by_hand(other, extra=field_),
    )


async def echo(websocket, seen):
    """The application: messages are sent back, until it is told that there are no more."""
    try:
        while True:
            seen.messages.append(await websocket.get_message())
            with suppress(ConnectionClosed):
                await websocket.send_message(seen.messages[-1])
    except trionet.TrionetError as exc:
        seen.error = exc


async def echo_in_parts(websocket, seen):
    """As `echo`, with messages that are taken in parts."""
    try:
        while True:
            parts = [part async for part in websocket.receive_fragments()]
            seen.messages.append(type(parts[0])().join(parts))
            with suppress(ConnectionClosed):
                await websocket.send_message(seen.messages[-1])
    except trionet.TrionetError as exc:
        seen.error = exc


every_application = pytest.mark.parametrize("application", [echo, echo_in_parts])


async def listen(other, seen):
    with suppress(trio.BrokenResourceError):
        while data := await other.receive_some():
            seen.received += data
    seen.ended = True


async def talk(side, pieces, *, make_pair=memory_pair, application=echo, extensions=None, **options) -> Seen:
    """The peer sends these pieces, each when all has come of the one before, and then ends its stream."""
    with trio.fail_after(30):
        async with trionet.open_scope() as scope:
            one, other = make_pair(scope)
            websocket, _ = await opened(side, one, other, extensions, **options)
            seen = Seen(side, websocket)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(application, websocket, seen)
                nursery.start_soon(listen, other, seen)
                with suppress(trio.BrokenResourceError):  # a server that has closed hears no more
                    for piece in pieces:
                        await other.send_all(piece)
                        await wait_all_tasks_blocked()
                        seen.after.append(len(seen.received))
                    seen.at_eof = seen.ended
                    await other.send_eof()
            await websocket.wait_ended()
    return seen


async def assert_echoed(side, frames, messages, *, cut=in_one, **options) -> Seen:
    """The application gets exactly these messages, the peer gets them back, and the close is clean."""
    pieces = [*cut(frames, side), close().wire(side)]
    seen = await talk(side, pieces, **options)
    assert seen.messages == messages
    assert seen.data_frames == [
        (0x81, message.encode()) if isinstance(message, str) else (0x82, message) for message in messages
    ]
    assert_closed(seen, 1000)
    return seen


def assert_closed(seen, code):
    """The peer's close was answered with its code, and told to the application as such."""
    assert seen.frames[-1] == (0x88, b"" if code is None else code.to_bytes(2))
    assert isinstance(seen.error, ConnectionClosed)
    assert seen.error.reason.code == seen.websocket.closed.code == (1005 if code is None else code)
    assert seen.websocket.end.reason is Reason.PEER_EOF


def assert_failed(seen, code, *, messages=(), strict=False):
    """The connection was failed: the peer got one close frame with this code and no pong, and the application an error.

    Messages that came before are delivered. They are echoed too, if the application had the time for it (`strict`).
    """
    assert seen.messages == list(messages)
    echoes = [(0x81, message.encode()) for message in messages]
    *before, (first, payload) = seen.frames
    assert before == echoes or (not strict and before == [])
    assert (first, int.from_bytes(payload[:2])) == (0x88, code)
    payload[2:].decode()
    assert seen.ended
    assert type(seen.error) is (LimitExceededError if code == 1009 else RemoteProtocolError)
    assert seen.websocket.closed.code == code
    assert seen.websocket.end.reason is Reason.PROTOCOL_ERROR


async def assert_fails(side, frames, code=1002, *, cut=in_one, messages=(), **options) -> Seen:
    """These frames fail the connection (RFC 6455 §7.1.7), after these messages and without waiting for more."""
    seen = await talk(side, cut(frames, side), **options)
    assert_failed(seen, code, messages=messages, strict=cut is not in_one)
    if len(seen.after) == len(cut(frames, side)):
        assert seen.frames == seen.frames_after(-1), "the close frame came only when the peer had ended its stream"
    with pytest.raises(ConnectionClosed) as caught:
        await seen.websocket.get_message()
    assert caught.value.reason.code == code
    with pytest.raises(ConnectionClosed):
        await seen.websocket.send_message("late")
    return seen


# --- 1: frames of every length (RFC 6455 §5.2) --------------------------------------------------------------------

LENGTHS = [0, 1, 125, 126, 127, 128, 65535, 65536]


@both_sides
@pytest.mark.parametrize("make_pair", [memory_pair, tcp_pair])
@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("kind", ["1.1 text", "1.2 binary"])
async def test_a_message_of_every_length_of_the_head(kind, size, make_pair, side):
    """1.1.1 to 1.2.7."""
    message = "*" * size if kind == "1.1 text" else b"\xfe" * size
    frame = text(message) if isinstance(message, str) else F(BINARY, message)
    await assert_echoed(side, [frame], [message], make_pair=make_pair)


@both_sides
@pytest.mark.parametrize("chop", [997, 1460, 16384, 65535])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_that_comes_in_chops(opcode, chop, side):
    """1.1.8, 1.2.8."""
    data = bytes(range(32, 96)) * 1024
    message = data.decode() if opcode == TEXT else data
    await assert_echoed(
        side, [F(opcode, data)], [message], cut=lambda frames, side: chopped(in_one(frames, side)[0], chop)
    )


@both_sides
@pytest.mark.parametrize("size", [0, 1, 125, 126, 128])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_that_comes_octet_by_octet(opcode, size, side):
    data = b"x" * size
    await assert_echoed(side, [F(opcode, data)], [data.decode() if opcode == TEXT else data], cut=by_octets)


@both_sides
@pytest.mark.parametrize("size", [125, 126, 65535, 65536])
@pytest.mark.parametrize("first", range(1, 15))
async def test_a_head_that_is_cut_anywhere(first, size, side):
    data = bytes(size)

    def cut(frames, side):
        wire = in_one(frames, side)[0]
        return [wire[:first], wire[first:]]

    await assert_echoed(side, [F(BINARY, data)], [data], cut=cut)


@both_sides
async def test_messages_of_both_kinds_keep_their_order_and_kind(side):
    await assert_echoed(side, [text("a"), F(BINARY, b"b"), text(""), F(BINARY), text("c")], ["a", b"b", "", b"", "c"])


@both_sides
@every_cut
@pytest.mark.parametrize(
    ("data", "bits"),
    [(b"", 16), (b"", 64), (b"x", 16), (b"x" * 125, 16), (b"x" * 125, 64), (b"x" * 126, 64), (b"x" * 65535, 64)],
    ids=lambda value: str(len(value)) if isinstance(value, bytes) else f"in {value} bits",
)
async def test_a_length_in_more_bytes_than_it_takes_fails(data, bits, cut, side):
    """RFC 6455 §5.2: the minimal number of bytes MUST be used."""
    if cut is by_octets:
        data = data[:125] if bits == 16 else data[:130]
    await assert_fails(side, [text("good"), F(BINARY, data, length_bits=bits)], cut=cut, messages=["good"])


@both_sides
@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
@pytest.mark.parametrize("bits", [16, 64])
async def test_a_control_frame_whose_length_has_more_bytes_fails(bits, opcode, side):
    await assert_fails(side, [F(opcode, b"\x03\xe8", length_bits=bits)])


@both_sides
@pytest.mark.parametrize("limit", [None, 2**20])
@pytest.mark.parametrize("announced", [2**63, 2**63 + 5, 2**64 - 1])
async def test_a_length_with_its_first_bit_set_fails(announced, limit, side):
    """RFC 6455 §5.2: the most significant bit MUST be 0."""
    frame = F(BINARY, b"hello", announced=announced, length_bits=64)
    await assert_fails(side, [text("good"), frame], cut=by_frames, messages=["good"], max_message_size=limit)


# --- masks (RFC 6455 §5.1, §5.3) ----------------------------------------------------------------------------------


@both_sides
@every_cut
@pytest.mark.parametrize(
    "frame",
    [text("x"), text(""), F(BINARY, b"x" * 200), text("x", fin=False), F(PING, b"?"), F(PONG), close(), close(None)],
    ids=["text", "empty text", "binary", "fragment", "ping", "pong", "close", "empty close"],
)
async def test_a_frame_that_is_masked_the_wrong_way_fails(frame, cut, side):
    wrong = F(frame.opcode, frame.data, frame.fin, masked=side == "client")
    await assert_fails(side, [text("good"), wrong], cut=cut, messages=["good"])


@both_sides
async def test_a_continuation_that_is_masked_the_wrong_way_fails(side):
    wrong = F(CONT, b"b", masked=side == "client")
    await assert_fails(side, [text("a", fin=False), wrong])


async def test_a_server_takes_any_masking_key():
    keys = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"abcd"]
    await assert_echoed("server", [text("x" * size, key=key) for key in keys for size in (5, 0)], ["x" * 5, ""] * 4)


async def test_a_client_masks_with_a_key_that_is_new_each_time():
    """RFC 6455 §5.3, §10.3: the key of one frame must not tell that of the next."""
    seen = await talk("client", [text("xxxx", masked=False).wire("client")] * 50)
    assert seen.messages == ["xxxx"] * 50
    frames = chopped(bytes(seen.received), 10)
    assert [frame[:2] for frame in frames[:50]] == [b"\x81\x84"] * 50
    assert [xor(frame[6:], frame[2:6]) for frame in frames[:50]] == [b"xxxx"] * 50
    assert len({frame[2:6] for frame in frames}) > 45


# --- 2: pings and pongs (RFC 6455 §5.5.2, §5.5.3) -----------------------------------------------------------------

PING_PAYLOADS = {
    "2.1 empty": b"",
    "2.2 text": b"Hello, world!",
    "2.3 binary": b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",
    "2.4 125 bytes": b"\xfe" * 125,
}


@both_sides
@every_cut
@pytest.mark.parametrize("payload", PING_PAYLOADS.values(), ids=PING_PAYLOADS)
async def test_a_ping_is_answered_with_its_payload(payload, cut, side):
    """2.1 to 2.4, and 2.6 octet by octet."""
    seen = await assert_echoed(side, [F(PING, payload)], [], cut=cut)
    assert seen.frames == [(0x8A, payload), (0x88, b"\x03\xe8")]


@both_sides
@every_cut
@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("size", [126, 127, 65536])
async def test_a_control_frame_of_more_than_125_bytes_fails(size, opcode, cut, side):
    """2.5; §5.5."""
    frame = F(opcode, b"\xfe" * (130 if cut is by_octets else size), announced=size)
    seen = await assert_fails(side, [text("good"), frame], cut=cut, messages=["good"])
    assert seen.pongs == []


@both_sides
@every_cut
@pytest.mark.parametrize("payload", [b"", b"unsolicited pong payload", b"x" * 125], ids=["2.7 empty", "2.8", "longest"])
async def test_a_pong_that_nobody_asked_for_is_not_answered(payload, cut, side):
    seen = await assert_echoed(side, [F(PONG, payload)], [], cut=cut)
    assert seen.frames == [(0x88, b"\x03\xe8")]


@both_sides
@every_cut
async def test_a_ping_behind_such_a_pong_is_answered(cut, side):
    """2.9."""
    seen = await assert_echoed(side, [F(PONG, b"unsolicited"), F(PING, b"ping payload")], [], cut=cut)
    assert seen.pongs == [b"ping payload"]


@both_sides
@every_cut
async def test_ten_pings(cut, side):
    """2.10, 2.11. Each is answered, also where they came together (§5.5.3)."""
    payloads = [b"payload-%d" % index for index in range(10)]
    seen = await assert_echoed(side, [F(PING, payload) for payload in payloads], [], cut=cut)
    assert seen.pongs == payloads


@both_sides
@every_cut
async def test_a_ping_between_messages_is_answered(cut, side):
    seen = await assert_echoed(side, [text("a"), F(PING, b"1"), text("b")], ["a", "b"], cut=cut)
    assert seen.pongs == [b"1"]
    if cut is not in_one:
        assert seen.frames == [(0x81, b"a"), (0x8A, b"1"), (0x81, b"b"), (0x88, b"\x03\xe8")]


# --- what a WebSocket sends ---------------------------------------------------------------------------------------


@both_sides
@pytest.mark.parametrize("size", LENGTHS)
async def test_a_message_is_sent_in_one_frame_with_a_head_as_short_as_can_be(size, side):
    async def application(websocket, seen):
        await websocket.send_message(b"x" * size)
        await echo(websocket, seen)

    seen = await talk(side, [], application=application)
    head = 2 + (0 if size < 126 else 2 if size < 65536 else 8) + (4 if side == "client" else 0)
    assert len(seen.received) == head + size
    assert seen.frames == [(0x82, b"x" * size)]


@both_sides
async def test_a_control_frame_is_never_longer_than_125_bytes(side):
    async def application(websocket, seen):
        for send in (websocket.ping, websocket.pong):
            with pytest.raises(ValueError, match="125"):
                await send(b"x" * 126)
        await websocket.pong(b"x" * 125)
        await echo(websocket, seen)

    seen = await talk(side, [], application=application)
    assert seen.frames == [(0x8A, b"x" * 125)]
