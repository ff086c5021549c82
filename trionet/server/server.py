"""A running server, as a program sees it: its addresses, its connections, its figures, and the drain.

What it does stands in its parts: `accepting` takes connections from the listeners, `handling` gives each one its scope,
its task and the handler, `draining` brings all of them to their end. They share `connections`: which are open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..support.checks import check_seconds
from ..support.texts import amount
from .accepting import Accepting
from .connections import Connections
from .draining import Draining
from .fault import Fault
from .handling import Handling

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

    from ..custody.drain_report import DrainReport
    from ..scope.scope import Scope
    from .handling import Handler
    from .introduction import Introduction
    from .limits import Limits

__all__ = ["Server", "ServerStatistics"]


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Figures of one server since it began."""

    accepted: int
    """Connections accepted."""
    open: int
    """Connections whose handler has not ended yet, or whose endpoint is open, wherever it was moved to."""
    failed: int
    """Handlers that failed: by an error that is not the client's fault, or by leaving a request without a response."""
    accept_errors: int
    """Pauses in accepting because the system was exhausted."""
    peer_faults: Mapping[str, int]
    """How often clients did what they should not, by kind: ``reset``, ``left``, ``silent``, ``protocol``, ``limit``,
    ``handshake``, ``refused``, ``crowd``; 0 for what has not happened."""
    ends: Mapping[str, int] = field(default_factory=dict)
    """How many connections have ended, by the name of the `Reason` why their last handle ended."""


class Server:
    """A running server: what ``task_status.started`` gives.

    Attributes:
        listeners: The listening sockets.
        scope: The scope above the scopes of all its connections.
    """

    __slots__ = (
        "_accepting",
        "_connections",
        "_draining",
        "_limits",
        "_secure",
        "listeners",
        "scope",
    )

    def __init__(
        self,
        handler: Handler,
        listeners: Iterable[socket.socket],
        scope: Scope,
        limits: Limits,
        introduction: Introduction,
        *,
        backlog: int | None,
    ) -> None:
        self.listeners = tuple(listeners)
        self.scope = scope
        self._limits = limits
        self._secure = introduction.secure
        self._connections = connections = Connections(limits.max_connections, limits.max_connections_per_address)
        handling = Handling(handler, scope, connections, limits, introduction)
        self._accepting = Accepting(self.listeners, connections, handling, backlog)
        self._draining = Draining(connections, self._accepting)

    def _start(self) -> None:
        """Start to accept. Once, for `serve`. A step."""
        for listener in self.listeners:
            self.scope.start_soon(self._accepting.loop, listener, name=f"accept on {listener.getsockname()}")

    def __repr__(self) -> str:
        where = ", ".join(str(address) for address in self.addresses) or "closed"
        return f"<Server {where}: {amount(len(self._connections.opened), 'connection')}>"

    @property
    def addresses(self) -> tuple[Any, ...]:
        """Where the server listens; empty once it drains."""
        return tuple(listener.getsockname() for listener in self.listeners if listener.fileno() >= 0)

    @property
    def secure(self) -> bool:
        """Whether clients speak TLS."""
        return self._secure

    @property
    def port(self) -> int:
        """The TCP port.

        Raises:
            ValueError: the server listens on no TCP port (any more).
        """
        for address in self.addresses:
            if isinstance(address, tuple):
                return int(address[1])
        raise ValueError(f"{self!r} listens on no TCP port")

    @property
    def connections(self) -> tuple[Scope, ...]:
        """The scopes of the connections whose handlers have begun; `Scope.handles` are their handles."""
        return tuple(owner.public for owner in self._connections.opened if owner.public is not None)

    def statistics(self) -> ServerStatistics:
        """Figures since the server began. Never raises."""
        connections = self._connections
        return ServerStatistics(
            accepted=connections.accepted,
            open=len(connections.opened),
            failed=connections.faults[Fault.PROGRAM],
            accept_errors=self._accepting.errors,
            peer_faults={fault.value: connections.faults[fault] for fault in Fault if fault.peers},
            ends={reason.name: count for reason, count in connections.ends.items()},
        )

    @property
    def draining(self) -> bool:
        """Whether a drain has begun."""
        return self._connections.draining

    async def drain(self, timeout: float, *, idle_grace: float | None = None) -> DrainReport:
        """Stop accepting, answer what has arrived, let every handler come to its end, and cut off what is left.

        Clients that wait in the backlog are accepted first, above `Limits.max_connections` too. Every connection's
        ``scope.draining`` is set. A handler that is busy may finish and send its answer. One that waits for input gets
        what has arrived by now, once; else it is woken with `HandleClosedError`. Requests that have arrived, or begun
        to, are answered with ``Connection: close``, and so are those that come within `idle_grace`. A connection that
        was transferred elsewhere is waited for, and not told. After `timeout` seconds the rest is closed by force,
        wherever it is.

        Several tasks may drain: the shortest of their deadlines counts. A handler of this server may, or a task of its:
        it does not wait for its own connection, nor for those whose handlers drain too, and cuts none of them off. They
        end when their handlers do.

        Args:
            timeout: Seconds, at least 0; ``math.inf`` waits for ever. 0 cuts everything off at once.
            idle_grace: Seconds for which a connection between two requests is kept for a next one, which its client may
                have sent before it learns of the drain (RFC 9112 §9.5); at most half of `timeout`. By default that of
                `Limits`.

        Returns:
            How many connections came to their end; what was forced: endpoints, also of connections that were
            transferred elsewhere, and handlers that had to be cancelled without having one; and what had arrived
            without having been received.

        Raises:
            ValueError, TypeError: a number of seconds is less than 0, or no number.
            RuntimeError: it is called in another Trio run than the server's; nothing has changed.

        Cancellation: what is left is closed by force.
        """
        self.scope._owner.check_run("drain")
        check_seconds("timeout", timeout)
        grace = self._limits.idle_grace if idle_grace is None else check_seconds("idle_grace", idle_grace)
        return await self._draining.drain(timeout, grace)
