"""Which certificate a server shows: one context for all names, or one for each name that clients ask for (SNI).

The context is chosen before OpenSSL has seen a byte. So all of it counts: also its protocol versions, and whether it
asks for certificates of clients, which a context's own `sni_callback` cannot change any more.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from .arguments import check_context

__all__ = ["ContextChoice", "ServerContexts"]

ServerContexts = ssl.SSLContext | Mapping[str, ssl.SSLContext] | Callable[[str | None], ssl.SSLContext | None]
"""A context; one for each name; or a function that chooses one."""

_REMEDY: Final = "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) with load_cert_chain()"
_NAME: Final = re.compile(r"\*|(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")


class ContextChoice:
    """Chooses a context for the name that a client asks for.

    Args:
        given: As `ServerContexts`, checked.

    Raises:
        TypeError, ValueError: something is no context of a server, or no name.
    """

    __slots__ = ("_given",)

    def __init__(self, given: Any) -> None:
        self._given = given
        if isinstance(given, Mapping):
            if not given:
                raise ValueError("to_tls_server: ssl_context is an empty mapping; give a context for each name")
            for name, context in given.items():
                _check_name(name)
                check_context(context, ssl.PROTOCOL_TLS_CLIENT, "to_tls_server", _REMEDY)
        elif not callable(given):
            check_context(given, ssl.PROTOCOL_TLS_CLIENT, "to_tls_server", _REMEDY)

    @property
    def only(self) -> ssl.SSLContext | None:
        """The context for all names; None if they have several."""
        return self._given if isinstance(self._given, ssl.SSLContext) else None

    def choose(self, name: str | None) -> ssl.SSLContext | None:
        """The context for this name; None if there is none.

        A mapping is looked into anew each time, so that a program can put another context into it.
        """
        if isinstance(self._given, Mapping):
            found = self._look_up("" if name is None else name.lower().removesuffix("."))
        else:
            found = self._given(name)
        if found is None:
            return None
        return check_context(found, ssl.PROTOCOL_TLS_CLIENT, "to_tls_server", _REMEDY)

    def _look_up(self, name: str) -> Any:
        """The name itself; a wildcard in the place of its first label, and no other (RFC 9525 §6.3); that for all."""
        label, _, parent = name.partition(".")
        for key in (name, f"*.{parent}" if label and parent else "*"):
            if key in self._given:
                return self._given[key]
        return self._given.get("*")


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"to_tls_server: ssl_context has the name {name!r}, which must be a str like 'host.example'")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"to_tls_server: ssl_context has the name {name!r}; give 'host.example', in ASCII and lower case, "
            f"'*.example' for one label of any name, or '*' for everybody else"
        )
