"""What is done with each connection: its scope and task, TLS where that is wanted, the handler, and what came of it.

A handler that fails ends its own connection and no other. Its error is judged by the connection's follower: what the
client did wrong is one line in the log, what the program did wrong an error with its traceback.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ..connection import Connection
from ..custody import leaving
from ..custody.owner import Owner
from ..errors import HandleClosedError
from ..handle.detached import Detached
from ..scope.holding import owned_nursery
from ..scope.scope import Scope
from ..support.texts import shown_address
from .connections import ServedConnection
from .fault import Fault, said
from .first_handle import first_handle_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..handle import Handle
    from ..transport.socket import SocketTransport
    from .connections import Connections
    from .introduction import Introduction
    from .limits import Limits

    Handler = Callable[[Connection], Awaitable[object]]

__all__ = ["Handling"]

_LOG = logging.getLogger("trionet.server")


class Handling:
    """Calls the handler for one connection after the other.

    Args:
        handler: The program's.
        scope: The server's: above the scopes of all connections.
        connections: Where each one is counted.
        limits: Bounds.
        introduction: What each one begins with.
    """

    __slots__ = (
        "_connections",
        "_first",
        "_handler",
        "_introduction",
        "_limits",
        "_name",
        "_opened_at",
        "_scope",
    )

    def __init__(
        self,
        handler: Handler,
        scope: Scope,
        connections: Connections,
        limits: Limits,
        introduction: Introduction,
    ) -> None:
        self._handler = disable_ki_protection(handler) if inspect.isfunction(handler) else handler
        self._first = first_handle_of(handler)
        if self._first is not None:
            disable_ki_protection(self._first.serve)
        self._name = getattr(handler, "__qualname__", "handler")
        self._opened_at = f"accept() for {self._name}"
        self._scope = scope
        self._connections = connections
        self._limits = limits
        self._introduction = introduction

    @enable_ki_protection
    def begin(self, transport: SocketTransport) -> None:
        """Count and own a new connection, and start its task. A step: from now on a drain finds it."""
        connections = self._connections
        connections.accepted += 1
        crowding = connections.crowding
        named_by_socket = crowding.counts and not self._introduction.names_clients
        if named_by_socket and crowding.is_full(transport.remote_address):
            connections.faults[Fault.CROWD] += 1
            transport.close()
            return
        parent = self._scope._owner
        owner = Owner(
            f"connection {connections.accepted}",
            parent=parent,
            drain_timeout=self._limits.drain_timeout,
            services=parent.services,
            of_connection=True,
        )
        served = ServedConnection(connections, owner, self._opened_at)
        capsule = Detached(transport, opened_at=self._opened_at, watcher=served)
        if self._first is None or self._introduction or owner.observer is not None:
            capsule._seat(owner)
            owner.register(capsule)
            begun: Handle | Detached = capsule
        else:
            begun = self._first.make(capsule)
            begun._seat(owner)
        connections.opened[owner] = served
        if named_by_socket:
            served.client = crowding.admit(transport.remote_address)
        if connections.draining:
            leaving.retire(owner, connections.grace)  # now: its handler may answer before the drain goes round again
        name = f"{self._name} {connections.accepted}"
        self._scope.nursery.start_soon(self._handle, begun, owner, served, name=name)

    @enable_ki_protection
    async def _handle(self, begun: Handle | Detached, owner: Owner, served: ServedConnection) -> None:
        """Serve one connection: its scope ends with the handler, and its failure ends here."""
        try:
            async with owned_nursery(owner, last_words=True):
                owner.show_later(Scope)
                first = self._first if owner.observer is None else None
                handle: Any = begun
                if isinstance(begun, Detached):
                    handle = await self._adopted(begun, owner, served, Connection if first is None else first.make)
                del begun
                if handle is not None:
                    conversation = self._call(handle) if first is None else first.serve(handle)
                    del handle  # as it is upgraded, nobody needs it any more
                    try:
                        await conversation
                    except HandleClosedError as exc:
                        if not served.draining:
                            raise
                        # That is how the handler noticed the drain, so the scope ends as if it had returned.
                        _LOG.debug("%s ended by the drain: %s", owner.name, exc)
        except Exception as exc:  # noqa: BLE001 - a handler's failure ends its own connection only, and is logged
            _record(exc, owner, served)
        except BaseExceptionGroup as group:
            failures, others = group.split(Exception)
            if failures is not None:
                _record(failures, owner, served)
            assert others is not None  # else it were an Exception
            raise others from None
        finally:
            served.handler_done()

    async def _adopted(
        self, capsule: Detached, owner: Owner, served: ServedConnection, make: Callable[[Detached], Handle]
    ) -> Handle | None:
        """The connection in its scope, introduced where that is wanted; None if that has failed."""
        scope: Scope = owner.public
        if self._introduction:
            return await self._introduction.carry_out(scope.adopt(capsule), make, served)
        return scope._adopt_as(capsule, make)

    def _call(self, connection: Connection) -> Awaitable[object]:
        """The user's code, in which Ctrl-C may strike: so it is marked, or goes through a function that is."""
        conversation = self._handler(connection)
        if not hasattr(conversation, "__await__"):
            raise TypeError(f"the handler must be an async function, but {self._handler!r} returned {conversation!r}")
        return conversation if inspect.isfunction(self._handler) else _unprotected(conversation)


@disable_ki_protection
async def _unprotected(conversation: Awaitable[object]) -> None:
    await conversation


def _record(exc: Exception, owner: Owner, served: ServedConnection) -> None:
    """Log with what a handler has ended; loudly only if that is the program's fault."""
    verdict = served.judge(exc)
    if verdict.fault is Fault.PROGRAM:
        _LOG.error("%s failed: %s", owner.name, said(verdict.error), exc_info=verdict.error)
    else:
        handle = getattr(verdict.error, "handle", None)
        served.say(
            verdict, owner.name if handle is None else f"{owner.name} with {shown_address(handle.remote_address)}"
        )
