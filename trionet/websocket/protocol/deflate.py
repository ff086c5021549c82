"""Compression of messages (RFC 7692): what can be agreed on, and the two streams of a connection that has agreed.

A stream is made when its first message comes, and costs 10 to 100 KiB from then on; without context takeover it is let
go behind each message.

*The problem.* A kilobyte of input can expand to a megabyte, and an attacker sends many of them. The size of a message
is known only when it has been expanded, and expanding takes time as well as memory, even where nothing comes of it: a
message may consist of thousands of empty blocks.

*Memory.* zlib is never asked for more than there is room for (`Inflater.part`, `more`): `max_message_size` and one byte
more for a whole message, which shows that it is too big; a part of `MAX_PART` bytes where a message is wanted in parts.
What zlib has not looked at stays compressed, here and in the engine's input. zlib copies what it leaves of its input,
so it is given pieces of `_PIECE` bytes: else a message of many small blocks would cost the square of its length.

*Time.* Each call of zlib costs `CALL` of the `effort` that one call of the engine has, besides the bytes that came of
it. When the effort is used up the reader is tired, and goes on behind a checkpoint.

*Rejected.* To expand all that one receive has brought, as a parser does that takes everything at once: 64 kB of input
became 65 MB of messages. A bound on the compressed size alone: it says next to nothing about the other one, and is used
only to refuse what is too big for sure (`reader.SLACK`).
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from typing import Any, Final

from ...support.checks import check_count

__all__ = ["CALL", "EFFORT", "Deflater", "Inflater", "PerMessageDeflate", "make_deflater", "make_inflater"]

_TAIL: Final = b"\x00\x00\xff\xff"
"""The end of an empty block, which every message has and none is sent with (RFC 7692 §7.2.1)."""
_EMPTY_BLOCK: Final = b"\x00"
"""The rest of that block: how a message ends whose last data is sent already (RFC 7692 §7.2.3.6)."""
_PIECE: Final = 2048
"""Bytes that zlib is given at once to expand."""
EFFORT: Final = 2**18
"""Bytes that are expanded at most in one go. A call of zlib counts as `CALL` of them, whatever comes of it."""
CALL: Final = 4096
_SMALLEST_WINDOW: Final = 9
"""What zlib can compress with. It never looks back further than 250 bytes then, so it serves for 8 (256 bytes) too."""


@dataclass(frozen=True, slots=True)
class PerMessageDeflate:
    """Compression of messages: what this side asks for, or grants; on a WebSocket, what was agreed on.

    A window of n bits, and what zlib keeps beside it, costs each connection about ``2 ** (n + 2) + 2 ** (mem_level +
    9)`` bytes for sending and ``2 ** n + 7000`` for receiving, from the first compressed message on. Do not compress
    secrets together with what an attacker can choose: the size gives them away (RFC 7692 §8).

    Args:
        server_no_context_takeover: The server compresses each message for itself: less memory, larger messages.
        client_no_context_takeover: The client does so.
        server_max_window_bits: Of the server's compression, 8 to 15. A client's is a wish: servers that cannot keep to
            it, and there are many, compress with what they have; `WebSocket.compression` says what that is.
        client_max_window_bits: Of the client's compression, 8 to 15. A client that cannot be told keeps to 15.
        level: zlib's, from 0 (none) and 1 (fast) to 9 (small).
        mem_level: zlib's, from 1 (least memory) to 9 (fast).
        min_size: Messages of fewer bytes are sent as they are.

    Raises:
        ValueError: a number that is not in its range.

    Source: RFC 7692 §7.1.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 12
    client_max_window_bits: int = 12
    level: int = 6
    mem_level: int = 5
    min_size: int = 64

    def __post_init__(self) -> None:
        check_count("server_max_window_bits", self.server_max_window_bits, 8, 15)
        check_count("client_max_window_bits", self.client_max_window_bits, 8, 15)
        check_count("level", self.level, 0, 9)
        check_count("mem_level", self.mem_level, 1, 9)
        check_count("min_size", self.min_size, 0, sys.maxsize)


def make_deflater(agreed: PerMessageDeflate, *, client: bool) -> Deflater:
    """What compresses the messages of one side."""
    if client:
        return Deflater(agreed, agreed.client_max_window_bits, takeover=not agreed.client_no_context_takeover)
    return Deflater(agreed, agreed.server_max_window_bits, takeover=not agreed.server_no_context_takeover)


