"""What an application meets that speaks to a client who is not there, and what a start that failed is called."""

from __future__ import annotations

from ..errors import TrionetError

__all__ = ["ClientDisconnectedError", "LifespanError", "is_disconnect"]


class ClientDisconnectedError(OSError):
    """`send` was called for a client that has gone.

    An OSError, as the specification asks for (ASGI HTTP and WebSocket 2.4), so that frameworks know it. An application
    that lets it through has done nothing wrong.
    """


class LifespanError(TrionetError):
    """The application could not start, or has no lifespan although it must have one.

    Its ``__cause__`` is what the application raised, if it raised anything.
    """


def is_disconnect(exc: BaseException | None) -> bool:
    """Whether this error tells of nothing but a client that has gone.

    That is so for what `send` raised, and for what a framework has made of it, or of ``http.disconnect``.
    """
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        if isinstance(exc, ClientDisconnectedError):
            return True
        kind = type(exc)
        if kind.__name__ == "ClientDisconnect" and kind.__module__.startswith("starlette"):
            return True
        if isinstance(exc, BaseExceptionGroup):
            return all(is_disconnect(one) for one in exc.exceptions)
        seen.add(id(exc))
        exc = exc.__cause__ or exc.__context__
    return False
