"""What servers in the tests of a client's connection do, by hand."""

import trio

from .http_by_hand import HELLO, read_request
from .recipes import Greeting

HEAD = b"HTTP/1.1 200 OK\r\n"


class Chat(Greeting):
    """A protocol that begins on an HTTP connection as well."""

    def prepare(self, source):
        """Take anything."""


async def answer(server, data=HELLO):
    asked = await read_request(server)
    await server.send_all(data)
    return asked


async def exchange(http, method="GET", target="/", options=None):
    async with http.request(method, target, **(options or {})) as response:
        return response, await response.read()


async def wait_readable(http):
    await trio.lowlevel.wait_readable(http._transport.socket)


async def pieces(*data):
    for piece in data:
        await trio.lowlevel.checkpoint()
        yield piece
