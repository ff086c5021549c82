"""Changes of the owner: detach, transfer, upgrade. Each is all or nothing, and commits in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from ..custody.owner import Owner
from ..errors import (
    HandleClosedError,
    LimitExceededError,
    PlaintextInjectionError,
    RemoteProtocolError,
    TrionetError,
    UpgradeFailedError,
    UpgradeRefusedError,
    unraised,
)
from ..ownership import Event, Ownership, Phase, Refuse
from .core import attributes
from .operations import Operations
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .detached import Detached
    from .recipe import Recipe

__all__ = ["Changes"]

Successor = TypeVar("Successor", bound=Operations)


class Changes(Operations):
    """The verbs by which a connection gets another handle."""

    __slots__ = ()

    @enable_ki_protection
    def detach(self) -> Detached:
        """Take the connection out of the handle, all or nothing. A step.

        Returns:
            The capsule; adopt it once with `Scope.adopt`. Until then the scope of this handle owns it.

        Raises:
            HandleBusyError: an operation or a lease is in progress; nothing has changed, `blockers` names it.
            HandleBrokenError: a send was abandoned half-way, or the connection failed.
            HandleMovedError, HandleClosedError: the handle has ended.

        The handle is MOVED (`DETACHED`) afterwards.
        """
        self._take(Event.DETACH)
        assert self._end is not None
        capsule: Detached = self._end.successor
        return capsule

    @enable_ki_protection
    async def detach_when_idle(self) -> Detached:
        """Shut the door to new work, wait until the work in progress has ended, then detach.

        Raises:
            HandleBusyError: another task waits to detach or upgrades the handle; or the task that asks is itself in the
                exchange that it would wait for. Nothing has changed.
            HandleBrokenError: a send was abandoned half-way, before or while waiting.
            HandleMovedError, HandleClosedError: the handle has ended, or was closed while waiting.

        The handle is MOVED (`DETACHED`) afterwards.

        Cancellation: before the commit the handle is OPEN again, as if nothing had been asked.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if isinstance(refuse := self._life.decide(Event.RESERVE), Refuse):
            raise self._refusal(refuse, Event.RESERVE)
        if self._waits_for_asker():
            raise self._self_wait_error(Event.RESERVE)
        self._quiet = quiet = trio.Event()
        self._take(Event.RESERVE)
        try:
            await quiet.wait()
        except BaseException:
            self._take(Event.RESERVE_CANCELLED)
            raise
        finally:
            if self._quiet is quiet:
                self._quiet = None
        what = f"{Event.RESERVE.value} refused: {self!r}"
        if self._life.phase is Phase.CLAIMED:
            self._take(Event.DETACH_CLAIMED)
            assert self._end is not None
            capsule: Detached = self._end.successor
            return capsule
        if self._life.phase is Phase.OPEN:
            raise self._broken_error(what)
        raise self._closed_error(f"{what}: it was closed while a task waited to detach it")

    @enable_ki_protection
    def transfer(self, scope: Any) -> Self:
        """Move the connection to another scope: the only way for it to outlive this one. A step.

        Args:
            scope: The `Scope` that owns it from now on; it must be open.

        Returns:
            A new handle of the same kind, owned by `scope`.

        Raises:
            ScopeClosedError: the target is closing or closed; nothing has changed.
            HandleBusyError, HandleBrokenError, HandleMovedError, HandleClosedError: as for `detach`.

        The handle is MOVED (`TRANSFERRED`) afterwards.
        """
        target = getattr(scope, "owner", None)
        if not isinstance(target, Owner):
            raise TypeError(f"transfer needs a trionet scope (of open_scope), not {scope!r}")
        target.check_run("transfer")
        target.check_open("transfer")
        if isinstance(refuse := self._life.decide(Event.TRANSFER), Refuse):
            raise self._refusal(refuse, Event.TRANSFER)
        successor = self._twin()
        self._next = (successor, target)
        self._take(Event.TRANSFER)
        return successor

    def _twin(self) -> Self:
        """A new handle with everything that belongs to the connection."""
        twin = object.__new__(type(self))
        for name, value in attributes(self).items():
            if name not in self._OWN:
                object.__setattr__(twin, name, value)
        twin._life = Ownership(self._life.receive, self._life.send)
        twin._life.retiring, twin._life.grace = self._life.retiring, self._life.grace
        twin._life.looked = self._life.looked
        twin._renew()
        return twin

    @enable_ki_protection
    async def upgrade(self, recipe: Recipe[Successor]) -> Successor:
        """Make the connection something else, in one atomic change of hands.

        Args:
            recipe: How, for instance `to_tls_client` or `to_websocket_server`; used once.

        Returns:
            The successor, OPEN, in the same scope.

        Raises:
            HandleBusyError: an operation or a lease is in progress; nothing has changed.
            UpgradeRefusedError: the peer declined; the handle is OPEN again, the old protocol intact.
            UpgradeFailedError: the handshake failed. If a byte had been sent the handle is CLOSED (`UPGRADE_FAILED`);
                else it is OPEN and what the handshake had received is unread again.
            PlaintextInjectionError: the handle is CLOSED (`UPGRADE_FAILED`) in any case, the bytes are dropped.
            HandleBrokenError, HandleMovedError, HandleClosedError: as for `detach`; an upgrade needs both directions.

        The handle is MOVED (`UPGRADED`) afterwards.

        Cancellation: as for a failed handshake. Once the successor exists there is no checkpoint any more.
        """
        return await self._upgrade(recipe, Event.UPGRADE, self)

    @enable_ki_protection
    async def _upgrade(self, recipe: Recipe[Successor], event: Event, source: Any) -> Successor:
        await trio.lowlevel.checkpoint_if_cancelled()
        if isinstance(refuse := self._life.decide(event), Refuse):
            raise self._refusal(refuse, event)
        _check_recipe(recipe)
        self._prepare(recipe, source, event)
        self._take(event)
        self._wire = wire = Wire(self._transport, self._unread(), self.opened_at)
        try:
            self._still_claimed()
            with wire.scope as scope:
                await _conversation(recipe, wire)
            if scope.cancelled_caught:
                self._still_claimed()
                raise _too_late(wire)
            if not wire.waited:
                await trio.lowlevel.checkpoint()
            self._still_claimed()
            return self._commit(recipe, wire)
        except BaseException as exc:
            self._upgrade_ended(exc, wire)
            raise
        finally:
            self._wire = None
            wire.end()

    @enable_ki_protection
    def _prepare(self, recipe: Recipe[Successor], source: Any, event: Event) -> None:
        """The recipe's own checks. What they raise changes nothing, except that injected bytes end the handle. A step.

        They would be read, and a command among them carried out, by whoever catches the error and goes on.
        """
        try:
            recipe.prepare(source)
        except PlaintextInjectionError as exc:
            self._take(event)
            self._injected(exc)
            raise

    def _injected(self, exc: PlaintextInjectionError) -> None:
        self._failure = unraised(exc)
        self._take(Event.INJECTED)

    @enable_ki_protection
    def _commit(self, recipe: Recipe[Successor], wire: Wire) -> Successor:
        """The old handle ends and the successor begins, with nothing between. A step."""
        successor = recipe.commit()
        _check_successor(successor, wire)
        successor._watcher = self._watcher
        successor.opened_at = self.opened_at
        self._next = (successor, self._owner)
        self._take(Event.ACCEPTED)
        wire.end(successor)
        if self._life.retiring:
            successor.retire(self._life.grace)
        return successor

    def _still_claimed(self) -> None:
        if self._life.phase is not Phase.CLAIMED:
            raise self._closed_error(f"upgrade interrupted: {self!r}")

    @enable_ki_protection
    def _upgrade_ended(self, exc: BaseException, wire: Wire) -> None:
        """The handshake did not lead to a successor: raise what that means, or return for `exc` to go on. A step."""
        peers = _is_peers(exc, wire)
        if peers and isinstance(exc, TrionetError):
            exc.handle = self
        if self._life.phase is not Phase.CLAIMED:
            if isinstance(exc, Exception) and not isinstance(exc, HandleClosedError):
                raise self._closed_error(f"upgrade interrupted: {self!r}") from exc
            return
        if isinstance(exc, UpgradeRefusedError):
            self._take(Event.REFUSED)
            return
        if isinstance(exc, PlaintextInjectionError):
            self._injected(exc)
            return
        if not wire.sent:
            self._take(Event.RESTORED)
            if wire.failure is not None:
                self._peer_reset(wire.failure)
        else:
            self._failure = unraised(exc)
            self._take(Event.FAILED)
        if isinstance(exc, trio.BrokenResourceError) and not isinstance(exc, UpgradeFailedError):
            failed = UpgradeFailedError(f"upgrade failed: {self!r}: {exc}")
            raise (failed.with_handle(self) if peers else failed) from exc


