"""The body of a response as it comes, piece by piece, without its framing.

The task that wants the body reads it, and nothing is received that nobody asked for. How far it is read decides what
becomes of the connection (RFC 9112 §9.3): with its end the response lets go of it (`claim`); a block that is left
before that drains or aborts it (`leaving`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ...errors import HandleClosedError
from ...transport.protocol import MAX_RECEIVE
from ..protocol.body_reader import END, EndOfMessage
from ..protocol.machine import Signal

if TYPE_CHECKING:
    from ...handle import Lease
    from ..protocol.head import ResponseHead
    from ..protocol.machine import H1Event
    from .claim import Claim
    from .io import ClientIO

__all__ = ["IncomingBody"]

_NEED_DATA: Final = Signal.NEED_DATA


class IncomingBody:
    """One response, behind its head.

    Args:
        io: Of the connection that it comes from.
        head: Of the response.
        method: Of the request.
        lease: The exchange's.
        claim: What the response holds of the connection.

    Attributes:
        io, head, claim: As above.
        asked: By which method it is judged whether a retry is safe: of an earlier request, if that has led to this one.
        framing: How the body is framed; its length, where the head tells that.
        size: How much of it was read.
        ended: Whether it was read to its end; the request may still be on its way.
        left: Whether the block was left before that.
        trailers: The fields behind it.
    """

    __slots__ = (
        "_lease", "_machine", "asked", "claim", "ended", "framing", "head", "io", "left", "size", "trailers"
    )  # fmt: skip

    def __init__(self, io: ClientIO, head: ResponseHead, method: str, lease: Lease, claim: Claim) -> None:
        machine = io.machine
        self.io = io
        self.head = head
        self.claim = claim
        self.asked = method
        self.framing = machine.framing
        self.size = 0
        self.ended = self.left = False
        self.trailers = END.trailers
        self._lease = lease
        self._machine = machine

    def __repr__(self) -> str:
        status, reason = self.head.status, self.head.reason
        return f"<Response {status} {reason}>" if reason else f"<Response {status}>"

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be done for the response when its block is left."""
        return self.ended and self.claim.settled

    def begin_empty(self) -> None:
        """There is no body: the response has ended with its head. A step."""
        event = self._machine.next_event()
        assert event is END or event is Signal.SWITCHED
        self.ended = True
        self.claim.response_over()

    @enable_ki_protection
    async def next_piece(self) -> bytes | None:
        """The next piece as it comes, None at the end.

        A checkpoint; but other tasks get no turn if the connection has received something since they had one here.

        Raises and Cancellation: as `Response.read`.
        """
        if self.left:
            raise self._left_error()
        if self.ended:
            await trio.lowlevel.checkpoint()
            return None
        await checkpoint_if_cancelled()
        piece = await self.next_event()
        if self.io.received:
            self.io.received = False
        else:
            await cancel_shielded_checkpoint()
        return piece

    async def next_quickly(self) -> bytes | None:
        """As `next_piece`, but a checkpoint only where it has to wait."""
        if self.left:
            raise self._left_error()
        return None if self.ended else await self.next_event()

    @enable_ki_protection
    async def next_event(self, max_bytes: int = MAX_RECEIVE) -> bytes | None:
        """As `next_quickly`, of a body that was neither left nor read to its end.

        Args:
            max_bytes: To be received at once.
        """
        io, machine = self.io, self._machine
        try:
            io.check()
            while (event := machine.next_event()) is _NEED_DATA:
                await io.receive(self._lease, max_bytes)
        except BaseException as exc:
            if isinstance(exc, Exception):
                self.failed(exc)
            raise
        if isinstance(event, bytes):
            self.size += len(event)
            return event
        self._finish(event)
        return None

    def take_arrived(self, pieces: list[bytes]) -> bool:
        """Append the next piece, if it has arrived already: whether there may be more. A step."""
        event = self._machine.next_event()
        if isinstance(event, bytes):
            self.size += len(event)
            pieces.append(event)
            return True
        if event is not _NEED_DATA:
            self._finish(event)
        return False

    def failed(self, exc: Exception) -> None:
        """Reading, or decoding, has ended with `exc`. A step."""
        if not self.ended and not self.left:  # else it was kept in memory; the connection may carry another request now
            self.claim.failed(exc, self.asked)

    def _finish(self, event: H1Event) -> None:
        assert isinstance(event, EndOfMessage)
        self.trailers = event.trailers
        self.ended = True
        self.claim.response_over()

    def _left_error(self) -> HandleClosedError:
        return HandleClosedError(f"read refused: the block of {self!r} has been left; read the body inside it")
