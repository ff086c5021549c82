"""Names that may occur more than once, each with a value: what a query, or a form, consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MultiMapping"]

Value = TypeVar("Value")
Default = TypeVar("Default")


class MultiMapping(Generic[Value]):
    """Names and values in the order in which they came. Names are compared as they are; one may occur repeatedly.

    Immutable. What asks for a single value gets the first of that name.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, Value]] = ()) -> None:
        self._pairs = tuple(pairs)

    def __getitem__(self, name: str) -> Value:
        """The first value of this name; `KeyError` if there is none."""
        for other, value in self._pairs:
            if other == name:
                return value
        raise KeyError(name)

    @overload
    def get(self, name: str) -> Value | None: ...
    @overload
    def get(self, name: str, default: Default) -> Value | Default: ...
    def get(self, name: str, default: Default | None = None) -> Value | Default | None:
        """The first value of this name, or `default`."""
        try:
            return self[name]
        except KeyError:
            return default

    def get_list(self, name: str) -> list[Value]:
        """Every value of this name, in order."""
        return [value for other, value in self._pairs if other == name]

    def items(self) -> list[tuple[str, Value]]:
        """All (name, value) pairs, in order; a repeated name occurs repeatedly."""
        return list(self._pairs)

    def __contains__(self, name: object) -> bool:
        """Whether the name occurs."""
        return any(other == name for other, _ in self._pairs)

    def __iter__(self) -> Iterator[str]:
        """Each name once, in order."""
        return iter(dict.fromkeys(name for name, _ in self._pairs))

    def __len__(self) -> int:
        """How many different names."""
        return len({name for name, _ in self._pairs})

    def __eq__(self, other: object) -> bool:
        """Whether the pairs are the same, in the same order."""
        return self._pairs == other._pairs if isinstance(other, MultiMapping) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return f"MultiMapping({list(self._pairs)!r})"
