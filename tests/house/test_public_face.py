"""What an editor offers on a public object is what the reference documents: no more, and no less."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import textwrap

import pytest

import trionet
from docs.write_reference import FOLDER, PAGES, SPECIAL

PUBLIC = [
    "trionet",
    "trionet.http",
    "trionet.websocket",
    "trionet.httpx",
    "trionet.interop.trio_websocket",
    "trionet.inspect",
    "trionet.fanout",
]
"""The modules that programs import."""

LANGUAGE = {"builtins", "enum", "typing", "abc"}
"""Modules whose classes bring members that everybody knows: those of an exception, of a tuple, of an enumeration."""


# --- what the pages say -----------------------------------------------------------------------------------------


@functools.cache
def section(module: str, name: str) -> str:
    """The text of the reference below the heading of this name."""
    page = next(page for page, (_, home, names) in PAGES.items() if home == module and name in names.split())
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    return re.split(rf"^## {name}$", text, maxsplit=1, flags=re.MULTILINE)[1].partition("\n## ")[0]


def headings(text: str) -> set[str]:
    return set(re.findall(r"^### (\w+)$", text, re.MULTILINE))


def shared_with_every_handle(text: str) -> set[str]:
    listed = re.search(r"^And what \[every handle\]\([^)]*\) has: (.*)\.$", text, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", listed[1])) if listed else set()


def documented(module: str, name: str, cls: type) -> set[str]:
    """The members that have a heading, are listed, or are written as code in the text about the class itself."""
    text = section(module, name)
    about = text.partition("\n### ")[0].partition("\nAnd what [every handle]")[0]
    in_code = {word for code in re.findall(r"```.*?```|`[^`]*`", about, re.DOTALL) for word in re.findall(r"\w+", code)}
    found = headings(text) | shared_with_every_handle(text) | in_code
    if issubclass(cls, trionet.TrionetError) and cls is not trionet.TrionetError:
        found |= documented("trionet", "TrionetError", trionet.TrionetError)
    return found


# --- what the classes have --------------------------------------------------------------------------------------


def members(cls: type) -> set[str]:
    """The public members of a class, and what its methods set on its instances."""
    found = set()
    for base in cls.__mro__:
        if base.__module__ not in LANGUAGE:
            found |= {name for name in vars(base) if not name.startswith("_")}
        if base.__module__.startswith("trionet."):
            found |= set_on_instances(base)
    return found


def set_on_instances(cls: type) -> set[str]:
    """The public attributes that the source of a class assigns to ``self``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not node.attr.startswith("_")
    }


def public_classes() -> dict[str, tuple[str, str, type]]:
    """Every class that a program can import from a public module, with where the reference has it, by its name."""
    pages = {}
    for _, module, names in PAGES.values():
        for name in names.split():
            pages.setdefault(getattr(importlib.import_module(module), name), (module, name))
    found = {}
    for module in PUBLIC:
        home = importlib.import_module(module)
        for name in home.__all__:
            thing = getattr(home, name)
            if inspect.isclass(thing) and thing.__module__.startswith("trionet."):
                found.setdefault(thing, (f"{module}.{name}", *pages.get(thing, (None, None))))
    return {name: (module, title, cls) for cls, (name, module, title) in found.items()}


CLASSES = public_classes()


# --- both ways --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_stands_in_the_reference(name):
    assert CLASSES[name][0] is not None


@pytest.mark.parametrize("name", [name for name, (module, _, _) in CLASSES.items() if module is not None])
def test_its_members_are_those_that_the_reference_documents(name):
    module, title, cls = CLASSES[name]
    has = members(cls)
    text = section(module, title)
    assert (headings(text) | shared_with_every_handle(text)) - has - set(SPECIAL.values()) == set(), (
        "documented, and absent"
    )
    assert has - documented(module, title, cls) == set(), "an editor offers it, and the reference does not"
