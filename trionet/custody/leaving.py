"""How a scope lets go of its handles: gracefully together, by force what is left.

The order in which a scope is left is a promise: the body ends and its tasks end (`trionet.scope` sees to that); then
the door shuts, so that nothing new can be opened; then every handle begins its graceful close in one step, last in
first out, and those that have to wait for something drain side by side under one deadline. What has drained is
released last in first out, and so is, by force, what has not. At last all endpoints that can only be released by
waiting are waited for: then nothing of the scope is open.

Three things make it longer than it seems. A handle may turn into another one while it drains, by a handshake that was
under way: so after each drain the members are looked at again. A member may fail (`member.ask`): it must not keep the
others open. And leaving may itself be cancelled: then the rest is closed by force at once, in a step, since a task that
is cancelled cannot wait any more.

Rejected: a deadline for each handle, which would add up to an end that nobody has asked for; and closing one after the
other, where a peer that does not answer a goodbye would take the time of all others.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import one_of
from ..ownership import Event, Reason
from .drain_report import Forced
from .member import ask

if TYPE_CHECKING:
    from ..ownership import Blocker
    from .member import Member
    from .owner import Owner

__all__ = ["abort_all", "leave", "let_go", "let_go_of_nothing", "retire"]

_LOG = logging.getLogger("trionet")
_NO_BLOCKERS: Final[tuple[Blocker, ...]] = ()


@enable_ki_protection
def let_go_of_nothing(owner: Owner) -> bool:
    """The scope's end if nothing is left in it, as mostly where a connection was closed by its own loop. A step.

    Returns:
        Whether it has ended; else it is for `let_go`.
    """
    if not owner.is_empty or owner.has_unreleased:
        return False
    owner.shut_door()
    owner.end()
    return True


@enable_ki_protection
async def let_go(owner: Owner, error: BaseException | None = None, *, last_words: bool = False) -> None:
    """The scope's end: `leave`, or force if it ended with `error`; then wait until no endpoint is open any more.

    With `last_words`, handles that can tell their peer of an error do so, within the drain deadline.

    Cancellation: as for `leave`.
    """
    try:
        if error is None:
            if owner.is_empty:
                owner.shut_door()
            else:
                await leave(owner)
            return
        if last_words and isinstance(error, Exception):
            for member in owner.members:
                ask(member, lambda: member._handler_failed(error), None)  # noqa: B023 - called at once
            await leave(owner)
        abort_all(owner)
    except BaseException:
        abort_all(owner)
        raise
    finally:
        if owner.has_unreleased:
            await owner.finish_releases()  # noqa: ASYNC102 - shielded in there
        owner.end()


@enable_ki_protection
async def leave(owner: Owner) -> None:
    """Shut the door and let go of every handle: gracefully until the deadline, by force afterwards.

    Cancellation: what is left is closed by force, with the reason `SCOPE_CANCELLED`.
    """
    began = trio.current_time()
    owner.shut_door()
    try:
        if waiting := _start_drain(owner):
            with trio.move_on_after(owner.drain_timeout):
                await _drain_together(owner, waiting)
        _release_drained(owner)
        abort_all(owner, Event.SCOPE_DEADLINE)
    except BaseException:
        abort_all(owner)
        raise
    finally:
        owner.report = replace(owner.report, seconds=trio.current_time() - began)


# --- by force ----------------------------------------------------------------------------------------------------


@enable_ki_protection
def abort_all(owner: Owner, event: Event = Event.SCOPE_CANCELLED) -> None:
    """Close every endpoint now, last in first out, and report it. A step."""
    owner.check_run("closing a scope")
    owner.shut_door()
    forced = [_force(owner, member, event) for member in reversed(owner.members)]
    owner.report = replace(owner.report, forced=(*owner.report.forced, *forced))


@enable_ki_protection
def _force(owner: Owner, member: Member, event: Event) -> Forced:
    """Close this endpoint now. A member that fails to do so is logged: it must not keep the others open."""
    name = ask(member, member.__repr__, object.__repr__(member))
    blockers = ask(member, lambda: member.blockers, _NO_BLOCKERS)
    ask(member, lambda: member._scope_event(event), None)
    if member.end is None:
        ask(member, member.abort, None)
    owner.unregister(member)
    reason = Reason.SCOPE_CANCELLED if member.end is None else member.end.reason
    return Forced(name, member.opened_at, reason, blockers)


# --- gracefully --------------------------------------------------------------------------------------------------


@enable_ki_protection
def retire(owner: Owner, grace: float) -> None:
    """The server drains: every handle, also of the scopes below, closes as soon as its user waits for input. A step.

    One that waits for a next request does so for `grace` seconds more; a second call looks whether they are over.
    """
    owner.check_run("draining")
    for each in owner.tree():
        each.begin_draining()
        for member in each.members:
            ask(member, lambda: member._retire(grace), None)  # noqa: B023 - called at once


@enable_ki_protection
def _start_drain(owner: Owner) -> list[Member]:
    """Begin the graceful close of every handle, last in first out: those that have to wait for something."""
    members = owner.members[::-1]
    for member in members:
        ask(member, lambda: member._scope_event(Event.SCOPE_LEFT), None)  # noqa: B023 - called at once
    return [member for member in members if ask(member, lambda: member._must_wait, False)]  # noqa: B023


@enable_ki_protection
async def _drain_together(owner: Owner, waiting: list[Member]) -> None:
    """Drain these members, and those that they turn into: a handshake may be accepted meanwhile."""
    try:
        async with trio.open_nursery() as nursery:
            _drain_in(nursery, owner, waiting, set())
    except BaseExceptionGroup as group:
        raise one_of(group) from None


@enable_ki_protection
def _drain_in(nursery: trio.Nursery, owner: Owner, members: list[Member], begun: set[Member]) -> None:
    """Start to drain those of `members` that are not among the `begun`. A step."""
    for member in members:
        if member not in begun:
            begun.add(member)
            nursery.start_soon(_drain_one, nursery, owner, member, begun)


@enable_ki_protection
async def _drain_one(nursery: trio.Nursery, owner: Owner, member: Member, begun: set[Member]) -> None:
    try:
        await member._drain()
    except Exception:  # noqa: BLE001 - a protocol of a user's own; it is closed by force, the others drain on
        _LOG.exception("draining %r failed", member)
    _drain_in(nursery, owner, _start_drain(owner), begun)


@enable_ki_protection
def _release_drained(owner: Owner) -> None:
    """Release what has drained, last in first out."""
    ready = [member for member in reversed(owner.members) if ask(member, lambda: member._drained, False)]  # noqa: B023
    for member in ready:
        ask(member, lambda: member._scope_event(Event.DRAINED), None)  # noqa: B023
    owner.report = replace(owner.report, drained=owner.report.drained + len(ready))
