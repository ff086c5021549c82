"""Every exception of trionet, in one tree.

Each error also *is* the Trio class that fits it, so that code written for Trio's streams handles it without knowing
trionet. A message says what was refused, why, who holds the connection and what to do about it.

This module stands at the bottom of the house: every other one may raise from it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from .support.texts import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ownership import Blocker, End

__all__ = [
    "BodyNotReplayableError",
    "HTTPClientError",
    "HTTPStatusError",
    "HandleBrokenError",
    "HandleBusyError",
    "HandleClosedError",
    "HandleMovedError",
    "LimitExceededError",
    "LocalProtocolError",
    "PlaintextInjectionError",
    "RemoteProtocolError",
    "ScopeClosedError",
    "TooManyRedirectsError",
    "TrionetError",
    "UpgradeFailedError",
    "UpgradeRefusedError",
    "errors_on",
    "leaves",
    "one_of",
    "unraised",
]

_E = TypeVar("_E", bound=BaseException)


class TrionetError(Exception):
    """Base class of every error that trionet raises by its own decision."""

    retry_safe: bool | None = None
    """Whether the request that failed may be sent again: True if that is safe and can go better, False if it may have
    been carried out already. None where another attempt would meet the same, and where no request was made."""

    handle: Any = None
    """The handle that failed, where the connection or its peer did; None where this program asked for what it may not.

    By this a server tells what a client did wrong from what the handler did, which may use many other connections.
    """

    def __str__(self) -> str:
        """The message, on one line: it may quote the peer, and a traceback in a log shows it as it is."""
        return printable(super().__str__())

    def with_handle(self, handle: Any) -> Self:
        """The same error, with `handle` set: for ``raise RemoteProtocolError("...").with_handle(self)``."""
        self.handle = handle
        return self


def unraised(error: _E) -> _E:
    """What a handle keeps of `error`: the same, without the traceback and the handle.

    A traceback refers to the frames that the error came through, and those to the handle. If that kept the error
    itself, both would be garbage that only the collector finds, with all that is left of their connection.
    """
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - an error of a user's own class need not be made of its `args` alone
        return error
    if isinstance(twin, TrionetError):
        twin.handle = None
    return twin


def leaves(exc: BaseException | None) -> Iterator[BaseException]:
    """The single exceptions of a group, however deep; any other exception itself."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from leaves(inner)
    elif exc is not None:
        yield exc


def one_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a nursery that no user sees has to raise: no group, as far as that loses nothing.

    Ctrl-C strikes a task that waits in a nursery, which wraps it. It goes before all else; then what is no
    cancellation; and several cancellations are one.
    """
    found = tuple(leaves(group))
    rest = [leaf for leaf in found if not isinstance(leaf, trio.Cancelled)]
    for leaf in rest:
        if isinstance(leaf, KeyboardInterrupt):
            return leaf
    if len(rest) > 1:
        return group
    return rest[0] if rest else found[0]


def errors_on(handle: Any, error: BaseException | None) -> list[TrionetError]:
    """The errors of this handle among those of a group, however deep; or `error` itself, if it is one."""
    return [leaf for leaf in leaves(error) if isinstance(leaf, TrionetError) and leaf.handle is handle]


class HandleBusyError(TrionetError, trio.BusyResourceError):
    """Refused, because other work is in progress on the handle. Nothing has changed; both go on as before."""

    def __init__(self, message: str, blockers: tuple[Blocker, ...] = ()) -> None:
        super().__init__(message)
        self.blockers = blockers
        """The work in progress: each task, its operation, and since when."""


class HandleMovedError(TrionetError, trio.ClosedResourceError):
    """Refused, because the connection lives on in another handle."""

    def __init__(self, message: str, end: End) -> None:
        super().__init__(message)
        self.end = end
        """How this handle ended; `End.successor` is where the connection went."""


class HandleClosedError(TrionetError, trio.ClosedResourceError):
    """Refused, or interrupted, because the handle is closed or closing, or this direction was ended on this side."""

    def __init__(self, message: str, end: End | None = None) -> None:
        super().__init__(message)
        self.end = end
        """How the handle ended; None while it is still closing, or when only one direction has ended."""

    @property
    def clean(self) -> bool:
        """Whether the peer has ended the conversation in the way that its protocol has for that."""
        return False


class HandleBrokenError(TrionetError, trio.BrokenResourceError):
    """The connection failed, or a write was abandoned half-way. The handle stays owned: close it."""

    def __init__(self, message: str, bytes_sent: int | None = None) -> None:
        super().__init__(message)
        self.bytes_sent = bytes_sent
        """How many bytes of the abandoned write were given to the operating system; None if that cannot be known."""


class UpgradeRefusedError(TrionetError):
    """The peer declined the new protocol. The old one is intact: the handle is open again and usable."""

    def __init__(self, message: str, response: Any = None) -> None:
        super().__init__(message)
        self.response = response
        """What the peer answered, where it answered with something: status, headers and body for HTTP."""


class UpgradeFailedError(TrionetError, trio.BrokenResourceError):
    """The handshake went wrong. If it had sent anything, the connection is closed; else the handle is open again."""


class PlaintextInjectionError(UpgradeFailedError):
    """Plain bytes came where TLS had to begin: somebody may have smuggled them in front of the handshake.

    They are dropped, and the handle is CLOSED (`UPGRADE_FAILED`), wherever they were found.
    """


class LocalProtocolError(TrionetError):
    """This side asked for something that the protocol does not allow. Nothing was sent."""


class RemoteProtocolError(TrionetError, trio.BrokenResourceError):
    """The peer broke the protocol."""

    def __init__(self, message: str, status_hint: int = 400) -> None:
        super().__init__(message)
        self.status_hint = status_hint
        """The HTTP status that fits the offence, for a server that wants to answer."""


class LimitExceededError(TrionetError):
    """A bound was reached. The message names the value, the limit and how to set it."""


class HTTPClientError(TrionetError):
    """A request of an HTTP client has failed, for whatever reason.

    Always also an error of another class, which says what happened: `HandleBrokenError`, `RemoteProtocolError`,
    `UpgradeFailedError`, `HTTPStatusError` and the others, or an `OSError` where the server could not be reached. One
    that says that something took too long is a `trio.TooSlowError` too.
    """


class TooManyRedirectsError(HTTPClientError):
    """A chain of redirects was longer than allowed."""


class HTTPStatusError(HTTPClientError):
    """A response has a status that `Response.raise_for_status` does not take for a success."""

    def __init__(self, message: str, response: Any, body: bytes = b"") -> None:
        super().__init__(message)
        self.response = response
        """The `Response`."""
        self.body = body
        """What of its body is at hand, decoded: what was read before and, once the error has left the response's block,
        what was drained there."""


class BodyNotReplayableError(HTTPClientError):
    """A request has to be sent again, but its body can be produced only once."""


class ScopeClosedError(TrionetError, trio.ClosedResourceError):
    """Refused, because the scope is closing or closed. What was about to be opened in it has been closed."""
