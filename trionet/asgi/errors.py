"""What an application meets that speaks to a client who is not there, and what a start that failed is called."""

from __future__ import annotations

import trio

from ..errors import TrionetError

__all__ = ["ClientDisconnectedError", "LifespanError", "is_disconnect", "is_of_the_run"]

_OF_THE_RUN = (trio.Cancelled, KeyboardInterrupt, GeneratorExit)


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

    That is so for what `send` raised, and for what a framework has made of it (``raise ... from``), or of
    ``http.disconnect``. An error that only happened while an application handled such a one is its own.
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
        exc = exc.__cause__
    return False


def is_of_the_run(exc: BaseException) -> bool:
    """Whether this error concerns the whole program: a cancellation, Ctrl-C, or a coroutine that is closed.

    Any other is the failure of one call of an application, also one that is no `Exception`. ``sys.exit`` somewhere in
    a request must not end the server, nor must the CancelledError of a library that was made for asyncio.
    """
    if isinstance(exc, BaseExceptionGroup):
        return any(map(is_of_the_run, exc.exceptions))
    return isinstance(exc, _OF_THE_RUN)
