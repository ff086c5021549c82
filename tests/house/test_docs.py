"""The documentation can be read where it is found, on a code host too: programs, signatures and links stand in it."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

import trionet
from docs.write_programs import with_programs
from docs.write_reference import FOLDER, PAGES, pages

pages = functools.cache(pages)
ROOT = Path(__file__).parents[2]
ALL = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"])
WRITTEN = [page for page in ALL if FOLDER not in page.parents]


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", ["index.md", *(f"{name}.md" for name in PAGES)])
def test_the_reference_says_what_the_docstrings_say(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], "run python -m docs.write_reference"


def test_the_reference_lists_every_public_name():
    listed = {name for _, module, names in PAGES.values() if module == "trionet" for name in names.split()}
    assert sorted(listed) == sorted(trionet.__all__)


@pytest.mark.parametrize("page", WRITTEN, ids=by_name)
def test_a_program_on_a_page_is_the_example_that_is_run(page):
    text = page.read_text(encoding="utf-8")
    assert text == with_programs(text), "run python -m docs.write_programs"
    marked = re.findall(r"^<!-- program: .*\n(.*)", text, re.MULTILINE)
    assert {*marked} <= {"```python"}


def test_every_example_stands_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in WRITTEN)
    for example in (ROOT / "examples").glob("*.py"):
        assert f"<!-- program: examples/{example.name} -->" in text


@pytest.mark.parametrize("page", ALL, ids=by_name)
def test_links_have_texts_and_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for words, target in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text):
        assert words, f"a link to {target} without a text"
        if "://" not in target:
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), f"{target} is not there"
            assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), f"no heading for {target}"


def anchors(text: str) -> set[str]:
    """What code hosts, and the built documentation, make of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=by_name)
def test_nothing_needs_a_tool_to_be_read(page):
    text = page.read_text(encoding="utf-8")
    directives = re.findall(r"^(?:```|:::)\{(.+?)\}", text, re.MULTILINE)
    assert {*directives} <= {"toctree"}
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.findall(r"^\([\w-]+\)=$", prose, re.MULTILINE), "a label for Sphinx, which others show as text"
    assert not re.findall(r"^: ", prose, re.MULTILINE), "a definition list, which not every code host knows"
    assert FOLDER not in page.parents or "``" not in prose, "a docstring's double back-quotes"
