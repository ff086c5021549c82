"""RFC 7692 rule by rule: compressed messages that cannot be expanded (§7.2.2), or expand to too much (§8)."""

from __future__ import annotations

import zlib

import pytest

from trionet import RemoteProtocolError

from .test_websocket_rules import (
    BINARY,
    TEXT,
    F,
    assert_fails,
    both_sides,
    by_frames,
    chopped,
    close,
    echo,
    echo_in_parts,
    every_application,
    every_cut,
    in_one,
    talk,
    text,
)
from .test_websocket_rules_deflate import RSV1, TAIL, Agreement, assert_echoed, hexed, in_fragments, noise

# --- what cannot be expanded (§7.2.2) -----------------------------------------------------------------------------

BAD = {
    "a reserved type of block": b"\x06",
    "a reserved type of block, final": b"\x07",
    "a stored block whose lengths disagree": hexed("00 05 00 00 00 48 65 6c 6c 6f 00"),
    "a reference to before the beginning": hexed("f2 00 11 00 00"),
    "garbage": b"\xff" * 20,
    "text that was not compressed": b"Hello",
    "with a header of zlib": zlib.compress(b"Hello")[:-4],
    "a good block, then a bad one": hexed("f2 48 cd c9 c9 07 00 00 00 ff ff 06"),
    "a final block, then a bad one": hexed("f3 48 cd c9 c9 07 00 06"),
    "cut off behind a few letters": hexed("f2 48 cd"),
    "cut off within a stored block": hexed("00 05 00 fa ff 48 65"),
}


@both_sides
@every_application
@every_cut
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_what_cannot_be_expanded_fails(bad, cut, application, side):
    """The RFC leaves the code to the receiver: it is 1007, data that is not consistent with its type."""
    frames = [F(TEXT, bad, rsv=RSV1), text("behind")]
    seen = await assert_fails(side, frames, 1007, cut=cut, application=application, **Agreement(side).options)
    assert isinstance(seen.error, RemoteProtocolError)


@both_sides
@every_application
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_what_cannot_be_expanded_fails_in_fragments_too(bad, application, side):
    frames = in_fragments(F(TEXT, bad, rsv=RSV1), *range(1, len(bad)))
    await assert_fails(side, frames, 1007, application=application, **Agreement(side).options)


@both_sides
@every_application
async def test_good_messages_before_a_bad_one_are_given(application, side):
    agreement = Agreement(side)
    frames = [agreement.message("a" * 100), F(TEXT, b"\x06", rsv=RSV1)]
    seen = await talk(side, by_frames(frames, side), application=application, **agreement.options)
    assert seen.messages == agreement.messages(seen) == ["a" * 100]
    assert seen.websocket.closed.code == 1007


@both_sides
@every_application
@pytest.mark.parametrize("data", [b"\xff", b"a" * 100 + b"\xce", b"\xed\xa0\x80" + b"x" * 70000])
async def test_compressed_text_that_is_not_utf_8_fails(data, application, side):
    agreement = Agreement(side)
    frame = F(TEXT, agreement.squeeze(data), rsv=RSV1)
    for frames in ([frame], in_fragments(frame, 1, 2)):
        await assert_fails(side, frames, 1007, application=application, **agreement.options)


@both_sides
@every_application
async def test_compressed_binary_need_not_be_utf_8(application, side):
    agreement = Agreement(side)
    await assert_echoed(agreement, side, [agreement.message(b"\xff" * 9)], [b"\xff" * 9], application=application)


# --- limits (§8) --------------------------------------------------------------------------------------------------


@both_sides
@every_cut
@pytest.mark.parametrize("fragments", [0, 1, 5])
async def test_the_limit_is_for_what_a_message_expands_to(fragments, cut, side):
    agreement = Agreement(side)
    for size, fits in ((10_000, True), (10_001, False)):
        frame = agreement.message(b"x" * size)
        assert len(frame.data) < 100
        frames = in_fragments(frame, *range(1, fragments + 1))
        if fits:
            await assert_echoed(agreement, side, frames, [b"x" * size], cut=cut, max_message_size=10_000)
        else:
            agreement = Agreement(side)
            frame = agreement.message(b"x" * size)
            frames = [*in_fragments(frame, *range(1, fragments + 1)), text("behind")]
            await assert_fails(side, frames, 1009, cut=cut, max_message_size=10_000, **agreement.options)
        agreement = Agreement(side)


