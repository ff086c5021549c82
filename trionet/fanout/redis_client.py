"""Clients of coredis, and what their errors mean here.

A command of coredis repeats by itself what failed, and must not here: a message that was published twice would arrive
twice. So what is asked goes past them, straight to a connection. And each client is made for a single connection: a
pool of coredis loses the place of a connection that ended while it was in use, or whose making was cancelled, and at
last waits for one for ever.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["ANSWER_TIMEOUT", "RedisPlace", "outages"]

ANSWER_TIMEOUT: Final = 10.0
"""Seconds in which Redis has to answer: else the connection counts as lost."""
_SCHEMES: Final = ("redis", "rediss", "unix")


def _coredis() -> Any:
    try:
        import coredis
        import coredis.exceptions
    except ImportError as exc:
        raise ImportError("fan-out over Redis needs coredis: pip install 'trionet[redis]'") from exc
    return coredis


def outages() -> tuple[type[Exception], ...]:
    """The errors of a server that does not answer, or not as it should; `TimeoutError` is an OSError.

    Among them is that of a stream that is closed already: coredis says goodbye on it when a task is cancelled.
    """
    import anyio

    return (_coredis().exceptions.RedisError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError)


class RedisPlace:
    """Where Redis is, and how to come there.

    Args:
        url: As for `RedisFanout`.

    Raises:
        ImportError: coredis is not installed.
        ValueError, TypeError: `url` is none.
    """

    __slots__ = ("_name", "_url")

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str such as 'redis://localhost', not {url!r}")
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"url must begin with redis://, rediss:// or unix://, not {parts.scheme + ':'!r}")
        _coredis()
        self._url = url
        self._name = parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

    def __str__(self) -> str:
        return self._name

    def new_client(self) -> Any:
        """A client for one connection, which has yet to be entered."""
        timeouts = {"stream_timeout": ANSWER_TIMEOUT, "connect_timeout": ANSWER_TIMEOUT}
        return _coredis().Redis.from_url(self._url, max_connections=1, **timeouts)

    @staticmethod
    def is_refusal(error: BaseException) -> bool:
        """Whether Redis has answered, with an error."""
        return isinstance(error, _coredis().exceptions.ResponseError)
