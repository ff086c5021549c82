"""Sending a body while its response is being read.

A server may answer before it has read a request to its end, and may then stop reading: it refuses what is sent, or it
answers as it reads. Who only sends would wait for such a server for ever. So a body that the system does not take at
once, and one that has yet to be produced, is sent by a task of its own, in a nursery that is open from the request's
beginning to the end of its response's block at the latest. The task never raises: what it met is kept for the task that
reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

if TYPE_CHECKING:
    from ..handle import Lease
    from .body_writer import Buffer
    from .client_connection import HTTPClientConnection
    from .content import Content

__all__ = ["Upload"]


class Upload:
    """The rest of one request.

    Args:
        connection: Sends it.
        lease: The request's.
        rest: What comes first, as it goes on the wire.
        content: The body behind that, if it is not part of `rest`.

    Attributes:
        over: Whether the task has ended: everything is sent, or nothing more will be.
    """

    __slots__ = ("_connection", "_content", "_error", "_manager", "_nursery", "_rest", "lease", "over")

    def __init__(
        self, connection: HTTPClientConnection, lease: Lease, rest: memoryview | None, content: Content | None
    ) -> None:
        self.lease = lease
        self.over = False
        self._connection = connection
        self._rest = rest
        self._content = content
        self._error: BaseException | None = None
        self._manager: Any = None
        self._nursery: Any = None

    @enable_ki_protection
    async def begin(self) -> None:
        """Start the task. `end` has to be awaited later, in the same task.

        Cancellation: not a checkpoint.
        """
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._run, name=f"upload of {self.lease.name}")

    @enable_ki_protection
    async def end(self) -> None:
        """Stop the task and wait until it has ended. What is not sent then will never be.

        Cancellation: not a cancellation point; the task is cancelled, and whoever produces the body should heed that.
        """
        scope = self._nursery.cancel_scope
        scope.shield = True
        scope.cancel()
        await self._manager.__aexit__(None, None, None)

    def raise_error(self) -> None:
        """Raise what the producer of the body has raised, once."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    @enable_ki_protection
    async def _run(self) -> None:
        try:
            if self._rest:
                await self._send(self._rest)
            if self._content is not None:
                await self._send_content(self._content)
        except _NotTakenError:
            self._connection.machine.abandon()  # what the server has said before may still be there to be read
        except trio.Cancelled:
            self._connection.machine.abandon()
            raise
        except BaseException as exc:  # noqa: BLE001 - it is raised by the task that reads
            self._error = exc
            self._connection.machine.abandon()
            self._connection.abort()
        finally:
            self.over = True

    async def _send_content(self, content: Content) -> None:
        machine = self._connection.machine
        if content.data is not None:
            await self._send(machine.send_data(content.data))
        else:
            chunks = content.chunks()
            try:
                async for chunk in chunks:
                    await self._send(machine.send_data(chunk))
            finally:
                await chunks.aclose()  # noqa: ASYNC102 - what a generator waits for at its end is its own business
        if end := machine.send_end():
            await self._send(end)

    async def _send(self, data: Buffer) -> None:
        try:
            await self._connection.send_leased(data, self.lease)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise _NotTakenError from exc


class _NotTakenError(Exception):
    """The connection took no more: not the producer's fault, who may raise errors of connections too."""
