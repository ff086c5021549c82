"""RFC 7692 rule by rule: compressed messages, with a peer that holds its own streams of zlib (§6, §7.2)."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise

import pytest

import trionet

from ..helpers.pairs import memory_pair, tcp_pair
from ..helpers.websockets_by_hand import both
from .test_websocket_rules import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    F,
    assert_closed,
    assert_fails,
    both_sides,
    by_frames,
    by_octets,
    chopped,
    close,
    echo,
    every_application,
    every_cut,
    in_one,
    talk,
    text,
    thorough,
)

RSV1 = 4
TAIL = b"\x00\x00\xff\xff"


class Agreement:
    """What both sides have agreed on, and what the peer of `side` makes of it.

    Attributes:
        options: For `talk`.
    """

    def __init__(self, side, *, server_bits=15, client_bits=15, server_alone=False, client_alone=False, **settings):
        field = f"permessage-deflate; server_max_window_bits={server_bits}; client_max_window_bits={client_bits}"
        field += "; server_no_context_takeover" * server_alone + "; client_no_context_takeover" * client_alone
        compression = trionet.PerMessageDeflate(
            server_no_context_takeover=server_alone,
            client_no_context_takeover=client_alone,
            server_max_window_bits=server_bits,
            client_max_window_bits=client_bits,
            **{"min_size": 0, **settings},
        )
        self.options = {"compression": compression, "extensions": field}
        of_server, of_client = (server_bits, server_alone), (client_bits, client_alone)
        (self._bits, self._alone), (self._our_bits, self._our_alone) = (
            (of_server, of_client) if side == "server" else (of_client, of_server)
        )
        self._deflater = None
        self._inflater = None

    def squeeze(self, data: bytes, *, level: int = 6) -> bytes:
        """The payload of a message from the peer (§7.2.1)."""
        if self._deflater is None or self._our_alone:
            # zlib begins at 9, but then looks back for less than the 256 bytes of 8.
            self._deflater = zlib.compressobj(level, zlib.DEFLATED, -max(9, self._our_bits))
        compressed = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        return compressed.removesuffix(TAIL) or b"\x00"

    def message(self, message: str | bytes) -> F:
        if isinstance(message, str):
            return F(TEXT, self.squeeze(message.encode()), rsv=RSV1)
        return F(BINARY, self.squeeze(message), rsv=RSV1)

    def expand(self, payload: bytes) -> bytes:
        """The content of a message from `side` (§7.2.2), from a window that is exactly as large as was agreed."""
        if self._inflater is None or self._alone:
            self._inflater = zlib.decompressobj(-self._bits)
        found, rest = [], payload + TAIL
        # What stands in the output may be referred to beyond the window: so it is taken byte by byte.
        most = 1 if len(payload) < 3000 else 0
        while True:
            data = self._inflater.decompress(rest, most)
            rest = self._inflater.unconsumed_tail
            found.append(data)
            if not rest and (not most or not data):
                break
        assert not self._inflater.eof, "a message ends in the middle of what it was sent with"
        assert not self._inflater.unused_data
        return b"".join(found)

    def messages(self, seen) -> list[str | bytes]:
        """What the data frames say that the peer got."""
        messages, kind, deflated, data = [], 0, False, b""
        for first, payload in seen.data_frames:
            if first & 15:
                kind, deflated, data = first & 15, bool(first & 0x40), b""
            else:
                assert not first & 0x40, "RSV1 is for the first frame of a message"
            data += payload
            if first & 0x80:
                content = self.expand(data) if deflated else data
                messages.append(content.decode() if kind == TEXT else content)
        return messages


async def assert_echoed(agreement, side, frames, messages, *, cut=in_one, **options):
    """The application gets exactly these messages, the peer gets them back, and the close is clean."""
    pieces = [*cut(frames, side), close().wire(side)]
    seen = await talk(side, pieces, **{**agreement.options, **options})
    assert seen.messages == messages
    assert agreement.messages(seen) == messages
    assert_closed(seen, 1000)
    return seen


def in_fragments(frame: F, *at: int) -> list[F]:
    """The same message in fragments that end at these places; RSV1 in the first one only (§6.1)."""
    bounds = [0, *at, len(frame.data)]
    parts = [frame.data[begin:end] for begin, end in pairwise(bounds)]
    last = len(parts) - 1
    return [
        F(frame.opcode if index == 0 else CONT, part, index == last, frame.rsv if index == 0 else 0)
        for index, part in enumerate(parts)
    ]


def sample(size: int) -> bytes:
    """ASCII that compresses well, but does not repeat."""
    line = "line {:07d}: Habe nun, ach! Philosophie, Juristerei und Medizin, und leider auch Theologie\n"
    return "".join(line.format(index) for index in range(size // 88 + 1)).encode()[:size]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# --- 12: messages of every size, in one frame and in fragments of every size --------------------------------------

SIZES = [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072]
FRAGMENTED = [
    (8192, 256), (16384, 256), (32768, 256), (65536, 256),
    (131072, 256), (131072, 1024), (131072, 4096), (131072, 32768),
]  # fmt: skip


async def assert_many(agreement, side, opcode, size, fragment, count, **options):
    contents = chopped(sample(size * count), size)
    messages = [content.decode() for content in contents] if opcode == TEXT else contents
    frames = []
    for message in messages:
        frame = agreement.message(message)
        frames += in_fragments(frame, *range(fragment, len(frame.data), fragment)) if fragment else [frame]
    await assert_echoed(agreement, side, frames, messages, **options)


@both_sides
@every_application
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("size", [*SIZES[::3], *thorough(*SIZES[1::3], *SIZES[2::3])])
async def test_messages_of_every_size(size, opcode, application, side):
    """12.1 to 12.5, with fewer messages."""
    await assert_many(Agreement(side), side, opcode, size, 0, 5, application=application)


@both_sides
@every_application
@pytest.mark.parametrize(("size", "fragment"), FRAGMENTED)
async def test_messages_in_fragments_of_every_size(size, fragment, application, side):
    await assert_many(Agreement(side), side, TEXT, size, fragment, 3, application=application)


@pytest.mark.soak
@both_sides
@every_application
@pytest.mark.parametrize(("size", "fragment"), [*((size, 0) for size in SIZES), *FRAGMENTED])
async def test_very_many_messages_of_every_size(size, fragment, application, side):
    how = {"application": application, "make_pair": tcp_pair, "cut": by_frames}
    await assert_many(Agreement(side), side, TEXT, size, fragment, 1000 if size < 8192 else 200, **how)


# --- 13: everything that can be agreed on -------------------------------------------------------------------------

every_takeover = pytest.mark.parametrize(
    ("server_alone", "client_alone"), [(False, False), (True, False), (False, True), (True, True)]
)


@both_sides
@every_takeover
@pytest.mark.parametrize("bits", [(8, 8), (9, 15), (15, 9), (15, 15), *thorough((8, 15), (15, 8), (12, 10))])
@pytest.mark.parametrize("size_and_fragment", [(16, 0), (32768, 256), *thorough((1024, 0), (4096, 0), (32768, 0))])
async def test_whatever_was_agreed_on(size_and_fragment, bits, server_alone, client_alone, side):
    agreement = Agreement(
        side, server_bits=bits[0], client_bits=bits[1], server_alone=server_alone, client_alone=client_alone
    )
    await assert_many(agreement, side, TEXT, *size_and_fragment, 4)


@pytest.mark.soak
@both_sides
@every_takeover
@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize(("size", "fragment"), [*((size, 0) for size in SIZES), *FRAGMENTED])
async def test_whatever_was_agreed_on_with_many_messages(size, fragment, bits, server_alone, client_alone, side):
    how = {"server_alone": server_alone, "client_alone": client_alone}
    await assert_many(Agreement(side, server_bits=bits, client_bits=23 - bits, **how), side, TEXT, size, fragment, 30)


@both_sides
@pytest.mark.parametrize("bits", range(8, 16))
async def test_no_window_is_exceeded(bits, side):
    """§7.1.2: what repeats itself after more than the window is sent anew, what repeats itself within is not."""
    agreement = Agreement(side, server_bits=bits, client_bits=bits)
    # Neither distance is near the edge, of which zlib keeps away by 262 bytes; at 8 bits nothing repeats in time.
    near, far = noise(2**bits // 4), noise(2**bits + 300, seed=2)
    messages = [b"", near, near, far, far]
    seen = await assert_echoed(agreement, side, [agreement.message(message) for message in messages], messages)
    sizes = [len(payload) for _, payload in seen.data_frames]
    assert sizes[4] >= len(far)
    if bits > 9:
        assert sizes[2] < len(near) / 2 + 20


@both_sides
@every_takeover
async def test_the_context_is_taken_over_or_not(server_alone, client_alone, side):
    """§7.1.1."""
    agreement = Agreement(side, server_alone=server_alone, client_alone=client_alone)
    data = noise(500)
    seen = await assert_echoed(agreement, side, [agreement.message(data) for _ in range(3)], [data] * 3)
    first, *others = [len(payload) for _, payload in seen.data_frames]
    assert first >= 500
    if server_alone if side == "server" else client_alone:
        assert others == [first, first]
    else:
        assert max(others) < 30


@both_sides
async def test_without_takeover_a_message_that_refers_to_the_one_before_fails(side):
    agreement = Agreement(side, server_alone=True, client_alone=True)
    takes_over = Agreement(side)
    frames = [takes_over.message(noise(100)), takes_over.message(noise(100))]
    seen = await talk(side, by_frames(frames, side), **agreement.options)
    assert seen.messages == [noise(100)]
    assert seen.websocket.closed.code == 1007


@both_sides
@pytest.mark.parametrize("bits", [8, 9, 11])
async def test_a_reference_beyond_the_window_that_was_agreed_on_fails(bits, side):
    """What the peer has promised not to look back to need not be kept, and is not."""
    agreement, promised_nothing = Agreement(side, server_bits=bits, client_bits=bits), Agreement(side)
    data = noise(5000)
    frames = [promised_nothing.message(data), promised_nothing.message(data)]
    seen = await talk(side, by_frames(frames, side), **agreement.options)
    assert seen.messages == [data]
    assert seen.websocket.closed.code == 1007


@both_sides
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("mem_level", [1, 9])
async def test_every_level_of_compression(mem_level, level, side):
    agreement = Agreement(side, level=level, mem_level=mem_level)
    messages = [sample(5000), b"", noise(5000), sample(70000)]
    await assert_echoed(agreement, side, [agreement.message(message) for message in messages], messages)


# --- the examples of RFC 7692 §7.2.3 ------------------------------------------------------------------------------


def hexed(data: str) -> bytes:
    return bytes.fromhex(data)


EXAMPLES = {
    "7.2.3.1 one block": [F(TEXT, hexed("f2 48 cd c9 c9 07 00"), rsv=RSV1)],
    "7.2.3.1 in fragments": [F(TEXT, hexed("f2 48 cd"), fin=False, rsv=RSV1), F(CONT, hexed("c9 c9 07 00"))],
    "7.2.3.3 a block without compression": [F(TEXT, hexed("00 05 00 fa ff 48 65 6c 6c 6f 00"), rsv=RSV1)],
    "7.2.3.4 a final block": [F(TEXT, hexed("f3 48 cd c9 c9 07 00 00"), rsv=RSV1)],
    "7.2.3.5 two blocks": [F(TEXT, hexed("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"), rsv=RSV1)],
    "7.2.3.6 an empty last fragment": [
        F(TEXT, hexed("f2 48 cd c9 c9 07 00 00 00 ff ff"), fin=False, rsv=RSV1), F(CONT, b"\x00")],
}  # fmt: skip


@both_sides
@every_application
@every_cut
@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_of_the_rfc(example, cut, application, side):
    await assert_echoed(
        Agreement(side), side, EXAMPLES[example] * 2, ["Hello"] * 2, cut=cut, application=application
    )  # fmt: skip


@both_sides
@every_application
async def test_a_window_that_is_shared_by_messages(application, side):
    """§7.2.3.2."""
    frames = [F(TEXT, hexed("f2 48 cd c9 c9 07 00"), rsv=RSV1), *[F(TEXT, hexed("f2 00 11 00 00"), rsv=RSV1)] * 2]
    await assert_echoed(Agreement(side), side, frames, ["Hello"] * 3, application=application)


def finished(data: bytes, level: int = 6) -> bytes:
    """A stream of final blocks; the next message needs another one."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH)


