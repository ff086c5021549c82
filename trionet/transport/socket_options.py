"""Options that a program wants its sockets to have: arguments of `socket.setsockopt`, checked before one is made.

A socket of a client gets them when it is connected, as httpcore does it, and a listener when it listens: most are
inherited by the connections that it accepts (tcp(7), socket(7)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

__all__ = ["SocketOption", "check_socket_options", "set_socket_options"]

SocketOption = tuple[int, int, int | bytes] | tuple[int, int, None, int]
"""Level, option, value: such as ``(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)``; or with None and a length."""


def check_socket_options(options: Any) -> tuple[SocketOption, ...]:
    """The options as a tuple.

    Raises:
        TypeError: these are not triples of level, option and value.
    """
    if not isinstance(options, (tuple, list)):
        raise TypeError(f"socket_options must be a list of (level, option, value), not {options!r}")
    for option in options:
        if not _is_option(option):
            remedy = f"; write [{options!r}]" if _is_option(options) else ""
            raise TypeError(f"socket_options must be a list of (level, option, value), not of {option!r}{remedy}")
    return tuple(options)


def _is_option(option: Any) -> bool:
    match option:
        case (int(), int(), int() | bytes() | bytearray()) | (int(), int(), None, int()):
            return True
    return False


def set_socket_options(sock: socket.socket, options: Iterable[SocketOption]) -> None:
    """Set them. The socket stays open, whatever comes of it.

    Raises:
        OSError: the system knows no such option, or not this value; the message names it.
    """
    setsockopt: Callable[..., None] = sock.setsockopt  # in either of its forms
    for option in options:
        try:
            setsockopt(*option)
        except OSError as exc:
            raise type(exc)(exc.errno, f"socket option {option!r} refused: {exc.strerror}") from exc