@both_sides
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_few_bytes_that_expand_to_very_many_fail(opcode, side):
    squeezed = Agreement(side).squeeze(bytes(2**25), level=9)
    assert len(squeezed) < 40_000
    await assert_fails(side, [F(opcode, squeezed, rsv=RSV1)], 1009, **Agreement(side).options)
    await assert_fails(side, in_fragments(F(opcode, squeezed, rsv=RSV1), 10, 20), 1009, **Agreement(side).options)


@both_sides
async def test_a_few_bytes_that_expand_to_very_many_are_given_in_small_parts(side):
    agreement = Agreement(side)
    sizes = []

    async def application(websocket, seen):
        async for part in websocket.receive_fragments():
            assert part == bytes(len(part))
            sizes.append(len(part))
        await echo(websocket, seen)

    frames = [F(BINARY, agreement.squeeze(bytes(2**23), level=9), rsv=RSV1), agreement.message("next")]
    seen = await talk(side, in_one(frames, side), application=application, **agreement.options)
    assert sum(sizes) == 2**23
    assert max(sizes) <= 2**18
    assert seen.messages == ["next"]


@both_sides
@every_cut
@pytest.mark.parametrize("fragments", [0, 1, 5])
async def test_the_limit_does_not_hold_for_parts_though_the_message_came_with_the_one_before(fragments, cut, side):
    """How the peer's frames were put into segments must not decide over it."""
    agreement = Agreement(side)
    frames = []
    for letter in "bc":
        frames += [agreement.message("a"), *in_fragments(agreement.message(letter * 10_001), *range(1, fragments + 1))]

    async def application(websocket, seen):
        for _ in range(2):
            seen.messages.append(await websocket.get_message())
            seen.messages.append("".join([part async for part in websocket.receive_fragments()]))
        await echo(websocket, seen)

    pieces = [*cut(frames, side), close().wire(side)]
    seen = await talk(side, pieces, application=application, max_message_size=10_000, **agreement.options)
    assert seen.messages == ["a", "b" * 10_001, "a", "c" * 10_001]
    assert seen.websocket.closed.code == 1000


@both_sides
@pytest.mark.parametrize(("bits", "mem_level"), [(9, 1), (9, 5), (9, 9), (15, 1), (15, 9)])
async def test_what_does_not_get_smaller_is_within_the_limit_all_the_same(mem_level, bits, side):
    """With little memory, zlib makes noise larger by 4 %; the limit is for the message."""
    data = noise(10_000)
    stream = zlib.compressobj(6, zlib.DEFLATED, -bits, mem_level)
    payload = (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
    assert len(payload) > len(data)
    frame = F(BINARY, payload, rsv=RSV1)
    agreement = Agreement(side, server_alone=True, client_alone=True)
    await assert_echoed(agreement, side, [frame] * 2, [data] * 2, max_message_size=10_000)


@both_sides
@pytest.mark.parametrize("block", [10, 100])
async def test_a_message_that_is_larger_compressed_than_expanded_is_within_the_limit(block, side):
    """A sender that flushes behind each write makes small blocks; what counts is what they expand to."""
    data = noise(10_000)
    payload = b"".join(
        b"\x00" + len(part).to_bytes(2, "little") + (len(part) ^ 0xFFFF).to_bytes(2, "little") + part
        for part in chopped(data, block)
    )
    frame = F(BINARY, payload + b"\x00", rsv=RSV1)
    await assert_echoed(Agreement(side), side, [frame] * 2, [data] * 2, max_message_size=10_000)


@both_sides
@every_application
async def test_blocks_that_expand_to_nothing_are_not_taken_for_ever(application, side):
    """16 MiB of empty blocks are no message of 10,000 bytes, nor is there room for them."""
    frame = F(BINARY, b"\x00\x00\x00\xff\xff" * (2**24 // 5) + b"\x00", rsv=RSV1)
    seen = await talk(
        side, in_one([frame], side), application=application, max_message_size=10_000, **Agreement(side).options
    )  # fmt: skip
    if application is echo_in_parts:
        assert seen.messages == [b""]
    else:
        assert seen.websocket.closed.code == 1009
