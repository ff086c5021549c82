"""What trionet consists of, as the tests of the house look at it: its modules, its classes, and who imports whom."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import trionet

ROOT = Path(trionet.__file__).parents[1]


@functools.cache
def sources() -> dict[str, Path]:
    """Every module of trionet, by its name."""
    found = {}
    for path in sorted((ROOT / "trionet").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def modules() -> dict[str, ModuleType]:
    """The same, imported."""
    return {name: importlib.import_module(name) for name in sources() if not name.endswith("__main__")}


@functools.cache
def classes() -> tuple[type, ...]:
    """Every class that is written at the level of one of those modules."""
    return tuple(
        thing
        for name, module in modules().items()
        for thing in vars(module).values()
        if inspect.isclass(thing) and thing.__module__ == name
    )


def is_own(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "trionet"


def is_protocol(cls: type) -> bool:
    """Whether it says only what others have to offer."""
    return bool(vars(cls).get("_is_protocol"))


def full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# --- imports ----------------------------------------------------------------------------------------------------


def imports(name: str) -> set[str]:
    """The modules of trionet that this one imports, those only for types and those inside of functions included."""
    found = set()
    for node in ast.walk(ast.parse(sources()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = _base(name, node)
            found |= {each if (each := f"{base}.{alias.name}") in sources() else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & set(sources())) - {name}


def _base(name: str, node: ast.ImportFrom) -> str:
    """What ``from ... import`` names, without its dots."""
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    package = parts if sources()[name].name == "__init__.py" else parts[:-1]
    above = package[: len(package) - (node.level - 1)]
    return ".".join([*above, node.module] if node.module else above)


def circles(graph: dict[str, set[str]]) -> Iterator[set[str]]:
    """The sets of nodes each of which leads to each other (Tarjan's strongly connected components)."""
    place: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> Iterator[set[str]]:
        place[node] = lowest[node] = len(place)
        stack.append(node)
        for other in graph[node]:
            if other not in place:
                yield from visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], place[other])
        if lowest[node] == place[node]:
            circle = set()
            while node not in circle:
                circle.add(stack.pop())
            if len(circle) > 1:
                yield circle

    for node in graph:
        if node not in place:
            yield from visit(node)
