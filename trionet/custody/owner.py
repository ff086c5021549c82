"""Who owns what: the registry of one scope's handles, and how the scope lets go of them.

An `Owner` is the part of a scope that protocols need to know; `trionet.scope` puts the public face on it. It keeps the
handles in the order in which they were opened (a successor takes its predecessor's place), drains them together under
one deadline, releases them last in first out, and reports what had to be forced.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import ScopeClosedError, one_of
from ..ownership import Blocker, End, Event, Phase, Reason
from ..support.checks import check_kind, check_seconds, refuse_copy
from ..support.texts import amount
from .background import start_service
from .caretaker import Caretaker
from .drain_report import DrainReport, Forced, Lost

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..transport.protocol import Transport

__all__ = ["Member", "Observer", "Owner", "opened_at"]


_LOG = logging.getLogger("trionet")

T = TypeVar("T")


class Member(Protocol):
    """What an owner owns: a handle, or a capsule that nobody has adopted yet."""

    opened_at: str

    @property
    def end(self) -> End | None:
        """How it ended; None while it is alive."""
        ...

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """The work in progress on it."""
        ...

    @property
    def _must_wait(self) -> bool:
        """Whether a graceful close has to wait for anything."""
        ...

    @property
    def _drained(self) -> bool:
        """Whether nothing but the release is left of a graceful close."""
        ...

    def _scope_event(self, event: Event) -> None:
        """Take an event of the scope. A step; no-op on a member that has ended."""
        ...

    async def _drain(self) -> None:
        """Everything of a graceful close but the release."""
        ...

    def _retire(self, grace: float = 0.0) -> None:
        """Close gracefully as soon as the user waits for input; a next request may come for `grace` seconds. A step."""
        ...

    def abort(self) -> None:
        """Close the endpoint now. A step."""
        ...

    def _forget_work(self) -> None:
        """It has ended, and so has the handler that used this: keep nothing that refers back to it. A step."""
        ...

    def _handler_failed(self, error: BaseException) -> None:
        """The handler that used this has raised: close, in the protocol's way of saying so where it has one. A step."""
        ...


Observer = Callable[[Any, Phase | None, Phase], None]
"""Called when a handle opens or changes its phase, in the same step: the handle, the old phase or None, the new one."""


_NOTHING_YET: Final = DrainReport()
_NO_BLOCKERS: Final[tuple[Blocker, ...]] = ()


