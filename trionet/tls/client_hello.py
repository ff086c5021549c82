"""The server's name out of a ClientHello (RFC 6066 §3), which OpenSSL tells a server in a callback of the context only.

A context is lent by the program, which may use it elsewhere and may have set a callback of its own; so the few bytes
are read here. What cannot be read gives no name: whether it is a good ClientHello is decided by OpenSSL alone.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_HELLO", "is_whole", "server_name_of"]

MAX_HELLO: Final = 16384
"""Bytes of a client's first flight that are looked at: real ones have 200 to 2,000."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0


def server_name_of(flight: bytes) -> str | None:
    """The host name that the client asks for; None if there is none, or not all of the ClientHello is there yet.

    Args:
        flight: What the client has sent first, from its first byte on.
    """
    try:
        return _name_in(_extensions(_hello(flight)))
    except IndexError:
        return None


def is_whole(flight: bytes) -> bool:
    """Whether all of the ClientHello is there. Never of what is none: bound the time, or the bytes."""
    try:
        return bool(_hello(flight))
    except IndexError:
        return False


class _Reader:
    """Takes numbers, and vectors with their length in front, off the front of bytes (RFC 8446 §3)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise IndexError
        data, self._at = self._data[self._at : end], end
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def _hello(flight: bytes) -> bytes:
    """The body of the ClientHello, which may stand in several records (RFC 8446 §5.1)."""
    records, message = _Reader(flight), b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if records.number(1) != _HANDSHAKE:
            raise IndexError
        records.take(2)
        message += records.vector(2)
        if message and message[0] != _CLIENT_HELLO:
            raise IndexError
    return message[4 : 4 + int.from_bytes(message[1:4], "big")]


def _extensions(hello: bytes) -> bytes:
    reader = _Reader(hello)
    reader.take(2 + 32)  # version, random
    for size in (1, 2, 1):  # session, cipher suites, compression methods
        reader.vector(size)
    return reader.vector(2)


def _name_in(extensions: bytes) -> str | None:
    reader = _Reader(extensions)
    while reader:
        kind, content = reader.number(2), reader.vector(2)
        if kind == _SERVER_NAME:
            names = _Reader(_Reader(content).vector(2))
            while names:
                name_type, name = names.number(1), names.vector(2)
                if name_type == _HOST_NAME and name.isascii():
                    return name.decode("ascii")
    return None
