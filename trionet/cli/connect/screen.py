"""What a person sees, and what a program that reads our output gets.

A peer may send anything, also what tells a terminal to retitle, recolour or retype itself. So nothing that it sends
reaches a terminal as a control character, nor as one that turns the direction of text around; binary data is shown as
hexadecimal. Into a pipe or file go the bytes of a stream as they are. What is said about the connection goes to
stderr, always.
"""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from typing import IO, Final

__all__ = ["Screen", "hex_lines", "visible"]

MOST: Final = 4096
"""Bytes of one piece that are shown in hexadecimal on a terminal."""
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, formats (with those of bidirectional text), surrogates, separators of lines."""


def visible(text: str, keep: str = "\n\t") -> str:
    """The text with everything escaped that a terminal would act on. CRLF becomes a plain line break."""
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or unicodedata.category(char) not in _UNSAFE else ascii(char)[1:-1] for char in text
    )


def hex_lines(data: bytes, most: int | None = None) -> list[str]:
    """Bytes in rows of 16, with their places and what of them is ASCII."""
    shown = data if most is None else data[:most]
    rows = []
    for at in range(0, len(shown), 16):
        row = shown[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"{at:08x}  {row.hex(' '):<47}  |{text}|")
    if len(data) > len(shown):
        rows.append(f"... and {len(data) - len(shown):,} bytes more")
    return rows


class Screen:
    """Standard output for what comes from the peer, standard error for what is said about it.

    Args:
        prompt: What stands before a line that is being typed; empty where nobody types. What comes meanwhile is put
            above it.
        typed: Gives what has been typed of the line so far.
    """

    def __init__(self) -> None:
        self.prompt = ""
        self.is_terminal = sys.stdout is not None and sys.stdout.isatty()
        self._colours = sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def note(self, text: str) -> None:
        """A line about the connection."""
        shown = visible(text)
        self._put(sys.stderr, f"\x1b[2m{shown}\x1b[0m" if self._colours else shown)

    def message(self, text: str) -> None:
        """A text that came as one message."""
        self._put(sys.stdout, visible(text) if self.is_terminal else text)

    def binary(self, data: bytes) -> None:
        """Bytes that came as one message."""
        if self.is_terminal:
            self._put(sys.stdout, "\n".join([f"{len(data):,} bytes", *hex_lines(data, MOST)]))
        else:
            self._put(sys.stdout, data.hex())

    def stream(self, data: bytes) -> None:
        """The next bytes of a stream."""
        if not self.is_terminal:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        try:
            text = self._decoder.decode(data)
        except UnicodeDecodeError:
            self._decoder.reset()
            self._put(sys.stdout, "\n".join(hex_lines(data, MOST)))
            return
        if "\0" in text:
            self._put(sys.stdout, "\n".join(hex_lines(data, MOST)))
        elif self.prompt:
            self._put(sys.stdout, visible(text).removesuffix("\n"))
        else:
            print(visible(text), end="", flush=True)

    def _put(self, out: IO[str] | None, text: str) -> None:
        """Whole lines; above the one that is being typed, if there is one.

        In one write, since the thread that reads what is typed writes its prompt when it likes.
        """
        if out is None:
            return
        text = f"{text}\n"
        if self.prompt:
            import readline

            text = f"\r\x1b[K{text}{self.prompt}{readline.get_line_buffer()}"
        out.write(text)
        out.flush()
