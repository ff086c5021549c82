"""What a handshake works on: exclusive use of a connection while its handle is CLAIMED.

The wire keeps account for the handle: which bytes the handshake consumed, whether it sent any. So a handshake that
fails before it sent a byte can be undone completely, and leftover goes on to the successor exactly once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from ..errors import LimitExceededError
from ..support.checks import refuse_copy
from ..support.delimiter import DelimiterSearch
from ..transport.protocol import MAX_RECEIVE, Buffer
from .detached import Detached

if TYPE_CHECKING:
    from ..transport.protocol import Transport

__all__ = ["Wire"]


class _HandshakeOver:
    """The transport of a wire whose handshake is over: everything raises a closed error."""

    def __getattr__(self, name: str) -> NoReturn:
        raise trio.ClosedResourceError("the handshake is over: use the handle that upgrade() returned")


_OVER: Any = _HandshakeOver()


class Wire:
    """The byte stream under a handshake. Valid from the start of `Recipe.handshake` to the end of `Recipe.commit`.

    Attributes:
        transport: What moves the bytes. A recipe that adds a layer (TLS) replaces it.
        unread: Bytes received and not consumed by the handshake: the successor's first input.
        failure: What broke the connection during the handshake, if anything did.
        sent: Whether the handshake has given a byte to the transport. From then on it cannot be undone.
        ended: Whether the peer's EOF was seen.
        scope: What the handshake runs in, so that it ends when the handle is closed, or its time is up.
        time_limit: What has to be over, the seconds for it and their name, as `set_deadline` was told; None without a
            deadline.
    """

    __slots__ = (
        "_capsules",
        "_consumed",
        "_opened_at",
        "_waited",
        "ended",
        "failure",
        "scope",
        "sent",
        "time_limit",
        "transport",
        "unread",
    )

    def __init__(self, transport: Transport, leftover: bytes = b"", opened_at: str = "") -> None:
        self.transport = transport
        self.unread = bytearray(leftover)
        self.sent = False
        self.ended = False
        self.failure: BaseException | None = None
        self._waited = False
        self._opened_at = opened_at
        self.scope = trio.CancelScope()
        self.time_limit: tuple[str, float, str] | None = None
        self._consumed = bytearray()
        self._capsules: tuple[Detached, ...] = ()

    __reduce_ex__ = refuse_copy

    def set_deadline(self, seconds: float, what: str, argument: str = "") -> None:
        """From now on the handshake has so many seconds; then the upgrade fails with `UpgradeFailedError`.

        A later call replaces an earlier one.

        Args:
            seconds: More than 0; `math.inf` for no deadline.
            what: What the error says that it took too long.
            argument: The name of the argument with which the program has set the seconds, for the error.
        """
        if seconds != math.inf or self.time_limit is not None:
            self.time_limit = what, seconds, argument
            self.scope.deadline = trio.current_time() + seconds

    async def receive_some(self, max_bytes: int = MAX_RECEIVE) -> bytes:
        """The next 1 to `max_bytes` bytes: unread ones first; ``b""`` at EOF.

        Raises:
            trio.BrokenResourceError: the connection failed.
            trio.ClosedResourceError: the handle was closed meanwhile.

        Cancellation: not one byte is lost.
        """
        if self.unread:
            await trio.lowlevel.checkpoint_if_cancelled()
            data = bytes(self.unread[:max_bytes])
            del self.unread[:max_bytes]
        else:
            data = await self._receive(max_bytes)
        if not self.sent:
            self._consumed += data
        return data

    async def receive_until(self, delimiter: bytes, *, max_bytes: int) -> bytes:
        """The bytes up to and including `delimiter`; what follows stays unread. ``b""`` if EOF comes first.

        Raises:
            LimitExceededError: no delimiter within `max_bytes`; the bytes stay unread.

        Cancellation: not one byte is lost.
        """
        search = DelimiterSearch(delimiter, max_bytes)
        while not search.is_over(self.unread):
            data = await self._receive(MAX_RECEIVE)
            if not data:
                return b""
            self.unread += data
        if search.end is None:
            raise LimitExceededError(f"no {delimiter!r} within {max_bytes} bytes (max_bytes)")
        return self._take(search.end)

    def receive_nowait(self) -> bytes | None:
        """What has arrived and was not received yet, without waiting: ``b""`` at EOF, None if nothing has. A step.

        None also where the transport cannot tell without waiting (an adopted Trio stream). Unread bytes do not count.

        Raises:
            trio.BrokenResourceError: the connection failed.
        """
        try:
            data = self.transport.receive_nowait(MAX_RECEIVE)
        except trio.BrokenResourceError as exc:
            self.failure = exc
            raise
        if data is not None:
            self.ended = not data
            if not self.sent:
                self._consumed += data
        return data

    async def _receive(self, max_bytes: int) -> bytes:
        self._waited = True
        try:
            data = await self.transport.receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            self.failure = exc
            raise
        self.ended = not data
        return data

    def _take(self, size: int) -> bytes:
        """Consume exactly the next `size` unread bytes, which must be there."""
        data = bytes(self.unread[:size])
        del self.unread[:size]
        if not self.sent:
            self._consumed += data
        return data

    def _put_back(self, data: bytes) -> None:
        """Make `data`, the latest bytes consumed, unread again."""
        self.unread[:0] = data
        if not self.sent:
            del self._consumed[len(self._consumed) - len(data) :]

    async def send_all(self, data: Buffer) -> None:
        """Send all of `data`.

        Raises:
            trio.BrokenResourceError: the connection failed.
            trio.ClosedResourceError: the handle was closed meanwhile.

        Cancellation: the handshake has failed if any byte went out.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            await self.transport.send_all(data)
        except trio.BrokenResourceError as exc:
            self.failure = exc
            raise
        finally:
            if len(data) and not self.transport.untouched:
                self.sent = True
                self._consumed.clear()

    def _received(self) -> bytes:
        """Everything received since the handshake began, in order: what an undone handshake puts back."""
        return bytes(self._consumed + self.unread)

    def _end(self, successor: Any = None) -> None:
        """The handshake is over: nothing can be done to the connection any more through this wire. A step.

        Its capsules end with it: the one that `successor` was made from, and those that nothing was made of.
        """
        for capsule in self._capsules:
            capsule._end_with_wire(_OVER, successor)
        self._capsules = ()
        self.transport = _OVER
        self.unread = bytearray()
        self._consumed.clear()

    def _is_origin_of(self, handle: object) -> bool:
        """Whether this handle was made of a capsule of this wire."""
        return any(made is handle for capsule in self._capsules for made in capsule._made)

    def detach(self) -> Detached:
        """The connection as a capsule, for the successor's constructor: transport and unread bytes.

        It cannot be adopted, and ends with the handshake.
        """
        capsule = Detached(
            self.transport, bytes(self.unread), receive_ended=self.ended, opened_at=self._opened_at, on_wire=True
        )
        self._capsules = (*self._capsules, capsule)
        return capsule
