"""A session: what is sent and what comes, at once; and how it comes to its end.

A person ends it, or the peer does. A pipe has an end of its own: then the session goes on until the answer has come.
What that is, no protocol in general says, so it ends with the peer's end, or with a silence behind the first of it.
The end of the input is not passed on at once: many servers take it for a client that has gone, and answer nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..mistakes import Mistake
from .channels import Note

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .channels import Channel
    from .lines import Item
    from .screen import Screen

__all__ = ["Session"]


class Session:
    """One session.

    Args:
        channel: Whom to talk to.
        screen: Shows what comes.
        timeout: Seconds for the beginning of an answer behind the last line.
        settle: Seconds of silence that end it.
        patient: Whether a mistake in a line is told, and does not end the session.
    """

    def __init__(
        self, channel: Channel, screen: Screen, timeout: float, settle: float, *, patient: bool = False
    ) -> None:
        self._channel = channel
        self._screen = screen
        self._timeout = timeout
        self._settle = settle
        self._patient = patient
        self._answered = False
        self._over = False
        self._heard = trio.Event()
        self._failure: Exception | None = None

    async def run(self, items: AsyncIterator[Item]) -> bool:
        """Send the items and show what comes: whether an answer has come behind the last of them.

        Raises: what the connection raises.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                await self._talk(items)
                if self._channel.passes_end:
                    await self._wait_for_silence()
                await self._channel.finish()
                await self._wait_for_answer()
            except Exception as exc:  # noqa: BLE001 - raised below, and not in a nursery's group
                self._failure = self._failure or exc
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        return self._answered

    async def _talk(self, items: AsyncIterator[Item]) -> None:
        async for item in items:
            self._answered = False
            try:
                await self._channel.send(item)
            except Mistake as exc:
                if not self._patient:
                    raise
                self._screen.note(str(exc))

    async def _wait_for_silence(self) -> None:
        while await self._hears(self._settle):
            pass

    async def _wait_for_answer(self) -> None:
        """Until the peer has ended, or is silent behind its answer, or has given none."""
        while await self._hears(self._settle if self._answered else self._timeout):
            pass

    async def _hears(self, seconds: float) -> bool:
        """Whether the peer says more within this time."""
        if self._over:
            return False
        self._heard = trio.Event()
        with trio.move_on_after(seconds):
            await self._heard.wait()
        return self._heard.is_set()

    async def _listen(self, whole: trio.CancelScope) -> None:
        """Show what comes. A peer that ends ends the session, whatever is being typed."""
        try:
            while (item := await self._channel.receive()) is not None:
                self._show(item)
                self._answered = True
                self._heard.set()
            if self._channel.farewell:
                self._screen.note(self._channel.farewell)
        except Exception as exc:  # noqa: BLE001 - raised by `run`
            self._failure = exc
        self._answered = self._over = True
        self._heard.set()
        whole.cancel()

    def _show(self, item: Item | Note) -> None:
        if isinstance(item, Note):
            self._screen.note(item)
        elif isinstance(item, str):
            self._screen.message(item)
        elif self._channel.framed:
            self._screen.binary(item)
        else:
            self._screen.stream(item)
