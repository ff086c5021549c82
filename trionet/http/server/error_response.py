"""The response that an error deserves: a status, and a line of text that says it in words (RFC 9110 §15)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from ...errors import LimitExceededError, RemoteProtocolError

__all__ = ["PLAIN_TEXT", "error_text", "status_for"]

PLAIN_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
"""The fields of a response whose body is a line of text."""


def status_for(error: BaseException) -> int:
    """The status that tells a client what it did wrong, if it has caused `error`; otherwise 500."""
    if isinstance(error, RemoteProtocolError):
        return error.status_hint
    return 413 if isinstance(error, LimitExceededError) else 500


def error_text(status: int) -> bytes:
    """The body of an error response that has nothing to add to its status."""
    return f"{status} {HTTPStatus(status).phrase}\n".encode()
