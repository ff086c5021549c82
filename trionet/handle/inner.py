"""What the functions of this room see of a handle.

`Handle` is one class whose verbs are short. What is hard about them stands in functions, one idea a module (`guards`,
`detaching`, `upgrading`, `closing`, `effects`, `refusals`), that take the handle. They are below it and cannot import
it, so they name here what they need of it. They always go by the handle, since protocol handles override some of its
methods. These may be overridden, by methods that call what they override:

* `_renew`, `_seat`, `_phase_changed`: the stations of its life
* `_unread`, `_set_unread`: where the protocol keeps its input
* `_parting`, `_goodbye`: what the protocol says at a graceful end
* `_retire`, `_stop_waiting`, `_handler_failed`, `_forget_work`, `_scope_event`: what its scope and its server ask
* `_waits_for_asker`, `_ended_by_peer`, `_closed_error`, `_broken_error`: what is said of it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import trio

    from ..custody.owner import Owner
    from ..errors import HandleBrokenError, HandleClosedError
    from ..ownership import Blocker, End, Event, Ownership, Phase, Refuse
    from ..transport.protocol import Transport
    from .detached import Watcher
    from .lease import Lease
    from .wire import Wire

__all__ = ["InnerHandle"]


class InnerHandle(Protocol):
    """A handle, as its own room sees it."""

    _OWN: frozenset[str]
    _clock: trio.abc.Clock
    _drained_by: Any
    _end: End | None
    _failure: BaseException | None
    _leases: tuple[Lease, ...]
    _leftover: bytearray
    _life: Ownership
    _next: tuple[InnerHandle, Owner] | None
    _owner: Owner
    _quiet: trio.Event | None
    _reader: Any
    _reader_lease: object
    _reader_since: float
    _torn: int | None
    _transport: Transport
    _watcher: Watcher | None
    _wire: Wire | None
    _writer: Any
    _writer_since: float
    opened_at: str

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """As `Handle.blockers`."""
        ...

    @property
    def phase(self) -> Phase:
        """As `Handle.phase`."""
        ...

    async def wait_ended(self) -> End:
        """As `Handle.wait_ended`."""
        ...

    async def aclose(self) -> None:
        """As `Handle.aclose`."""
        ...

    @property
    def _must_wait(self) -> bool: ...

    @property
    def _parting(self) -> bool: ...

    def _broken_error(self, what: str) -> HandleBrokenError: ...

    def _close_in_background(self) -> None: ...

    def _closed_error(self, what: str) -> HandleClosedError: ...

    async def _drain(self) -> None: ...

    async def _goodbye(self) -> None: ...

    def _lost_size(self) -> int: ...

    def _phase_changed(self, before: Phase) -> None: ...

    def _refusal(self, refuse: Refuse, event: Event) -> Exception: ...

    def _renew(self) -> None: ...

    def _retire(self, grace: float = 0.0) -> None: ...

    def _seat(self, owner: Owner, instead_of: Any = None) -> None: ...

    def _set_unread(self, data: bytes | bytearray) -> None: ...

    def _take(self, event: Event) -> None: ...

    def _unread(self) -> bytes: ...

    def _waits_for_asker(self) -> bool:
        """Whether nobody but the task that asks can end what is in progress, so that it would wait for itself.

        A handle knows that of its protocol's exchanges. A lease may have been handed to another task.
        """
        ...