def _is_peers(exc: BaseException, wire: Wire) -> bool:
    """Whether a handshake failed by what the peer did, and not by what else the recipe has used or called."""
    if exc is wire.failure:
        return True
    if isinstance(exc, UpgradeFailedError):
        if isinstance(exc.__cause__, TrionetError | trio.BrokenResourceError):
            return _is_peers(exc.__cause__, wire)
        return not wire.scope.cancelled_caught or wire.time_limit is not None
    if isinstance(exc, UpgradeRefusedError | RemoteProtocolError | LimitExceededError):
        return exc.handle is None  # else it tells of another one
    return False


def _too_late(wire: Wire) -> UpgradeFailedError:
    if wire.time_limit is None:
        return UpgradeFailedError("the recipe cancelled the scope of its own handshake (Wire.scope)")
    what, seconds, argument = wire.time_limit
    hint = f" ({argument})" if argument else ""
    return _TooSlowError(f"{what} did not finish within {seconds:g} s{hint}")


class _TooSlowError(UpgradeFailedError, trio.TooSlowError):
    """A handshake that did not come to its end in time."""


def _check_recipe(recipe: Any) -> None:
    """Raise unless this is a recipe: a forgotten pair of parentheses is the usual mistake."""
    whole = hasattr(recipe, "prepare") and hasattr(recipe, "handshake") and hasattr(recipe, "commit")
    if whole and not isinstance(recipe, type):
        return
    missing = [name for name in ("prepare", "handshake", "commit") if not hasattr(recipe, name)]
    hint = "; call it" if callable(recipe) else ""
    if 0 < len(missing) < 3:
        hint = f", which has no method {missing[0]}{hint}"
    raise TypeError(f"upgrade needs a recipe, such as to_tls_client('host.example'), not {recipe!r}{hint}")


def _conversation(recipe: Recipe[Any], wire: Wire) -> Awaitable[None]:
    """What the recipe's handshake has to say, if that is an async function."""
    conversation = recipe.handshake(wire)
    if not hasattr(conversation, "__await__"):
        raise TypeError(f"Recipe.handshake must be an async function, but that of {recipe!r} returned {conversation!r}")
    return conversation


def _check_successor(successor: Any, wire: Wire) -> None:
    """Raise unless `successor` is a new handle on the connection of `wire`: else nobody would own that."""
    kind = isinstance(successor, Operations)
    if not kind or successor._owner is not None or successor._transport is not wire.transport:
        raise TypeError(f"Recipe.commit must return a new handle, made from wire.detach(), not {successor!r}")
