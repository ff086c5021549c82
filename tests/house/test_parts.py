"""A class has parts, not ancestors; a name means one class; modules know those below them, not each other."""

from __future__ import annotations

from collections import defaultdict

import pytest

import trionet
import trionet.http
import trionet.interop.trio_websocket
from tests.helpers.house import circles, classes, full_name, imports, is_own, is_protocol, modules, sources

FACES = [trionet, trionet.http, trionet.websocket, trionet.interop.trio_websocket]

BACK_REFERENCES = {
    ("trionet.handle.handle", "trionet.scope.scope"): "Handle.scope",
    ("trionet.http.server.exchange", "trionet.http.server.connection"): "Exchange.connection",
    ("trionet.http.client.response", "trionet.http.client.connection"): "Response.connection",
    ("trionet.http.client.client", "trionet.scope.scope"): "HTTPClient.scope",
}
"""Imports from below to above, for types alone: what a program may ask a thing about the one that has it."""


# --- parts, not ancestors ---------------------------------------------------------------------------------------


def test_a_class_stands_on_one_other_at_most_and_has_parts_for_the_rest():
    public = {getattr(face, name) for face in FACES for name in face.__all__}
    tall = {
        full_name(cls) for cls in classes() if not issubclass(cls, BaseException) and height(cls) > allowed(cls, public)
    }
    assert tall == set(), "too many ancestors"


def height(cls: type) -> int:
    """How many classes of trionet's it consists of, itself included."""
    return sum(is_own(base) and not is_protocol(base) for base in cls.__mro__)


def allowed(cls: type, public: set[object]) -> int:
    """Two; three for one that makes more of a public handle (`Handle`, the handle, the class of another library's)."""
    special = any(
        base in public and issubclass(base, trionet.Handle) for base in cls.__mro__[1:] if base is not trionet.Handle
    )
    return 3 if special else 2


# --- one name, one class ----------------------------------------------------------------------------------------


def test_no_two_classes_have_one_name():
    """An underscore makes no other name of it."""
    named = defaultdict(list)
    for cls in classes():
        named[cls.__name__.lstrip("_")].append(full_name(cls))
    shared = [f"{name}: {', '.join(found)}" for name, found in named.items() if len(found) > 1]
    assert not shared, "\n".join(["one name for several classes:", *shared])


# --- no circles -------------------------------------------------------------------------------------------------


def test_modules_do_not_need_each_other_not_even_for_types():
    graph = {name: {other for other in imports(name) if (name, other) not in BACK_REFERENCES} for name in sources()}
    found = [
        "; ".join(f"{name} imports {', '.join(sorted(graph[name] & circle))}" for name in sorted(circle))
        for circle in circles(graph)
    ]
    assert not found, "\n".join(["a circle:", *found])


@pytest.mark.parametrize(("module", "above"), BACK_REFERENCES)
def test_a_back_reference_is_an_import_that_there_is(module, above):
    assert above in imports(module)
    name = above.rpartition(".")[2]
    assert all(thing is not modules()[above] for thing in vars(modules()[module]).values()), (
        f"{name} is there at run time"
    )


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}
    assert list(circles(graph)) == [{"b", "c"}]
