"""RFC 6455 rule by rule: text is UTF-8 (§5.6, §8.1), however it is cut into frames and segments.

The sequences are those of Markus Kuhn's "UTF-8 decoder capability and stress test", in the order of the Autobahn
testsuite.
"""

from __future__ import annotations

import pytest

from .test_websocket_rules import (
    BINARY,
    CONT,
    PING,
    TEXT,
    F,
    assert_echoed,
    assert_failed,
    assert_fails,
    both_sides,
    by_frames,
    by_octets,
    close,
    echo,
    echo_in_parts,
    every_application,
    every_cut,
    in_one,
    talk,
    text,
)

KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"  # five characters, one of them in three bytes

VALID = {
    "6.5 some text": [b"hello$world", b"hello\xc2\xa2world", b"hello\xe2\x82\xacworld", b"hello\xf0\xa4\xad\xa2world",
                      KOSME],
    "6.6 prefixes at characters": [KOSME[:size] for size in (2, 5, 7, 9, 11)],
    "6.7 first of each length": [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    "6.9 last of each length": [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    "6.11 boundaries": [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"],
    "6.22 noncharacters": [b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xef\xb7\x90", b"\xef\xb7\xaf"]
    + [chr(plane << 16 | low).encode() for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)],
    "6.23 specials": [b"\xef\xbf" + bytes([last]) for last in range(0xB9, 0xC0)],
    "a byte order mark": [b"\xef\xbb\xbf", b"\xef\xbb\xbfx", b"x\xef\xbb\xbf"],
}  # fmt: skip

INVALID = {
    "6.6 prefixes within characters": [KOSME[:size] for size in (1, 3, 4, 6, 8, 10)],
    "6.8 five and six bytes, first": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.10 beyond U+10FFFF": [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    "6.11 just beyond U+10FFFF": [b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80"],
    "6.12 unexpected continuation": [(b"\x80\xbf" * 3)[:size] for size in range(1, 7)]
    + [b"\xbf", bytes(range(0x80, 0xBF))],
    "6.13 lonely first bytes": [
        b"".join(bytes([byte, 0x20]) for byte in range(first, last))
        for first, last in [(0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE)]],
    "6.14 the last byte is missing": [
        b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
        b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"],
    "6.14 the last byte of valid ones is missing": [
        b"\xc2", b"\xe1\x80", b"\xf1\x80\x80", b"x\xf4\x8f\xbf", b"\xe2\x82x"],
    "6.15 unfinished ones in a row": [b"\xc0\xe0\x80\xf0\x80\x80\xdf\xef\xbf\xf7\xbf\xbf", b"\xdf\xef\xbf\xf3\xbf\xbf"],
    "6.16 impossible bytes": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "6.17 overlong slash": [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
                            b"\xfc\x80\x80\x80\x80\xaf"],
    "6.18 longest overlong": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf",
                              b"\xfc\x83\xbf\xbf\xbf\xbf"],
    "6.19 overlong NUL": [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80",
                          b"\xfc\x80\x80\x80\x80\x80"],
    "6.20 single surrogates": [b"\xed" + pair for pair in (
        b"\xa0\x80", b"\xad\xbf", b"\xae\x80", b"\xaf\xbf", b"\xb0\x80", b"\xbe\x80", b"\xbf\xbf")],
    "6.21 pairs of surrogates": [
        high + low for high in (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")
        for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf")],
}  # fmt: skip


def cases(table):
    """Each sequence by its group and number."""
    return [
        pytest.param(data, id=f"{group}: {index}")
        for group, sequences in table.items()
        for index, data in enumerate(sequences, 1)
    ]


def fragments(opcode: int, parts: list[bytes]) -> list[F]:
    return [F(opcode if index == 0 else CONT, part, index == len(parts) - 1) for index, part in enumerate(parts)]


def single_bytes(data: bytes) -> list[F]:
    return fragments(TEXT, [data[at : at + 1] for at in range(len(data))])


@both_sides
@pytest.mark.parametrize("data", cases(VALID))
async def test_valid_text(data, side):
    await assert_echoed(side, [text(data), text(""), *single_bytes(data)], [data.decode(), "", data.decode()])


@both_sides
@pytest.mark.parametrize("data", cases(INVALID))
async def test_invalid_text_fails(data, side):
    seen = await assert_fails(side, [text("good"), text(data), text("behind")], 1007, cut=by_frames, messages=["good"])
    assert "UTF-8" in str(seen.error)


@both_sides
@every_application
@pytest.mark.parametrize("data", cases(INVALID))
async def test_invalid_text_in_fragments_of_one_byte_fails(data, application, side):
    """6.3.2."""
    await assert_fails(side, [*single_bytes(data), text("behind")], 1007, application=application)


@both_sides
@pytest.mark.parametrize("data", cases(INVALID))
async def test_invalid_text_octet_by_octet_fails(data, side):
    await assert_fails(side, [text(data)], 1007, cut=by_octets)


@both_sides
async def test_every_character(side):
    message = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    await assert_echoed(side, [text(message)], [message], max_message_size=None)


# --- 6.1, 6.2: valid text, with fragments cut anywhere ------------------------------------------------------------

PARTS = {
    "6.1.1": [b""],
    "6.1.2": [b"", b"", b""],
    "6.1.3": [b"", b"middle frame payload", b""],
    "6.2.1": ["Hello-µ@ßöäüàá-UTF-8!!".encode()],
    "6.2.2": ["Hello-µ@ßöä".encode(), "üàá-UTF-8!!".encode()],
    "6.2.3": ["Hello-µ@ßöäüàá-UTF-8!!".encode()[at : at + 1] for at in range(30)],
    "6.2.4": [KOSME[at : at + 1] for at in range(11)],
    "empty ones within a character": [b"\xf0", b"", b"\x9f\x98", b"", b"", b"\x80", b""],
}


@both_sides
@every_application
@every_cut
@pytest.mark.parametrize("case", PARTS)
async def test_valid_text_in_fragments(case, cut, application, side):
    message = b"".join(PARTS[case]).decode()
    await assert_echoed(side, fragments(TEXT, PARTS[case]), [message], cut=cut, application=application)


@both_sides
@every_application
@pytest.mark.parametrize("at", range(1, 17))
async def test_a_fragment_may_end_anywhere(at, application, side):
    data = "aä€😀".encode() + "ü✓z".encode()
    frames = [*fragments(TEXT, [data[:at], data[at:]]), text("next")]
    await assert_echoed(side, frames, [data.decode(), "next"], application=application)


@both_sides
@every_application
async def test_a_ping_may_stand_within_a_character(application, side):
    frames = [text(b"\xf0\x9f", fin=False), F(PING, b"\xff"), F(CONT, b"\x98", fin=False), F(PING), F(CONT, b"\x80")]
    seen = await assert_echoed(side, frames, ["😀"], cut=by_frames, application=application)
    assert seen.pongs == [b"\xff", b""]


# --- 6.3, 6.4: invalid text, with fragments cut anywhere ----------------------------------------------------------


@both_sides
@every_application
@every_cut
@pytest.mark.parametrize("data", [KOSME + b"\xed\xa0\x80edited", KOSME + b"\xf4\x90\x80\x80edited"])
async def test_an_error_in_the_middle_of_text_fails(data, cut, application, side):
    """6.3.1."""
    await assert_fails(side, [text("good"), text(data)], 1007, cut=cut, messages=["good"], application=application)


@both_sides
@every_application
@pytest.mark.parametrize("data", [b"\xce", b"\xe1\xbd", b"x\xf0\x9f\x98"])
@pytest.mark.parametrize("behind", [[], [F(CONT)], [F(CONT, b"\xce"), text("x")]], ids=["at once", "empty", "new one"])
async def test_text_that_ends_within_a_character_fails(behind, data, application, side):
    frames = [text(data, fin=not behind), *behind]
    await assert_fails(side, frames, 1007, cut=by_frames, application=application)


@both_sides
@every_application
async def test_what_is_missing_is_not_taken_from_the_next_message(application, side):
    await assert_fails(side, [text(b"\xf0\x9f"), text(b"\x98\x80")], 1007, application=application)
    await assert_fails(side, [*fragments(TEXT, [b"\xf0", b"\x9f"]), F(BINARY, b"\x98\x80")], 1007)


EARLY = {
    "6.4.1": (11, 15),
    "6.4.2": (12, 13),
}
EARLY_TEXT = KOSME + b"\xf4\x90\x80\x80edited"


@both_sides
@every_application
@pytest.mark.parametrize("case", EARLY)
async def test_an_error_in_a_fragment_is_found_when_the_message_ends_at_the_latest(case, application, side):
    """Whoever takes a message in parts is told as soon as the part is there; nobody gets the rest."""
    first, second = EARLY[case]
    frames = fragments(TEXT, [EARLY_TEXT[:first], EARLY_TEXT[first:second], EARLY_TEXT[second:]])
    seen = await assert_fails(side, frames, 1007, cut=by_frames, application=application)
    assert seen.frames_after(0) == []
    assert seen.frames_after(1) in ([], seen.frames)
    if application is echo_in_parts:
        assert seen.frames_after(1) == seen.frames


@both_sides
@every_application
@pytest.mark.parametrize("case", EARLY)
async def test_an_error_in_a_frame_is_found_when_it_ends_at_the_latest(case, application, side):
    """6.4.3, 6.4.4: as before, but in one frame that comes in segments."""
    first, second = EARLY[case]

    def cut(frames, side):
        wire = in_one(frames, side)[0]
        head = len(wire) - len(EARLY_TEXT)
        return [wire[: head + first], wire[head + first : head + second], wire[head + second :]]

    seen = await assert_fails(side, [text(EARLY_TEXT)], 1007, cut=cut, application=application)
    assert seen.frames_after(0) == []
    assert seen.frames_after(1) in ([], seen.frames)
    if application is echo_in_parts:
        assert seen.frames_after(1) == seen.frames


# --- what need not be UTF-8, and what is looked at before ---------------------------------------------------------


@both_sides
@every_cut
@every_application
async def test_binary_and_control_frames_need_not_be_utf_8(application, cut, side):
    frames = [F(BINARY, b"\xff"), F(PING, b"\xfe"), *fragments(BINARY, [b"\xce", b"\xff"]), text("ok")]
    seen = await assert_echoed(side, frames, [b"\xff", b"\xce\xff", "ok"], cut=cut, application=application)
    assert seen.pongs == [b"\xfe"]


@both_sides
@every_cut
async def test_invalid_text_before_a_close_fails(cut, side):
    await assert_fails(side, [text(b"\xff"), close()], 1007, cut=cut)


@both_sides
async def test_unfinished_text_before_a_close_does_not_matter(side):
    """The message never came to its end; whoever closes may leave it so."""
    seen = await talk(side, in_one([text(b"\xce", fin=False), close(1000)], side))
    assert seen.messages == []
    assert seen.frames == [(0x88, b"\x03\xe8")]


@both_sides
async def test_an_offence_behind_invalid_text_is_not_looked_at(side):
    seen = await talk(side, in_one([text(b"\xff"), text("x", rsv=7)], side), application=echo)
    assert_failed(seen, 1007)
