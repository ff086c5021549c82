"""HTTP as a session has it: a line is a request, and its response is what comes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from ..mistakes import Mistake
from .certificate import certificate_lines
from .channels import Note
from .lines import PING

if TYPE_CHECKING:
    from ... import HTTPClient
    from .lines import Item
    from .target import Whom

__all__ = ["HTTPChannel"]


class HTTPChannel:
    """One request after another: ``GET /path``, ``POST /path body``, ``/path``; an empty line asks for the URL itself.

    Args:
        client: Connects, and keeps connections.
        target: Where paths belong to.
        show_certificate: Whether the first response is preceded by the server's certificate.
    """

    framed = False
    passes_end = False
    farewell = ""

    def __init__(self, client: HTTPClient, target: Whom, *, show_certificate: bool) -> None:
        self._client = client
        self._target = target
        self._show_certificate = show_certificate
        self._put, self._take = trio.open_memory_channel[bytes | Note](math.inf)

    async def send(self, item: Item) -> None:
        """Send a request and receive its response, to the end. Pieces are shown as they come.

        Raises:
            Mistake: the line is not a request.
        """
        if item is PING:
            return
        method, url, body = _request(item if isinstance(item, str) else item.decode("latin-1"), self._target)
        async with self._client.request(method, url, content=body, keep_connection=True) as response:
            tls = response.connection._transport.tls
            if self._show_certificate and tls is not None:
                for line in certificate_lines(tls):
                    self._put.send_nowait(Note(line))
                self._show_certificate = False
            head = [f"HTTP/{response.http_version} {response.status} {response.reason}"]
            head += [f"{name}: {value}" for name, value in response.headers.items()]
            self._put.send_nowait(Note("\n".join([*head, ""])))
            async for piece in response:
                self._put.send_nowait(piece)

    async def receive(self) -> Item | Note | None:
        """The next piece of a response; None behind the last one."""
        try:
            return await self._take.receive()
        except trio.EndOfChannel:
            return None

    async def finish(self) -> None:
        """No more requests: `receive` comes to its end."""
        self._put.close()
        await trio.lowlevel.checkpoint()


def _request(line: str, target: Whom) -> tuple[str, str, str]:
    """Method, URL and body."""
    method, _, rest = line.strip().partition(" ")
    if not method:
        method, rest = "GET", target.path
    elif method.startswith("/"):
        method, rest = "GET", f"{method} {rest}".strip()
    path, _, body = rest.strip().partition(" ")
    if not path.startswith("/"):
        raise Mistake(f"{line[:60]!r} is not a request: write GET /path, POST /path body, or /path")
    return method, f"{target.origin}{path}", body
