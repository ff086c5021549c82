"""What a response holds of its connection, and how it lets go of that.

A response holds the lease of its exchange, the rest of its request where that is still being sent, and, where its
connection is a pool's, the slot and the connection. With the end of both messages it has no claim to any of it: at that
moment the connection goes back to the pool that lent it, together with the slot, and whatever the block does then is no
concern of the connection. A response that was asked to keep its connection returns both when its block is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from .ending import exchange_done, exchange_failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...handle import Lease
    from .io import ClientIO
    from .upload import Upload

__all__ = ["Claim"]


class Claim:
    """The claim of one response to its connection.

    Args:
        io: Of the connection.
        lease: The exchange's.
        upload: The rest of the request, if that is still being sent.

    Attributes:
        upload: As above, until it has ended.
    """

    __slots__ = ("_io", "_keeps", "_lease", "_over", "_return", "_returned", "upload")

    def __init__(self, io: ClientIO, lease: Lease, upload: Upload | None) -> None:
        self.upload = upload
        self._io = io
        self._lease = lease
        self._over = False  # both messages are complete, and HTTP goes on behind them
        self._return: Callable[[], None] | None = None
        self._returned = False
        self._keeps = False

    @enable_ki_protection
    def lend(self, give_back: Callable[[], None], *, keep: bool) -> None:
        """The connection is a pool's: `give_back`, a step, is called once when the response needs it no more. A step.

        Args:
            give_back: Returns connection and slot.
            keep: Whether the response needs the connection until its block is left.
        """
        self._return = give_back
        self._keeps = keep
        if self._over and not keep:
            self.give_back()

    def give_back(self) -> None:
        """Return connection and slot, if that was not done before. A step."""
        give_back, self._return = self._return, None
        if give_back is not None:
            self._returned = True
            give_back()

    @property
    def gone(self) -> bool:
        """Whether the connection is the pool's again, where it may carry another request by now."""
        return self._over and self._returned

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be returned or stopped."""
        return self._return is None and self.upload is None

    # --- the end -------------------------------------------------------------------------------------------------

    def response_over(self) -> None:
        """The response is complete; the exchange is, unless its request is still being sent. A step."""
        if self.upload is None:
            self._exchange_over()
        elif self.upload.over:
            self._upload_over()
        else:
            self.upload.when_over = self._upload_over

    def _upload_over(self) -> None:
        """The rest of the request is sent, behind a response that was complete before. A step.

        An error of its producer is raised when the block is left; the connection has been aborted by then.
        """
        if self.upload is not None and self.upload.error is None:
            self.upload = None
            self._exchange_over()

    def _exchange_over(self) -> None:
        """Both messages are complete, or never will be: the connection is needed no more, unless it has switched."""
        if exchange_done(self._io, self._lease):
            self._over = True
            if self._return is not None and not self._keeps:
                self.give_back()

    def failed(self, exc: Exception, method: str) -> None:
        """Reading has ended with `exc`: the connection does too. An error of the body's producer goes first. A step."""
        if self.upload is not None:
            self.upload.raise_error()
        if not isinstance(exc, trio.BusyResourceError):
            exchange_failed(self._io, exc, method)
            if not self._keeps:
                self.give_back()

    async def end_upload(self, exc: BaseException | None, *, response_over: bool) -> None:
        """Stop sending what the server did not wait for, if anything is left to be sent.

        Raises:
            Whatever the producer of the body has raised, unless `exc` is on its way.
        """
        upload, self.upload = self.upload, None
        if upload is None:
            return
        await upload.end()
        if response_over:
            self._exchange_over()
        if exc is None:
            upload.raise_error()
