"""Writes down how trionet reads HTTP/1.1 differently than h11, from the data that the tests hold against both.

``python -m docs.write_http_differences`` writes ``docs/http-differences.md``; with ``--check`` it writes nothing and
fails if the file says something other than the data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers.http_differences import LENIENT, STRICT

if TYPE_CHECKING:
    from tests.helpers.http_differences import Difference

PAGE = Path(__file__).parent / "http-differences.md"

INTRODUCTION = """# HTTP/1.1: differences from h11

<!-- Written by `python -m docs.write_http_differences`, from tests/helpers/http_differences.py. -->

The tests read a corpus of raw requests and responses with trionet and with [h11](https://h11.readthedocs.io). Whatever
trionet accepts, h11 accepts with the same meaning: method, target, version, fields, body, trailers. The exceptions are
listed here, all of them; a difference that is not listed fails the tests.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([
        INTRODUCTION,
        "## What trionet accepts and h11 does not\n",
        *_table(LENIENT),
        "\n## What trionet refuses and h11 accepts\n",
        *_table(STRICT),
        "",
    ])  # fmt: skip


def _table(differences: list[Difference]) -> list[str]:
    rows = [f"| {d.topic} | {d.trionet} | {d.h11} | {d.section} |" for d in differences]
    return ["| what | trionet | h11 | source |", "| --- | --- | --- | --- |", *rows]


def main() -> int:
    """Write the page, or check it."""
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
