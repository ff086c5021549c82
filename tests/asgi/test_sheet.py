"""The table of the documentation which says where each requirement of the specification is tested."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_row_names_a_test_that_there_is():
    page = (ROOT / "docs" / "asgi.md").read_text(encoding="utf-8")
    named = re.findall(r"\| `(test_\w+)` \|", page)
    files = [*(ROOT / "tests" / "asgi").glob("*.py"), *(ROOT / "tests" / "peers").glob("*.py")]
    there = {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text(encoding="utf-8"))}
    assert len(named) > 30
    assert not {*named} - there
