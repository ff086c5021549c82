"""Who owns what: the registry of one scope's handles.

An `Owner` is the part of a scope that protocols need to know; `trionet.scope` puts the public face on it. It keeps the
handles in the order in which they were opened (a successor takes its predecessor's place), and knows whether anything
may still be opened, and by whom. How it lets go of them stands in `leaving`; what that came to, in its `report`.
"""

from __future__ import annotations

import logging
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import ScopeClosedError
from ..ownership import Event
from ..support.checks import check_kind, check_seconds, refuse_copy
from ..support.texts import amount
from .background import start_service
from .caretaker import Caretaker
from .drain_report import DrainReport, Forced, Lost
from .member import Member, Observer, ask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..ownership import Blocker, Phase
    from ..transport.protocol import Transport

__all__ = ["Owner"]

_LOG = logging.getLogger("trionet")

_NOTHING_YET: Final = DrainReport()


def _nobody() -> None:
    """What a weak reference to nothing gives."""


class Owner:
    """The handles of one scope. All methods are steps, except `finish_releases`.

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
        """The `Scope` that users see, made when it is first asked for; None before `show_later`."""
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

    def show_later(self, kind: Callable[[Owner], Any]) -> None:
        """Users may see a scope from now on, which `kind` makes of this owner when one of them asks for it."""
        self._face = (_nobody, kind)

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
            f"thread; nothing has changed. From another thread, use trio.from_thread.run_sync(..., trio_token=...)"
        ) from None

    def check_open(self, what: str) -> None:
        """Raise `ScopeClosedError` if nothing new may be opened here, and what `check_run` raises."""
        self.check_run(what)
        if self.shut:
            state = "closed" if self.closed else "closing"
            raise ScopeClosedError(
                f"{what} refused: scope {self.name or '(unnamed)'} is {state}; "
                f"open it in a scope that stays open, or before this one is left"
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
    def note_force(self, member: Any, blockers: tuple[Blocker, ...]) -> None:
        """This member was closed by force, at a deadline of its own, while so much was in progress on it."""
        name = ask(member, member.__repr__, object.__repr__(member))
        entry = Forced(name, member.opened_at, member.end.reason, blockers)
        self.report = replace(self.report, forced=(*self.report.forced, entry))

    @enable_ki_protection
    def note_loss(self, member: Any, size: Callable[[], int]) -> None:
        """This member is being closed; `size` tells how many bytes have arrived that nobody has received."""
        if unread := ask(member, size, 0):
            name = ask(member, member.__repr__, object.__repr__(member))
            self.report = replace(self.report, lost=(*self.report.lost, Lost(name, member.opened_at, unread)))

    # --- for `leaving` -------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owned here."""
        return not self._members

    @property
    def has_unreleased(self) -> bool:
        """Whether an endpoint is still open that nobody owns any more."""
        return bool(self._unreleased)

    async def finish_releases(self) -> None:
        """Wait until no endpoint of this scope is open any more. It cannot be cancelled."""
        with trio.CancelScope(shield=True):
            for transport in tuple(self._unreleased or ()):
                await self._release(transport)

    @enable_ki_protection
    def end(self) -> None:
        """The scope is closed, and forgotten by the one above it."""
        self.closed = True
        if self._face is not None and not isinstance(self._face, tuple):
            self.show_as(self._face)
        if self.parent is not None and self.parent._children is not None:
            self.parent._children.pop(self, None)
