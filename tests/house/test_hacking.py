"""HACKING.md names what there is: files, rooms, folders of tests, functions on the way of a request."""

from __future__ import annotations

import re

import pytest

from docs.write_rooms import PAGE, rooms, with_files
from tests.helpers.house import ROOT, classes, sources

TEXT = PAGE.read_text(encoding="utf-8")
WRITTEN = TEXT.partition("<!-- files: ")[0]


def section(title: str) -> str:
    return re.split(rf"^## {title}$", WRITTEN, maxsplit=1, flags=re.MULTILINE)[1].partition("\n## ")[0]


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def first_cells(text: str) -> list[str]:
    """What stands in the first column of the tables of a section, without their heads."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def test_every_file_stands_in_its_table():
    assert with_files(TEXT) == TEXT, "run python -m docs.write_rooms"


def test_the_rooms_are_those_of_the_linter_in_their_order():
    named = [name for name in first_cells(section("Where things are")) if name in rooms()]
    assert named == [name for name in rooms() if name != "__main__"]


NAMED = {path for code in in_code(WRITTEN) for path in re.findall(r"(?<![\w/.-])[\w/.-]+(?:/|\.py)(?![\w/.-])", code)}


@pytest.mark.parametrize("path", sorted(NAMED))
def test_a_file_that_is_named_is_there(path):
    """By its whole path, by that inside of trionet, or by its name alone where the text has said where one is."""
    found = [ROOT / path, ROOT / "trionet" / path, ROOT / "tests" / path]
    assert any(place.exists() for place in found) or ("/" not in path and [*ROOT.glob(f"t*/**/{path}")])


def test_the_functions_on_the_way_of_a_request_are_there():
    source = "\n".join(path.read_text(encoding="utf-8") for path in sources().values())
    defined = set(re.findall(r"(?:def|class) (\w+)", source)) | {cls.__name__ for cls in classes()}
    words = set(re.findall(r"[\w.]+", source))
    for name in in_code(section("The way of a request")):
        if re.fullmatch(r"[\w.]+", name) and not name.endswith(".py"):
            *_, last = name.split(".")
            assert last in defined or last in words, f"nothing is called {name} any more"


def test_folders_of_tests_mirror_rooms_or_are_named():
    named = {name.removeprefix("tests/") for name in first_cells(section("Tests"))}
    assert all((ROOT / "tests" / name).is_dir() for name in named)
    for init in (ROOT / "tests").rglob("*/__init__.py"):
        folder = init.parent.relative_to(ROOT / "tests")
        assert folder.parts[0] in named or (ROOT / "trionet" / folder).is_dir(), f"tests/{folder} mirrors no room"
