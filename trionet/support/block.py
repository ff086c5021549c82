"""What `open_scope`, `open_tcp` and their kin return: a block, which has to be entered.

Each is written as a generator. The `Block` around it tells people who forget ``async with``, or Trio, what to write.
"""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, NoReturn, ParamSpec, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

__all__ = ["Block", "NeedsAsyncWith", "block", "check_trio"]

Given = TypeVar("Given", covariant=True)
Arguments = ParamSpec("Arguments")


class NeedsAsyncWith:
    """Has to be entered with ``async with``: an error says so if it is awaited, entered with ``with``, or used."""

    __slots__ = ()

    def _usage(self) -> str:
        """What it is and what to write, for errors."""
        raise NotImplementedError

    def __await__(self) -> NoReturn:
        raise TypeError(f"{self._usage()}, without await")

    def __enter__(self) -> NoReturn:
        raise TypeError(f"{self._usage()}, not `with`")

    def __exit__(self, *_: object) -> None:
        """Only there so that `with` comes as far as ``__enter__``."""

    if not TYPE_CHECKING:  # to a type checker, every attribute would be there

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(f"{self._usage()}, and ask that for {name!r}")


class Block(NeedsAsyncWith, Generic[Given]):
    """An asynchronous context manager, used once."""

    __slots__ = ("_manager", "_name")

    def __init__(self, manager: AbstractAsyncContextManager[Given], name: str) -> None:
        self._manager = manager
        self._name = name

    def _usage(self) -> str:
        return f"{self._name}() opens a block: write `async with {self._name}(...) as ...`"

    @enable_ki_protection
    async def __aenter__(self) -> Given:
        check_trio(self._name)
        return await self._manager.__aenter__()

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, exc, traceback)  # noqa: ASYNC102 - it knows how to end


def block(generator: Callable[Arguments, AsyncIterator[Given]]) -> Callable[Arguments, Block[Given]]:
    """Make a function that opens a block out of an async generator function, as `asynccontextmanager` does."""
    make = asynccontextmanager(generator)

    @functools.wraps(generator)
    def opened(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Block[Given]:
        return Block(make(*args, **kwargs), generator.__name__)

    return opened


def check_trio(name: str) -> None:
    """Raise unless this is a task of Trio's.

    Raises:
        RuntimeError: it is not, as under ``asyncio.run()``.
    """
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(f"{name}() needs Trio: run the program with trio.run(main), not with asyncio") from None
