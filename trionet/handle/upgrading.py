"""Upgrades: a connection becomes something else, in one atomic change of hands.

The problem: a handshake takes time and may fail at any byte, and at no moment may two handles use the connection, or
none own it. So an upgrade has one point of no return, and everything before it can be told apart by one question.

1. *Claim*, a step: the machine refuses unless nothing is in progress, and the recipe checks its own arguments. From
   here on the handle is CLAIMED: every other use of it is refused, and only the recipe's `Wire` moves bytes.
2. *Handshake*: the recipe talks. The wire keeps account of what it received and whether it has sent anything.
3. *Commit*, a step: the recipe makes the successor, the old handle is MOVED, the successor has its place in the scope.
   Nothing is between the two, no checkpoint and no `KeyboardInterrupt`, and nothing after it can be cancelled.

What ends the handshake in another way is undone if that is possible, else it ends the handle. As long as no byte was
sent the peer knows nothing: the received bytes are unread again, and the handle is OPEN. A peer that declines leaves
the old protocol intact (`UpgradeRefusedError`): OPEN too, and only the rest is unread. Everything else is CLOSED. A
close by somebody else in the meantime has changed the phase already: then the handshake's own end changes nothing.

Rejected: to give the recipe the old handle to talk with (its guards would have to let one task through, and a recipe
that keeps it would own the connection for good); and to shield the handshake from cancellation (a silent peer would
hold the task for ever).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

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
from ..ownership import Event, Phase, Refuse
from . import guards
from .inner import InnerHandle
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .recipe import Recipe

__all__ = ["upgrade"]

Successor = TypeVar("Successor", bound=InnerHandle)


@enable_ki_protection
async def upgrade(handle: InnerHandle, recipe: Recipe[Successor], event: Event, source: Any) -> Successor:
    """See `Handle.upgrade`. `source` is what the recipe is shown: the handle, or the exchange whose lease asks."""
    await trio.lowlevel.checkpoint_if_cancelled()
    if isinstance(refuse := handle._life.decide(event), Refuse):
        raise handle._refusal(refuse, event)
    _check_recipe(recipe)
    _prepare(handle, recipe, source, event)
    handle._take(event)
    handle._wire = wire = Wire(handle._transport, handle._unread(), handle.opened_at)
    try:
        _still_claimed(handle)
        await _shake_hands(handle, recipe, wire)
        return _commit(handle, recipe, wire)
    except BaseException as exc:
        _ended(handle, exc, wire)
        raise
    finally:
        handle._wire = None
        wire._end()


@enable_ki_protection
def _prepare(handle: InnerHandle, recipe: Recipe[Any], source: Any, event: Event) -> None:
    """The recipe's own checks. What they raise changes nothing, except that injected bytes end the handle. A step.

    They would be read, and a command among them carried out, by whoever catches the error and goes on.
    """
    try:
        recipe.prepare(source)
    except PlaintextInjectionError as exc:
        handle._take(event)
        _injected(handle, exc)
        raise


def _injected(handle: InnerHandle, exc: PlaintextInjectionError) -> None:
    handle._failure = unraised(exc)
    handle._take(Event.INJECTED)


@enable_ki_protection
async def _shake_hands(handle: InnerHandle, recipe: Recipe[Any], wire: Wire) -> None:
    with wire.scope as scope:
        await _conversation(recipe, wire)
    if scope.cancelled_caught:
        _still_claimed(handle)
        raise _too_late(wire)
    if not wire._waited:
        await trio.lowlevel.checkpoint()
    _still_claimed(handle)


@enable_ki_protection
def _commit(handle: InnerHandle, recipe: Recipe[Successor], wire: Wire) -> Successor:
    """The old handle ends and the successor begins, with nothing between. A step."""
    successor = recipe.commit()
    _check_successor(successor, wire)
    successor._watcher = handle._watcher
    successor.opened_at = handle.opened_at
    handle._next = (successor, handle._owner)
    handle._take(Event.ACCEPTED)
    wire._end(successor)
    if handle._life.retiring:
        successor._retire(handle._life.grace)
    return successor


def _still_claimed(handle: InnerHandle) -> None:
    if handle._life.state.phase is not Phase.CLAIMED:
        raise handle._closed_error(f"upgrade interrupted: {handle!r}")


@enable_ki_protection
def _ended(handle: InnerHandle, exc: BaseException, wire: Wire) -> None:
    """The handshake did not lead to a successor: raise what that means, or return for `exc` to go on. A step."""
    peers = _is_peers(exc, wire)
    if peers and isinstance(exc, TrionetError):
        exc.handle = handle
    if handle._life.state.phase is not Phase.CLAIMED:
        if isinstance(exc, Exception) and not isinstance(exc, HandleClosedError):
            raise handle._closed_error(f"upgrade interrupted: {handle!r}") from exc
        return
    if isinstance(exc, UpgradeRefusedError):
        handle._take(Event.REFUSED)
        return
    if isinstance(exc, PlaintextInjectionError):
        _injected(handle, exc)
        return
    _undo_or_close(handle, exc, wire)
    if isinstance(exc, trio.BrokenResourceError) and not isinstance(exc, UpgradeFailedError):
        failed = UpgradeFailedError(f"upgrade failed: {handle!r}: {exc}")
        raise (failed.with_handle(handle) if peers else failed) from exc


def _undo_or_close(handle: InnerHandle, exc: BaseException, wire: Wire) -> None:
    if wire.sent:
        handle._failure = unraised(exc)
        handle._take(Event.FAILED)
        return
    handle._take(Event.RESTORED)
    if wire.failure is not None:
        guards.peer_reset(handle, wire.failure)


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


# --- what a recipe of a program's own may do wrong --------------------------------------------------------------


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
    made = wire._is_origin_of(successor)
    if not made or successor._owner is not None or successor._transport is not wire.transport:
        raise TypeError(f"Recipe.commit must return a new handle, made from wire.detach(), not {successor!r}")