BLOCKS = {
    "stored, two of them": hexed("00 02 00 fd ff 48 65 00 03 00 fc ff 6c 6c 6f 00"),
    "stored, the last one final": hexed("00 02 00 fd ff 48 65 01 03 00 fc ff 6c 6c 6f 00"),
    "stored, both final": hexed("01 02 00 fd ff 48 65 01 03 00 fc ff 6c 6c 6f 00"),
    "final, by zlib": finished(b"Hello") + b"\x00",
    "final, by zlib, stored": finished(b"Hello", level=0) + b"\x00",
    "final, twice": finished(b"Hel") + finished(b"lo") + b"\x00",
    "final, then not": finished(b"Hel") + hexed("00 02 00 fd ff 6c 6f 00"),
    "not final, then final": hexed("00 03 00 fc ff 48 65 6c") + finished(b"lo") + b"\x00",
    "a final block that is empty": hexed("00 05 00 fa ff 48 65 6c 6c 6f 01"),
    "empty blocks between": hexed("00 00 00 ff ff 00 02 00 fd ff 48 65 00 00 00 ff ff 00 03 00 fc ff 6c 6c 6f 00"),
    "an empty block of fixed codes at the end": hexed("f2 48 cd c9 c9 07 00 00 00 ff ff 02 00"),
}


