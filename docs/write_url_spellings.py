"""Writes down how URLs of odd spelling are sent, from the data that the tests send to a server by trionet and by curl.

``python -m docs.write_url_spellings`` writes ``docs/url-spellings.md``; with ``--check`` it writes nothing and fails if
the file says something other than the data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers.url_spellings import AS_GIVEN, DIFFERENT

if TYPE_CHECKING:
    from tests.helpers.url_spellings import Difference

PAGE = Path(__file__).parent / "url-spellings.md"

INTRODUCTION = """# URLs: what is sent

<!-- Written by `python -m docs.write_url_spellings`, from tests/helpers/url_spellings.py. -->

A URL is sent as it was given, and so is the Location of a redirect: a signed URL is valid in one spelling only. Nothing
is decoded, put into another order or left out, apart from the fragment, which is never sent. Only what may not stand in
a URL is percent-encoded. A relative Location is resolved first, and that alone carries out its `.` and `..`
(RFC 3986 §5.2).

The tests send {count} URLs of odd spelling to a server that notes the bytes: directly, by redirect, through a proxy, as
a WebSocket's handshake, and with `curl -g --path-as-is` (7.88). These are the differences from curl, all of them.
"""


def page() -> str:
    """The whole page."""
    count = len(AS_GIVEN) + sum(len(difference.spellings) for difference in DIFFERENT)
    return "\n".join([INTRODUCTION.format(count=count), *(_section(one) for one in DIFFERENT)])


def _section(difference: Difference) -> str:
    rows = [
        f"| {_code(one.given)} | {_code(one.sent)} | {_bytes(one.curl)} | {_bytes(one.redirected)} |"
        for one in difference.spellings
    ]
    head = ["| given | trionet sends | curl sends | curl, from a Location |", "| --- | --- | --- | --- |"]
    return "\n".join([f"## {difference.topic}\n", f"{difference.why}\n", *head, *rows, ""])


def _bytes(sent: bytes | None) -> str:
    return "refuses it" if sent is None else _code(sent.decode())


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def main() -> int:
    """Write the page, or check it."""
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
