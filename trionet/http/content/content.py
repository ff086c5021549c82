"""What a message's body is made of, as its sender sees it: a length, if there is one, and pieces, once or repeatedly.

Two questions decide how a body is sent: how long it is (a Content-Length, or chunks), and whether it can be produced
again (for a redirect, or a retry). `Content` answers both, whatever it is made of; the other modules here make it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ...errors import BodyNotReplayableError

if TYPE_CHECKING:
    from ...transport.file_region import FileRegion

__all__ = ["Chunks", "Content"]


class Chunks(AsyncIterator[bytes]):
    """The pieces of a body, none of them empty. Close it with `aclose` when it is not iterated to its end."""

    async def aclose(self) -> None:
        """Let the source know that no more is wanted, where it can be told: a generator's ``finally`` runs.

        Cancellation: is the source's business.
        """


class Content:
    """What a request sends.

    Attributes:
        length: Bytes; None if that is not known, so that it is sent in chunks.
        replayable: Whether it can be produced again.
        content_type: The Content-Type that fits, unless the request has one; None if there is none.
        data: The whole of it, where it is in memory.
    """

    __slots__ = ("_used", "content_type", "data", "length", "replayable")

    def __init__(self, length: int | None, replayable: bool, content_type: str | None, data: bytes | None) -> None:
        self.length = length
        self.replayable = replayable
        self.content_type = content_type
        self.data = data
        self._used = False

    @property
    def region(self) -> FileRegion | None:
        """The content as a part of a file, for a transport that sends one without copying; None if it is not that."""
        return None

    def chunks(self) -> Chunks:
        """The content, from its beginning.

        Raises:
            BodyNotReplayableError: it was asked for before, and can be produced only once.
        """
        raise NotImplementedError

    def _use(self, what: str) -> None:
        """Keep account of a source that can be used only once.

        Raises:
            BodyNotReplayableError: it was.
        """
        if self._used and not self.replayable:
            raise BodyNotReplayableError(
                f"the body has to be sent again, but {what} can be read only once: give bytes, a list or a seekable "
                f"file, or switch off what repeats the request (follow_redirects=False)"
            )
        self._used = True
