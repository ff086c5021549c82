"""Blocks: they give something when they are entered, and tell everybody who uses them in another way what to write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from trionet.support.block import block, check_trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

USAGE = r"^open_box\(\) opens a block: write `async with open_box\(...\) as ...`"


@block
async def open_box(content: str) -> AsyncIterator[str]:
    """Open a box."""
    closed.append(content)
    try:
        yield content
    finally:
        closed.remove(content)


closed: list[str] = []


async def test_a_block_gives_what_its_generator_yields() -> None:
    async with open_box("a cat") as content:
        assert content == "a cat"
        assert closed == ["a cat"]
    assert closed == []
    assert open_box.__doc__ == "Open a box."


async def test_an_error_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_box("a cat"):
            raise ZeroDivisionError
    assert closed == []


async def awaited(box: Any) -> None:
    await box


def entered(box: Any) -> None:
    with box:
        pass


@pytest.mark.parametrize(
    ("use", "kind", "message"),
    [
        (entered, TypeError, USAGE + ", not `with`$"),
        (lambda box: box.content, AttributeError, USAGE + ", and ask that for 'content'$"),
    ],
    ids=["with", "used"],
)
def test_those_who_use_it_otherwise_are_told(use: Callable[[Any], None], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        use(open_box("a cat"))


async def test_those_who_await_it_are_told() -> None:
    with pytest.raises(TypeError, match=USAGE + ", without await$"):
        await awaited(open_box("a cat"))


def test_those_who_run_it_on_asyncio_are_told() -> None:
    async def main() -> None:
        async with open_box("a cat"):
            pass

    with pytest.raises(RuntimeError, match=r"^open_box\(\) needs Trio: run the program with trio.run\(main\)"):
        asyncio.run(main())


def test_no_task_is_not_trio_either() -> None:
    with pytest.raises(RuntimeError, match=r"^serve\(\) needs Trio"):
        check_trio("serve")


def test_private_names_are_ordinary_attribute_errors() -> None:
    """Libraries ask for those, to find out what they were given."""
    assert not hasattr(open_box("a cat"), "_private")