@both_sides
@every_application
@pytest.mark.parametrize("cut", [in_one, by_octets])
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
async def test_blocks_of_every_kind(blocks, cut, application, side):
    """§7.2.1: a sender MAY use blocks of any type, and several, and final ones."""
    frames = [F(TEXT, blocks, rsv=RSV1)] * 2
    await assert_echoed(Agreement(side), side, frames, ["Hello"] * 2, cut=cut, application=application)


@both_sides
@every_application
@pytest.mark.parametrize("at", range(16))
@pytest.mark.parametrize("blocks", ["stored, both final", "final, twice", "final, then not"])
async def test_final_blocks_in_fragments(blocks, at, application, side):
    frame = F(TEXT, BLOCKS[blocks], rsv=RSV1)
    frames = in_fragments(frame, min(at, len(frame.data)))
    await assert_echoed(Agreement(side), side, frames * 2, ["Hello"] * 2, application=application)


@both_sides
@every_application
async def test_after_a_final_block_the_next_messages_share_a_window_again(application, side):
    agreement = Agreement(side)
    data = noise(300)
    frames = [F(BINARY, finished(data) + b"\x00", rsv=RSV1), agreement.message(data), agreement.message(data)]
    assert len(frames[2].data) < 30
    await assert_echoed(agreement, side, frames, [data] * 3, application=application)