class Owner:
    """The handles of one scope. All methods are steps, except `leave` and `let_go`.

    There is one for each connection of a server: what most of them never need is made when it is first needed.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "_draining",
        "_face",
        "_members",
        "_serial",
        "_unreleased",
        "caretaker",
        "closed",
        "drain_timeout",
        "drains",
        "name",
        "nursery",
        "observer",
        "of_connection",
        "parent",
        "report",
        "run",
        "services",
        "shut",
    )

    def __init__(
        self,
        name: str = "",
        *,
        parent: Owner | None = None,
        drain_timeout: float = 5.0,
        services: trio.Nursery,
        observer: Observer | None = None,
        of_connection: bool = False,
    ) -> None:
        self.name = check_kind("name", name, str, "a str")
        self.parent = parent
        self.drain_timeout = check_seconds("drain_timeout", drain_timeout, off="math.inf: waits for ever")
        self.services = services
        self.of_connection = of_connection
        """Whether the scope is there for one served connection, so that it ends when that is over."""
        self.observer: Observer | None = observer if observer is not None or parent is None else parent.observer
        self.nursery: trio.Nursery | None = None
        """The tasks of the scope, where it has any."""
        self._face: Any = None
        self.drains = False
        self._draining: trio.Event | None = None
        self.report = _NOTHING_YET
        self.shut = False
        self.closed = False
        self._members: dict[Member, int] = {}
        self._serial = 0
        self._unreleased: set[Transport] | None = None
        self._children: dict[Owner, None] | None = None
        self.run: trio.lowlevel.TrioToken = trio.lowlevel.current_trio_token() if parent is None else parent.run
        """The Trio run that everything here belongs to."""
        self.caretaker: Caretaker = Caretaker(services) if parent is None else parent.caretaker
        if parent is not None:
            if parent._children is None:
                parent._children = {}
            parent._children[self] = None

    __reduce_ex__ = refuse_copy

    def __repr__(self) -> str:
        state = "closed" if self.closed else "closing" if self.shut else "open"
        return f"<Owner {self.name or hex(id(self))}: {state}, {amount(len(self._members), 'handle')}>"

    @property
    def public(self) -> Any:
        """The `Scope` that users see, None before there is one."""
        face = self._face
        if not isinstance(face, tuple):
            return face
        kept, kind = face
        return kept() or kind(self)

    def show_as(self, face: Any) -> None:
        """`face` is the `Scope` that users see from now on.

        Once this owner is closed it is kept by them alone, and else made anew: two objects that keep each other alive
        would make a cycle of garbage of every connection of a server.
        """
        self._face = (weakref.ref(face), type(face)) if self.closed else face

    @property
    def draining(self) -> trio.Event:
        """Set when the scope begins to let go of its handles, or its server begins to drain."""
        if self._draining is None:
            self._draining = trio.Event()
            if self.drains:
                self._draining.set()
        return self._draining

    @enable_ki_protection
    def begin_draining(self) -> None:
        """Set `draining`."""
        self.drains = True
        if self._draining is not None:
            self._draining.set()

    @property
    def members(self) -> tuple[Member, ...]:
        """What is owned, in the order of opening."""
        return tuple(sorted(self._members, key=self._members.__getitem__))

    def check_run(self, what: object) -> None:
        """Raise unless this is called in the scope's own Trio run: another thread must not change anything here.

        Raises:
            RuntimeError: it is called in another thread, or after the run has ended.
        """
        try:
            if trio.lowlevel.current_trio_token() is self.run:
                return
        except RuntimeError:
            pass
        name = what.value if isinstance(what, Event) else what
        raise RuntimeError(
            f"{name} refused: it was called outside of the Trio run that owns the connection, such as in another "
            f"thread; nothing has changed. Call it from there with trio.from_thread.run_sync(..., trio_token=...)"
        ) from None

    def check_open(self, what: str) -> None:
        """Raise `ScopeClosedError` if nothing new may be opened here, and what `check_run` raises."""
        self.check_run(what)
        if self.shut:
            state = "closed" if self.closed else "closing"
            raise ScopeClosedError(
                f"{what} refused: scope {self.name or '(unnamed)'} is {state}; "
                f"open it in a scope that goes on, or before this one is left"
            )

    @enable_ki_protection
    def register(self, member: Any, instead_of: Any = None) -> None:
        """Own this `Member` from now on; in the place of `instead_of`, if that is given and owned here."""
        serial = self._members.pop(instead_of, None) if instead_of is not None else None
        if serial is None:
            self._serial = serial = self._serial + 1
        self._members[member] = serial

    @enable_ki_protection
    def unregister(self, member: Any) -> None:
        """Let go of `member`, if it is owned here."""
        self._members.pop(member, None)

    @enable_ki_protection
    def release(self, transport: Transport, of: object) -> Exception | None:
        """Close the endpoint of `of` now, or by a service task where that takes waiting. A step, which never raises.

        Returns:
            What went wrong; it is logged. The endpoint is closed all the same, as well as it can be.
        """
        try:
            if not transport.close():
                self.release_later(transport)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the step that is under way has to be finished
            _LOG.exception("closing the endpoint of %r failed", of)
            return exc
        return None

    @enable_ki_protection
    def release_later(self, transport: Transport) -> None:
        """A transport that can only be released asynchronously: a service task does it."""
        if self._unreleased is None:
            self._unreleased = set()
        self._unreleased.add(transport)
        self.start_service(self._release, transport)

    async def _release(self, transport: Transport) -> None:
        with trio.CancelScope(shield=True):
            try:
                await transport.aclose()
            except Exception:  # noqa: BLE001 - a foreign stream that fails to close is closed as well as it can be
                pass
            finally:
                assert self._unreleased is not None
                self._unreleased.discard(transport)

    def start_service(self, service: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run `service` until the scope has let go of its handles. It must not raise."""
        start_service(self.services, service, *args)

    @enable_ki_protection
    def observe(self, handle: Any, before: Phase | None, after: Phase) -> None:
        """Tell the observer. One that raises is logged and asked no more, as Trio does it with its instruments."""
        if self.observer is not None:
            try:
                self.observer(handle, before, after)
            except Exception:  # noqa: BLE001 - whatever it is, the step that is under way has to be finished
                self.observer = None
                _LOG.exception("the observer of %r raised, and has been switched off", self)

    @enable_ki_protection
    def shut_door(self) -> None:
        """From now on nothing can be opened here."""
        self.shut = True
        self.begin_draining()

    def tree(self) -> list[Owner]:
        """This owner and all that are open below it, outermost first."""
        return [self, *(owner for child in self._children or () for owner in child.tree())]

    @enable_ki_protection
    def retire(self, grace: float) -> None:
        """The server drains: every handle, also of the scopes below, closes as soon as its user waits for input.

        One that waits for a next request does so for `grace` seconds more; a second call looks whether they are over.
        """
        self.check_run("draining")
        for owner in self.tree():
            owner.begin_draining()
            for member in owner.members:
                _ask(member, lambda: member._retire(grace), None)  # noqa: B023 - called at once

    @enable_ki_protection
    def abort_all(self, event: Event = Event.SCOPE_CANCELLED) -> None:
        """Close every endpoint now, last in first out, and report it."""
        self.check_run("closing a scope")
        self.shut_door()
        forced = [self._force(member, event) for member in reversed(self.members)]
        self.report = replace(self.report, forced=(*self.report.forced, *forced))

    @enable_ki_protection
    def note_force(self, member: Any, blockers: tuple[Blocker, ...]) -> None:
        """This member was closed by force, at a deadline of its own, while so much was in progress on it."""
        name = _ask(member, member.__repr__, object.__repr__(member))
        entry = Forced(name, member.opened_at, member.end.reason, blockers)
        self.report = replace(self.report, forced=(*self.report.forced, entry))

    @enable_ki_protection
    def note_loss(self, member: Any, size: Callable[[], int]) -> None:
        """This member is being closed; `size` tells how many bytes have arrived that nobody has received."""
        if unread := _ask(member, size, 0):
            name = _ask(member, member.__repr__, object.__repr__(member))
            self.report = replace(self.report, lost=(*self.report.lost, Lost(name, member.opened_at, unread)))

    @enable_ki_protection
    def _force(self, member: Member, event: Event) -> Forced:
        """Close this endpoint now. A member that fails to do so is logged: it must not keep the others open."""
        name = _ask(member, member.__repr__, object.__repr__(member))
        blockers = _ask(member, lambda: member.blockers, _NO_BLOCKERS)
        _ask(member, lambda: member._scope_event(event), None)
        if member.end is None:
            _ask(member, member.abort, None)
        self.unregister(member)
        reason = Reason.SCOPE_CANCELLED if member.end is None else member.end.reason
        return Forced(name, member.opened_at, reason, blockers)

    @enable_ki_protection
    async def leave(self) -> None:
        """Shut the door and let go of every handle: gracefully until the deadline, by force afterwards.

        Cancellation: what is left is closed by force, with the reason `SCOPE_CANCELLED`.
        """
        began = trio.current_time()
        self.shut_door()
        try:
            if waiting := self._start_drain():
                with trio.move_on_after(self.drain_timeout):
                    await self._drain_together(waiting)
            self._release_drained()
            self.abort_all(Event.SCOPE_DEADLINE)
        except BaseException:
            self.abort_all()
            raise
        finally:
            self.report = replace(self.report, seconds=trio.current_time() - began)

    @enable_ki_protection
    async def _drain_together(self, waiting: list[Member]) -> None:
        """Drain these members, and those that they turn into: a handshake may be accepted meanwhile."""
        try:
            async with trio.open_nursery() as nursery:
                self._drain_in(nursery, waiting, set())
        except BaseExceptionGroup as group:
            raise one_of(group) from None

    @enable_ki_protection
    def _drain_in(self, nursery: trio.Nursery, members: list[Member], begun: set[Member]) -> None:
        """Start to drain those of `members` that are not among the `begun`. A step."""
        for member in members:
            if member not in begun:
                begun.add(member)
                nursery.start_soon(self._drain_one, member, nursery, begun)

    @enable_ki_protection
    async def _drain_one(self, member: Member, nursery: trio.Nursery, begun: set[Member]) -> None:
        try:
            await member._drain()
        except Exception:  # noqa: BLE001 - a protocol of a user's own; it is closed by force, the others drain on
            _LOG.exception("draining %r failed", member)
        self._drain_in(nursery, self._start_drain(), begun)

    @enable_ki_protection
    def _start_drain(self) -> list[Member]:
        """Begin the graceful close of every handle, last in first out: those that have to wait for something."""
        members = self.members[::-1]
        for member in members:
            _ask(member, lambda: member._scope_event(Event.SCOPE_LEFT), None)  # noqa: B023 - called at once
        return [member for member in members if _ask(member, lambda: member._must_wait, False)]  # noqa: B023

    @enable_ki_protection
    def _release_drained(self) -> None:
        """Release what has drained, last in first out."""
        ready = [member for member in reversed(self.members) if _ask(member, lambda: member._drained, False)]  # noqa: B023
        for member in ready:
            _ask(member, lambda: member._scope_event(Event.DRAINED), None)  # noqa: B023
        self.report = replace(self.report, drained=self.report.drained + len(ready))

    @enable_ki_protection
    async def let_go(self, error: BaseException | None = None, *, last_words: bool = False) -> None:
        """The scope's end: `leave`, or force if it ended with `error`; then wait until no endpoint is open any more.

        With `last_words`, handles that can tell their peer of an error do so, within the drain deadline.

        Cancellation: as for `leave`.
        """
        try:
            if error is None:
                if self._members:
                    await self.leave()
                else:
                    self.shut_door()
                return
            if last_words and isinstance(error, Exception):
                for member in self.members:
                    _ask(member, lambda: member._handler_failed(error), None)  # noqa: B023 - called at once
                await self.leave()
            self.abort_all()
        except BaseException:
            self.abort_all()
            raise
        finally:
            if self._unreleased:
                await self._finish_releases()  # noqa: ASYNC102 - shielded in there
            self.closed = True
            if self.public is not None:
                self.show_as(self.public)
            if self.parent is not None and self.parent._children is not None:
                self.parent._children.pop(self, None)

    async def _finish_releases(self) -> None:
        """Wait until no endpoint of this scope is open any more."""
        assert self._unreleased is not None
        with trio.CancelScope(shield=True):
            for transport in tuple(self._unreleased):
                await self._release(transport)


def _ask(member: Member, question: Callable[[], T], otherwise: T) -> T:
    """What a member answers, or `otherwise` where it raises: its failure is logged, and ends nothing but itself."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - a protocol of a user's own may raise anything
        _LOG.exception("%s failed to end as its scope wants it", object.__repr__(member))
        return otherwise


_HERE = __name__.partition(".")[0] + "."


def opened_at() -> str:
    """File, line and function of the nearest caller outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_globals.get("__name__", "") + ".").startswith(_HERE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
