"""Event hooks: functions of the program that see every request before it is sent, and every response."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from yarl import URL

    from ..protocol.headers import Headers
    from .response import Response

__all__ = ["HTTPRequest", "Hooks", "call", "check_hooks"]


class HTTPRequest:
    """What a hook of the event ``request`` is given; what it changes is what is sent.

    Attributes:
        method: The method.
        url: Without user name and password.
        headers: The fields that were given for it, by the client and for this request; assign new ones to change them.
    """

    __slots__ = ("headers", "method", "url")

    def __init__(self, method: str, url: URL, headers: Headers) -> None:
        self.method = method
        self.url = url
        self.headers = headers

    def __repr__(self) -> str:
        return f"<HTTPRequest {self.method} {self.url}>"


class Hooks(NamedTuple):
    """The functions for each event, in the order in which they are called."""

    request: tuple[Callable[[HTTPRequest], Any], ...]
    response: tuple[Callable[[Response], Any], ...]


def check_hooks(hooks: Any) -> Hooks:
    """What a program gives as `event_hooks`.

    Raises:
        TypeError: it is not a mapping of lists of functions.
        ValueError: there is no such event.
    """
    if not isinstance(hooks, Mapping):
        raise TypeError(f"event_hooks must be a mapping like {{'request': [function]}}, not {hooks!r}")
    for name, functions in hooks.items():
        if callable(functions):
            raise TypeError(f"event_hooks must have lists of functions; for {name!r} write [{functions!r}]")
    unknown = set(hooks) - set(Hooks._fields)
    if unknown:
        raise ValueError(f"event_hooks has {sorted(unknown)}; the events are 'request' and 'response'")
    found = Hooks(tuple(hooks.get("request", ())), tuple(hooks.get("response", ())))
    for hook in (*found.request, *found.response):
        if not callable(hook):
            raise TypeError(f"an event hook must be a function (async or not), not {hook!r}")
    return found


async def call(hooks: Iterable[Callable[[Any], Any]], subject: Any) -> None:
    """Call each of them with `subject`, one after the other, and await those that are asynchronous.

    Cancellation: as the functions have it.
    """
    for hook in hooks:
        result = hook(subject)
        if inspect.isawaitable(result):
            await result
