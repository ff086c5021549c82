"""Sending a body while its response is being read.

A server may answer before it has read a request to its end, and may then stop reading: it refuses what is sent, or it
answers as it reads. A client that only sent would wait for such a server for ever. So a body that the system does not
take at once, and one that has yet to be produced, is sent by a task of its own, which ends with its response's block at
the latest. It is a service task of the scope that owns the connection, and not in a nursery of the task that reads:
that task may have entered the block inside a deadline, or inside a generator, which end before the block does. The task
never raises: its error is kept for the task that reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...handle import Lease
    from ..content import Content
    from ..protocol.body_writer import Buffer
    from .io import ClientIO

__all__ = ["Upload"]


class Upload:
    """The rest of one request.

    Args:
        io: Of the connection that it is sent on.
        lease: The request's.
        rest: What comes first, as it goes on the wire.
        content: The body behind that, if it is not part of `rest`.

    Attributes:
        over: Whether the task has ended: everything is sent, or nothing more will be.
        error: What the producer of the body has raised, until `raise_error` is called.
        when_over: Called, a step, when the task ends.
    """

    __slots__ = (
        "_content",
        "_ended",
        "_machine",
        "_rest",
        "_scope",
        "error",
        "io",
        "lease",
        "over",
        "when_over",
    )

    def __init__(self, io: ClientIO, lease: Lease, rest: memoryview | None, content: Content | None) -> None:
        self.lease = lease
        self.over = False
        self.io = io
        self._machine = io.machine
        self._rest = rest
        self._content = content
        self.error: BaseException | None = None
        self.when_over: Callable[[], None] | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    def begin(self) -> None:
        """Start the task. `end` has to be awaited later. A step."""
        self.lease._stop = self._scope.cancel
        self.io.start_service(self._run)

    @enable_ki_protection
    async def end(self) -> None:
        """Stop the task and wait until it has ended. What is not sent then will never be.

        Cancellation: not a cancellation point; the task is cancelled, and the producer of the body should heed that.
        """
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    def raise_error(self) -> None:
        """Raise what the producer of the body has raised, once."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    @enable_ki_protection
    async def _run(self) -> None:
        self.lease._worker = task = trio.lowlevel.current_task()
        task.name = f"upload of {self.lease.name}"
        try:
            with self._scope:
                await self._send_request()
        finally:
            self.over = True
            self.lease._worker = None
            self._ended.set()
            if self.when_over is not None:
                self.when_over()

    async def _send_request(self) -> None:
        try:
            if self._rest:
                await self._send(self._rest)
            if self._content is not None:
                await self._send_content(self._content)
        except _NotTakenError:
            self._machine.abandon()  # what the server has said before may still be there to be read
        except trio.Cancelled:
            self._machine.abandon()
            raise
        except BaseException as exc:  # noqa: BLE001 - it is raised by the task that reads
            self.error = exc
            self._machine.abandon()
            self.io.abort()

    async def _send_content(self, content: Content) -> None:
        machine = self._machine
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
            await self.io.send(data, self.lease)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise _NotTakenError from exc


class _NotTakenError(Exception):
    """The connection took no more. The producer, which may raise errors of connections too, is not at fault."""
