"""What the demonstration looks like, on a terminal and in a pipe.

At most 80 columns. In a pipe there are no colours and no control codes, and where the encoding has no ticks and arrows
the words stand in for them.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...inspect import Life
    from .contrasts import Seen
    from .performance import Outcome, Result

__all__ = ["Display"]

WIDTH: Final = 80
_ASCII: Final = {"✓": "ok", "✗": "FAILED", "→": ">"}
_PHASE_STYLES: Final = {"open": "green", "moved": "cyan", "closed": "dim", "draining": "yellow", "claimed": "magenta"}
_SHORT: Final = {"HTTPServerConnection": "HTTP", "HTTPClientConnection": "HTTP"}
"""Handles whose names are too long for a table; the side says which of the two it is."""
_LEGEND: Final = """\
How to read this table: a handle is the right to use one connection, and each
row is the life of one, on the client's or the server's side. It is open; then
it has moved, to the handle behind the arrow, and nobody can use it any more;
or it is closed, for the reason that is named. Claimed: a handshake is under
way, and nobody else may touch it. Draining: a goodbye is. ms: when it opened.
"""


class Display:
    """Prints to standard output, each part when it is there."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        console = Console(highlight=False)
        console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
        self._console = console
        self._ascii = console.options.ascii_only
        self._contrasted = False

    def _text(self, text: str, style: str = "") -> Text:
        if self._ascii:
            for sign, words in _ASCII.items():
                text = text.replace(sign, words)
        return Text(text, style)

    def title(self, version: str, address: str) -> None:
        """The first line."""
        self._console.print(Text(f"trionet {version} on {address}", "bold"), end="")
        self._console.print(": lines, TLS, HTTP, WebSocket\n")

    def result(self, result: Result) -> None:
        """One step: a line, and what broke if anything did."""
        mark = self._text("✓", "bold green") if result.kept else self._text("✗", "bold red")
        self._hanging(mark, self._text(result.promise))
        if result.broken is not None:
            self._hanging(Text(" "), self._text(result.broken, "red"))

    def _hanging(self, mark: Text, text: Text) -> None:
        """`text` behind `mark`; on a terminal, further lines begin below the text."""
        if self._console.is_terminal:
            grid = Table.grid(padding=(0, 1, 0, 0))
            grid.add_row(mark, text)
            self._console.print(grid)
        else:
            self._console.print(mark, text, soft_wrap=True)

    def contrast(self, seen: Seen) -> None:
        """One situation, and what both libraries do in it."""
        if not self._contrasted:
            self._console.print()
            self._console.print(Text("The same situation with other libraries, just now, on this machine:", "bold"))
            self._contrasted = True
        self._console.print()
        self._hanging(
            self._text("✓" if seen.kept else "✗", "bold green" if seen.kept else "bold red"), Text(seen.situation)
        )
        for library, found in (("trionet", seen.ours), (seen.peer, seen.theirs)):
            self._hanging(Text(f"  {library:<14}"), self._text(found))

    def outcome(self, outcome: Outcome) -> None:
        """Everything that is known only at the end."""
        self._console.print()
        self._console.print(_LEGEND)
        self._console.print(self._table(outcome.results))
        self._console.print()
        for result in outcome.results:
            if result.shown is not None:
                title = f"the refusal of step {result.name}"
                edges = box.ASCII if self._ascii else box.ROUNDED
                self._console.print(Panel(self._text(result.shown), title=title, title_align="left", box=edges))
        self._summary(outcome)

    def _table(self, results: Iterable[Result]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("ms", justify="right", no_wrap=True)
        table.add_column("side", no_wrap=True)
        table.add_column("handle", no_wrap=True)
        table.add_column("life", overflow="fold")
        table.add_column(self._text("reason → successor"), overflow="fold")
        for result in results:
            table.add_row("", "", self._text(result.name, "bold"))
            for life in result.lives:
                table.add_row(*self._row(life))
        return table

    def _row(self, life: Life) -> tuple[Text, ...]:
        phases = (self._text(phase.value, _PHASE_STYLES.get(phase.value, "")) for phase in life.phases)
        reason = "" if life.reason is None else life.reason.value
        return (
            self._text(_milliseconds(life.opened), "dim"),
            self._text(life.side),
            self._text(_short(life.handle)),
            self._text(" → ").join(phases),
            self._text(reason if life.successor is None else f"{reason} → {_short(life.successor)}"),
        )

    def _summary(self, outcome: Outcome) -> None:
        kept = sum(result.kept for result in outcome.results)
        self._console.print(
            self._text(
                f"handles  {outcome.opened} opened: {outcome.moved} moved, {outcome.closed} closed, "
                f"{outcome.open} left open"
            )
        )
        server = outcome.server
        self._console.print(
            self._text(
                f"server   {server.accepted} connections accepted: {server.open} left open, "
                f"{server.failed} handlers failed"
            )
        )
        if outcome.drain is not None:
            self._console.print(self._text(f"drain    {outcome.drain}"))
        if outcome.leftover is not None:
            self._console.print(self._text(f"✗ {outcome.leftover}", "bold red"))
        verdict = f"{kept} of {len(outcome.results)} promises kept, in {outcome.seconds:.2f} s"
        self._console.print(self._text(verdict, "bold green" if outcome.kept else "bold red"))

    def say(self, text: str) -> None:
        """Plain lines, now."""
        self._console.print(self._text(text), soft_wrap=True)
        self._console.file.flush()


def _short(handle: str) -> str:
    kind, mark, number = handle.partition(" #")
    return f"{_SHORT.get(kind, kind)}{mark}{number}"


def _milliseconds(seconds: float) -> str:
    """In four columns, up to ten seconds."""
    return f"{seconds * 1000:.1f}" if seconds < 0.09995 else f"{seconds * 1000:.0f}"
