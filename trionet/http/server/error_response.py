"""The answer that an error deserves: a status, and a line of text that says it in words (RFC 9110 §15)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from ...errors import LimitExceededError, RemoteProtocolError

__all__ = ["PLAIN_TEXT", "answer_status", "error_text"]

PLAIN_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
"""The fields of an answer whose body is a line of text."""


def answer_status(error: BaseException) -> int:
    """The status that tells a client what it did wrong, if `error` is of its making; else 500."""
    if isinstance(error, RemoteProtocolError):
        return error.status_hint
    return 413 if isinstance(error, LimitExceededError) else 500


def error_text(status: int) -> bytes:
    """The body of an error answer that has nothing to add to its status."""
    return f"{status} {HTTPStatus(status).phrase}\n".encode()