def make_inflater(agreed: PerMessageDeflate, *, client: bool) -> Inflater:
    """What expands the messages that one side receives."""
    if client:
        return Inflater(agreed.server_max_window_bits, takeover=not agreed.server_no_context_takeover)
    return Inflater(agreed.client_max_window_bits, takeover=not agreed.client_no_context_takeover)


class Deflater:
    """Compresses the messages of one direction."""

    __slots__ = ("_bits", "_settings", "_stream", "_takeover", "min_size")

    def __init__(self, settings: PerMessageDeflate, bits: int, *, takeover: bool) -> None:
        self.min_size = max(1, settings.min_size)
        self._settings = settings
        self._bits = max(_SMALLEST_WINDOW, bits)
        self._takeover = takeover
        self._stream: Any = None

    def message(self, data: bytes | bytearray | memoryview) -> bytes:
        """A whole message, compressed (RFC 7692 §7.2.1)."""
        compressed = self.part(data).removesuffix(_TAIL)
        self._message_over()
        return compressed

    def part(self, data: bytes | bytearray | memoryview) -> bytes:
        """A part of a message that `last` will end."""
        stream = self._stream
        if stream is None:
            settings = self._settings
            stream = self._stream = zlib.compressobj(settings.level, zlib.DEFLATED, -self._bits, settings.mem_level)
        compressed: bytes = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
        return compressed

    def last(self) -> bytes:
        """The end of a message that was compressed in parts."""
        self._message_over()
        return _EMPTY_BLOCK

    def _message_over(self) -> None:
        if not self._takeover:
            self._stream = None

    def forget(self) -> None:
        """The peer will not get what was compressed last, so nothing may refer to it: begin anew."""
        self._stream = None


class Inflater:
    """Expands the messages of one direction.

    Attributes:
        pending: Whether more can be had by `more` without further input.
        effort: What may still be done before others get their turn; see `EFFORT`.
    """

    __slots__ = ("_at", "_begun", "_bits", "_rest", "_stream", "_takeover", "effort", "pending")

    def __init__(self, bits: int, *, takeover: bool) -> None:
        self._bits = bits
        self._takeover = takeover
        self._stream: Any = None
        self._rest = b""  # input, of which `_at` bytes are done with
        self._at = 0
        self._begun = False  # whether anything of the message has come
        self.pending = False
        self.effort = EFFORT

    def part(self, data: bytes, most: int) -> bytes:
        """The next part of a message: at most `most` bytes of what it expands to.

        Raises:
            zlib.error: it is not the output of DEFLATE.
        """
        if data:
            self._rest = self._rest[self._at :] + data
            self._at = 0
            self._begun = True
        return self.more(most)

    def finish(self) -> None:
        """The end of a message, of which nothing is pending.

        Raises:
            zlib.error: it was cut off: what belongs to an empty block was taken for data.
        """
        if not self._begun:
            return
        effort, self.effort = self.effort, EFFORT  # this comes to its end in any case
        data = self.part(_TAIL, 1)
        self.effort = effort - CALL
        if data:
            raise zlib.error("it ends within a block")

    def more(self, most: int) -> bytes:
        """What is pending: at most `most` bytes, and not more than `effort` allows; that may be nothing."""
        found: list[bytes] = []
        data = b""
        rest, room = self._rest, most
        size = len(rest)
        # Even without input there may be output that has waited for room.
        while room and (self._at < size or not found) and (self.effort > 0 or not found):
            stream = self._stream
            if stream is None:
                # Also behind a final block, which zlib takes for the end of everything (RFC 7692 §7.2.3.5).
                stream = self._stream = zlib.decompressobj(-self._bits)
            # In pieces, as zlib copies what it leaves: a message can consist of very many final blocks.
            piece = rest[self._at : self._at + _PIECE]
            data = stream.decompress(piece, min(room, EFFORT))
            self.effort -= CALL + len(data)
            found.append(data)
            room -= len(data)
            if stream.eof:
                self._at += len(piece) - len(stream.unused_data)
                self._stream = None
            else:
                self._at += len(piece) - len(stream.unconsumed_tail)
        self.pending = not room or len(found[-1]) == EFFORT or self._at < size
        return b"".join(found) if len(found) > 1 else found[0]

    def message_over(self) -> None:
        """The next message begins."""
        self._begun = False
        if not self._takeover:
            self._stream = None