# --- RSV1 (§6) ----------------------------------------------------------------------------------------------------

HELLO = hexed("f2 48 cd c9 c9 07 00")


@both_sides
@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
async def test_rsv1_in_a_control_frame_fails(opcode, side):
    """§6.1: control frames are never compressed."""
    options = Agreement(side).options
    await assert_fails(side, [text("good"), F(opcode, rsv=RSV1)], cut=by_frames, **deaf(options), messages=["good"])


@both_sides
@pytest.mark.parametrize("first", [RSV1, 0], ids=["compressed", "not compressed"])
@pytest.mark.parametrize("fin", [True, False], ids=["last", "not last"])
async def test_rsv1_in_a_continuation_fails(fin, first, side):
    """§6.1: it is set in the first fragment only."""
    frames = [F(TEXT, HELLO[:3], fin=False, rsv=first), F(CONT, HELLO[3:], fin, rsv=RSV1)]
    await assert_fails(side, frames, **Agreement(side).options)


@both_sides
@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
async def test_the_other_reserved_bits_fail_as_ever(opcode, rsv, side):
    await assert_fails(side, [F(opcode, HELLO, rsv=rsv)], **Agreement(side).options)


@both_sides
@pytest.mark.parametrize("opcode", [3, 7, 11, 15])
async def test_rsv1_with_a_reserved_opcode_fails(opcode, side):
    await assert_fails(side, [F(opcode, HELLO, rsv=RSV1)], **Agreement(side).options)


