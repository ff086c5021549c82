"""How a WebSocket ends: close codes, reasons, and the errors that carry them.

The errors belong to two worlds. Code for trio-websocket catches its `ConnectionClosed`; code for Trio or
trionet catches closed and broken errors. Both catch what is raised here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio_websocket

from ..errors import HandleBrokenError, HandleClosedError, LocalProtocolError
from ..support.texts import printable
from .protocol.frames import MAX_REASON

if TYPE_CHECKING:
    from ..ownership import End

__all__ = ["CLEAN", "CloseReason", "ConnectionBroken", "ConnectionClosed", "check_close"]

CLEAN: Final = frozenset({1000, 1001, 1005})
"""Codes with which a conversation ends as intended. 1005 stands for none, as a browser's `close()` sends it."""


_SENDABLE: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})


class CloseReason(trio_websocket.CloseReason):
    """Code and reason with which a WebSocket was closed.

    Attributes:
        code: The number: 1005 for a close without one, 1006 for an end without a close.
        name: What the number means, in words.
        reason: The text, as the peer has sent it, line breaks included; None for none.
    """

    def __repr__(self) -> str:
        """As trio-websocket's, but on one line: the peer may write what it likes, but no lines of a log."""
        return printable(super().__repr__())


class ConnectionClosed(trio_websocket.ConnectionClosed, HandleClosedError):
    """Refused, or interrupted, because the WebSocket is closed or closing.

    Attributes:
        reason: `CloseReason` with code and reason; None if it was not closed.
    """

    def __init__(self, reason: CloseReason | None, message: str = "", end: End | None = None) -> None:
        HandleClosedError.__init__(self, message or str(reason), end)
        self.reason = reason

    @property
    def clean(self) -> bool:
        """Whether it was closed with 1000, 1001 or no code."""
        return self.reason is not None and self.reason.code in CLEAN

    def __str__(self) -> str:
        text, why = str(self.args[0]), str(self.reason)
        return printable(text if self.reason is None or text == why else f"{text} ({why})")


class ConnectionBroken(ConnectionClosed, HandleBrokenError):
    """The connection under the WebSocket failed or ended without a close, or a message was abandoned half-way."""

    def __init__(
        self, reason: CloseReason | None, message: str, bytes_sent: int | None = None, end: End | None = None
    ) -> None:
        ConnectionClosed.__init__(self, reason, message, end)
        self.bytes_sent = bytes_sent


def check_close(code: Any, reason: Any) -> None:
    """Raise unless a close frame may carry this code and this reason.

    Raises:
        TypeError: the code is not an int, or the reason not a str.
        LocalProtocolError: the code is not for close frames, or the reason is longer than 123 bytes of UTF-8.

    Source: RFC 6455 §5.5.1, §7.4.
    """
    if isinstance(code, bool) or not isinstance(code, int):
        remedy = f"; write aclose(reason={code!r})" if isinstance(code, str) else ""
        raise TypeError(f"code must be an int like 1000, not {code!r}{remedy}")
    if not isinstance(reason, str | None):
        raise TypeError(f"reason must be a str or None, not {reason!r}")
    if code not in _SENDABLE:
        raise LocalProtocolError(
            f"close code {code!r} cannot be sent: use 1000 (normal), 1001 (going away), 1002, 1003, 1007 to 1014, "
            f"or 3000 to 4999 for an application's own"
        )
    try:
        size = len((reason or "").encode())
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(f"close reason {reason!r} cannot be encoded as UTF-8: {exc.reason}") from None
    if size > MAX_REASON:
        raise LocalProtocolError(f"a close reason has at most {MAX_REASON} bytes of UTF-8, not {size}")
