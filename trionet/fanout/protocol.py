"""What all fan-outs have: an interface, so that a program need not know which one it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from .subscription import Overflow, Subscription

__all__ = ["Fanout"]


class Fanout(Protocol):
    """What `MemoryFanout` and its kin over Redis have in common, as a type for arguments of your own."""

    async def publish(self, topic: str, data: str | bytes | bytearray | memoryview) -> None:
        """Send `data` to all subscribers of `topic`."""
        ...

    def subscribe(
        self,
        topic: str,
        *,
        max_messages: int = 1024,
        max_bytes: int = 2**20,
        overflow: Overflow = "drop_oldest",
    ) -> AbstractAsyncContextManager[Subscription]:
        """The messages of `topic` from now on, for the length of a block."""
        ...

    def present(self, topic: str, name: str) -> AbstractAsyncContextManager[None]:
        """Let `name` be one of the topic's members for the length of a block."""
        ...

    async def members(self, topic: str) -> list[str]:
        """Who is present, sorted."""
        ...