def deaf(options):
    """With echoes that are not compressed, as `assert_fails` expects them."""
    settings = options["compression"]
    return {
        **options,
        "compression": trionet.PerMessageDeflate(
            server_max_window_bits=settings.server_max_window_bits,
            client_max_window_bits=settings.client_max_window_bits,
            min_size=10_000,
        ),
    }


@both_sides
@every_application
@every_cut
async def test_messages_may_be_sent_without_compression(cut, application, side):
    """§6: they do not touch the context of the others."""
    agreement = Agreement(side)
    data = noise(200)
    frames = [agreement.message(data), F(BINARY, data), text("plain"), agreement.message(data), text("")]
    assert len(frames[3].data) < 30
    await assert_echoed(agreement, side, frames, [data, data, "plain", data, ""], cut=cut, application=application)


@both_sides
@every_application
async def test_fragmented_messages_may_be_sent_without_compression(application, side):
    agreement = Agreement(side)
    frames = [text("a", fin=False), F(PING), F(CONT, b"b"), agreement.message("c"), text("d", fin=False), F(CONT)]
    await assert_echoed(agreement, side, frames, ["ab", "c", "d"], application=application)


@both_sides
async def test_small_messages_are_sent_without_compression_and_large_ones_with_it(side):
    agreement = Agreement(side, min_size=100)
    sizes = [0, 1, 99, 100, 101, 5000]
    seen = await assert_echoed(agreement, side, [text("x" * size) for size in sizes], ["x" * size for size in sizes])
    assert [first for first, _ in seen.data_frames] == [0x81, 0x81, 0x81, 0xC1, 0xC1, 0xC1]
    assert len(seen.data_frames[5][1]) < 100


# --- empty messages -----------------------------------------------------------------------------------------------

EMPTY = {
    "an empty block without compression": [F(TEXT, b"\x00", rsv=RSV1)],
    "an empty block of fixed codes": [F(TEXT, b"\x02\x00", rsv=RSV1)],
    "an empty final block": [F(TEXT, b"\x01", rsv=RSV1)],
    "an empty final block of fixed codes": [F(TEXT, b"\x03\x00\x00", rsv=RSV1)],
    "many empty blocks": [F(TEXT, hexed("00 00 00 ff ff" * 50) + b"\x00", rsv=RSV1)],
    "in the last fragment": [F(TEXT, b"", fin=False, rsv=RSV1), F(CONT, b"\x00")],
    "in the first fragment": [F(TEXT, b"\x00", fin=False, rsv=RSV1), F(CONT, b"")],
    "in the middle": [F(TEXT, b"", fin=False, rsv=RSV1), F(CONT, b"\x00", fin=False), F(PING), F(CONT)],
    "no compression": [F(TEXT)],
}


@both_sides
@every_application
@every_cut
@pytest.mark.parametrize("case", EMPTY)
async def test_an_empty_message(case, cut, application, side):
    agreement = Agreement(side)
    data = noise(100)
    frames = [agreement.message(data), *EMPTY[case] * 2, F(BINARY, finished(data) + b"\x00", rsv=RSV1)]
    messages = [data, "", "", data]
    await assert_echoed(agreement, side, frames, messages, cut=cut, application=application)


# --- fragments ----------------------------------------------------------------------------------------------------


