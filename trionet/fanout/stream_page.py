"""Reading a stream of Redis from a place in it, and knowing whether anything was missed.

A stream is cut to its newest messages as others are added. So who reads on from the id of the last message that it has
got may have missed some, and Redis does not say so. A page does: in one step Redis looks whether that last message is
still there, which proves that nothing behind it is gone, and reads on. Where it is not there, messages may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .items import Message

__all__ = ["BEGINNING", "Ask", "StreamPage", "check_id", "messages_of", "order", "read_page", "read_tail"]

Ask: TypeAlias = Callable[..., Awaitable[Any]]
"""A command and its arguments: the answer of Redis."""

BEGINNING: Final = "0-0"
"""The place in front of every message."""

_PAGE: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return {'0-0', 0, 0, {}} end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local facts = {}
for i = 1, #info, 2 do facts[info[i]] = info[i + 1] end
local removed = (facts['entries-added'] or facts['length']) - facts['length']
local found = #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], ARGV[2], 'COUNT', ARGV[3])
return {facts['last-generated-id'], removed, found, entries}
"""
_ID: Final = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class StreamPage:
    """What stands in a stream behind a place."""

    messages: list[Message]
    gap: bool
    """Whether messages in front of these may be missing."""
    at: str
    """The place behind these."""
    more: bool
    """Whether there may be another page."""


def order(name: str) -> tuple[int, int]:
    """An id as a value that can be compared: Redis counts milliseconds, and messages within one."""
    milliseconds, _, number = name.partition("-")
    return int(milliseconds), int(number)


def check_id(name: str, value: str) -> str:
    """`value`, if it is an id.

    Raises:
        TypeError: not a str.
        ValueError: not two whole numbers of 64 bits with a hyphen between them.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be the id of a message, such as '1700000000000-0', not {value!r}")
    if not _ID.fullmatch(value) or max(order(value)) >= 2**64:
        raise ValueError(f"{name} must be the id of a message, such as '1700000000000-0', not {value[:64]!r}")
    return value


def messages_of(entries: list[Any]) -> list[Message]:
    """Entries as Redis sends them: an id, and fields and values in turns."""
    return [Message(name.decode("ascii"), fields[1]) for name, fields in entries]


async def read_tail(ask: Ask, key: str) -> str:
    """The place behind the newest message."""
    last, *_ = await ask(b"EVAL", _PAGE, 1, key, BEGINNING, BEGINNING, 1)
    return str(last.decode("ascii"))


async def read_page(ask: Ask, key: str, after: str, upto: str, count: int) -> StreamPage:
    """At most `count` messages that stand behind `after`, and not behind `upto`."""
    last, removed, found, entries = await ask(b"EVAL", _PAGE, 1, key, after, upto, count)
    if order(last.decode("ascii")) < order(after):  # Redis has lost what it had, and begun anew
        return StreamPage([], gap=True, at=BEGINNING, more=True)
    messages = messages_of(entries)
    gap = removed > 0 if after == BEGINNING else not found
    at = messages[-1].id if messages else after
    assert at is not None
    return StreamPage(messages, gap, at, more=len(messages) == count)
