"""Both ends of a connection, as trio-websocket names them."""

from __future__ import annotations

from typing import NamedTuple

import trio
from trio_websocket import Endpoint

__all__ = ["Endpoints", "endpoints_of"]


class Endpoints(NamedTuple):
    """Both ends of a stream, as trio-websocket names them."""

    local: Endpoint | str
    remote: Endpoint | str


def endpoints_of(stream: trio.abc.Stream) -> Endpoints:
    """The endpoints of a socket, also under TLS; for any other stream its ``repr()``."""
    sock, is_ssl = None, False
    if isinstance(stream, trio.SocketStream):
        sock = stream.socket
    elif isinstance(stream, trio.SSLStream) and isinstance(stream.transport_stream, trio.SocketStream):
        sock, is_ssl = stream.transport_stream.socket, True
    if sock is not None:
        names = _pair(sock)
        if names is not None:
            return Endpoints(*(Endpoint(host, port, is_ssl) for host, port in names))
    return Endpoints(repr(stream), repr(stream))


def _pair(sock: trio.socket.SocketType) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """Host and port of both ends; None for a socket that has none, or whose peer has gone."""
    try:
        local, remote = sock.getsockname(), sock.getpeername()
    except OSError:
        return None
    match local, remote:
        case (str(here), int(port), *_), (str(there), int(other), *_):
            return (here, port), (there, other)
        case _:
            return None
