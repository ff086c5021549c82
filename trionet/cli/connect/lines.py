"""What is sent: lines of the command line, of a pipe, or of a person at a terminal.

Reading blocks, and a person may not type for hours while the peer leaves. So it is done in a thread, which is left
behind when the session is over. It reads the descriptor itself: Python would not end while a thread waits inside of
`sys.stdin`.
"""

from __future__ import annotations

import os
import sys
import termios
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from ..mistakes import Mistake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from .screen import Screen

__all__ = ["PING", "Item", "given", "piped", "typed", "with_history"]

Item = str | bytes
"""A line, or bytes that are sent as they are."""

PING: Final = b"\0trionet: ping"
"""What stands for a ping of WebSocket; compared by identity."""
MAX_LINE: Final = 2**20
SETTLING: Final = 1.0
"""How many seconds the end waits, at most, for a thread that is about to set up the terminal."""
PROMPT: Final = "> "
MORE: Final = ". "
HELP: Final = """\
A line is sent as it is. A backslash at its end goes on in the next one.
  :hex 00 ff   send these bytes
  :ping        send a ping, and show how long its answer takes (ws, wss)
  :quit        end, as Ctrl-D does
  ::text       send ":text"
A line that begins with a space is not kept in the history."""


def as_item(line: str, hexadecimal: bool) -> Item:
    """A line, or the bytes that it names.

    Raises:
        Mistake: it is not hexadecimal.
    """
    if not hexadecimal:
        return line
    try:
        return bytes.fromhex(line)
    except ValueError:
        raise Mistake(f"{line[:40]!r} is not hexadecimal: write pairs of 0-9 and a-f, such as 00 ff") from None


async def given(lines: tuple[str, ...], hexadecimal: bool) -> AsyncIterator[Item]:
    """The lines of ``--send``."""
    for line in lines:
        await trio.lowlevel.checkpoint()
        yield as_item(line, hexadecimal)


async def piped(hexadecimal: bool) -> AsyncIterator[Item]:
    """The lines of standard input, each as soon as it is there, without its end."""
    waiting = b""
    while data := await trio.to_thread.run_sync(os.read, 0, 65536, abandon_on_cancel=True):
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            yield _decoded(line.removesuffix(b"\r"), hexadecimal)
        if len(waiting) > MAX_LINE:
            raise Mistake(f"a line of the input is longer than {MAX_LINE:,} bytes")
    if waiting:
        yield _decoded(waiting, hexadecimal)


def _decoded(line: bytes, hexadecimal: bool) -> Item:
    """A line as text; one that is not UTF-8 as its bytes."""
    try:
        return as_item(line.decode(), hexadecimal)
    except UnicodeDecodeError:
        return line


async def typed(screen: Screen) -> AsyncIterator[Item]:
    """What a person types, until Ctrl-D or ``:quit``."""
    while (line := await _ask(screen, PROMPT)) is not None:
        _remember(line)
        if line == ":quit":
            return
        if line == ":help":
            screen.note(HELP)
        elif line == ":ping":
            yield PING
        elif line.startswith(":hex"):
            try:
                yield as_item(line.removeprefix(":hex"), True)
            except Mistake as exc:
                screen.note(str(exc))
        elif line.startswith(":") and not line.startswith("::"):
            screen.note(f"{line.split()[0]} is not known; :help lists what is. To send it, write :{line}")
        else:
            yield line.removeprefix(":") if line.startswith("::") else line


async def _ask(screen: Screen, prompt: str) -> str | None:
    """A line, which may go on in further ones; None at the end of the input."""
    await trio.lowlevel.checkpoint_if_cancelled()  # no thread would begin, and nobody would set the event
    screen.prompt = prompt
    _settled.clear()
    try:
        line = await trio.to_thread.run_sync(_input, prompt, abandon_on_cancel=True)
    except EOFError:
        return None
    finally:
        screen.prompt = ""
    if not line.endswith("\\"):
        return line
    more = await _ask(screen, MORE)
    return line[:-1] if more is None else f"{line[:-1]}\n{more}"


# Clear while a thread that asks for a line may still change the settings of the terminal.
_settled = threading.Event()
_settled.set()


def _input(prompt: str) -> str:
    """`input`, in a thread, which has changed the terminal when readline calls the startup hook."""
    import readline

    readline.set_startup_hook(_settled.set)
    try:
        return input(prompt)
    finally:
        _settled.set()


def _remember(line: str) -> None:
    import readline

    if line and not line.startswith(" "):
        for part in line.split("\n"):
            readline.add_history(part)


@contextmanager
def with_history() -> Iterator[None]:
    """Have the lines of earlier sessions at hand, and keep those of this one; and leave the terminal as it was.

    A thread that is left behind in `input` sets the terminal up for itself, perhaps only now: that is waited for.
    """
    import readline

    path = _history_file()
    readline.set_auto_history(False)
    with suppress(OSError):
        readline.read_history_file(path)
    restore = _prepare_terminal()
    try:
        yield
    finally:
        _settled.wait(SETTLING)
        restore()
        readline.set_history_length(1000)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # a line may be a secret
            readline.write_history_file(path)


def _history_file() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "trionet" / "connect_history"


def _prepare_terminal() -> Callable[[], None]:
    """Have what is typed between two prompts reach the next one as it is; gives back what undoes that.

    Otherwise the terminal itself, which edits lines then, would take a Ctrl-D for its own, and leave a NUL of it.
    """
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
        raw = termios.tcgetattr(sys.stdin.fileno())
        raw[3] &= ~termios.ICANON
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, raw)
    except (termios.error, OSError, ValueError):
        return lambda: None

    def restore() -> None:
        with suppress(termios.error, OSError):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)

    return restore