@both_sides
@every_application
@pytest.mark.parametrize("at", range(0, 80, 2))
async def test_a_fragment_may_end_anywhere_in_the_stream(at, application, side):
    agreement = Agreement(side)
    message = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich für 3 €. 😀"
    first, second = agreement.message(message), agreement.message(message[::-1])
    assert len(first.data) > 78
    frames = [*in_fragments(first, min(at, len(first.data))), F(PING, b"?"), *in_fragments(second, 1, 2, 2, 3)]
    messages = [message, message[::-1]]
    seen = await assert_echoed(agreement, side, frames, messages, cut=by_frames, application=application)
    assert seen.pongs == [b"?"]


@both_sides
@every_application
@every_cut
async def test_fragments_of_one_byte_with_pings_between(cut, application, side):
    agreement = Agreement(side)
    message = sample(300).decode()
    frame = agreement.message(message)
    fragments = in_fragments(frame, *range(1, len(frame.data)))
    frames = [frame for fragment in fragments for frame in (fragment, F(PING, b"x"), F(PONG))][:-2]
    await assert_echoed(agreement, side, frames, [message], cut=cut, application=application)


@both_sides
@every_application
async def test_fragments_that_were_each_flushed(application, side):
    """As this library sends them: each ends with an empty block, and the last one has only the rest of one."""
    agreement = Agreement(side)
    parts = [sample(1000), b"x", noise(100)]
    flushed = [agreement.squeeze(part) + TAIL for part in parts]
    frames = [F(BINARY, flushed[0], fin=False, rsv=RSV1), *[F(CONT, part, fin=False) for part in flushed[1:]]]
    frames += [F(CONT, b"\x00"), agreement.message("next")]
    await assert_echoed(agreement, side, frames, [b"".join(parts), "next"], application=application)


@both_sides
@pytest.mark.parametrize("alone", [False, True])
async def test_a_message_that_is_sent_in_fragments(alone, side):
    agreement = Agreement(side, server_alone=alone, client_alone=alone)
    parts = ["Grüße", sample(3000).decode(), "😀" * 50, "", sample(3000).decode()]

    async def application(websocket, seen):
        await websocket.send_fragments(parts)
        await websocket.send_message("next")
        await websocket.send_fragments([b"", b"x"])
        await echo(websocket, seen)

    seen = await talk(side, [], application=application, **agreement.options)
    assert [first & 0xCF for first, _ in seen.data_frames if first & 0x40] == [0x41, 0xC1, 0x42]
    assert agreement.messages(seen) == ["".join(parts), "next", b"x"]


@both_sides
async def test_each_fragment_of_ours_can_be_read_when_it_comes(side):
    """The application has sent a part, so the peer can have it, before the next one exists."""
    agreement = Agreement(side)
    parts = [b"first", sample(500), noise(50)]

    async def application(websocket, seen):
        await websocket.send_fragments(parts)
        await echo(websocket, seen)

    seen = await talk(side, [], application=application, **agreement.options)
    inflater = zlib.decompressobj(-15)
    assert [inflater.decompress(payload) for _, payload in seen.data_frames] == [*parts, b""]


# --- the rest -------------------------------------------------------------------------------------


@both_sides
async def test_a_close_is_not_compressed(side):
    agreement = Agreement(side)
    seen = await talk(
        side, [agreement.message("x").wire(side), close(4000, b"y" * 123).wire(side)], **agreement.options
    )
    assert seen.frames[-1][0] == 0x88
    assert seen.frames[-1][1][:2] == b"\x0f\xa0"
    assert (seen.websocket.closed.code, seen.websocket.closed.reason) == (4000, "y" * 123)


@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("alone", [False, True])
async def test_trionet_with_itself(alone, bits):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        compression = trionet.PerMessageDeflate(alone, alone, bits, bits, min_size=0)
        server, client = await both(
            lambda: one.upgrade(trionet.to_websocket_server(compression=compression)),
            lambda: other.upgrade(trionet.to_websocket_client("ws://example/", compression=compression)),
        )
        for message in ("", "Grüße" * 100, sample(100_000), noise(5000), "", noise(5000), "x"):
            await client.send_message(message)
            assert await server.get_message() == message
            await server.send_message(message)
            assert await client.get_message() == message
