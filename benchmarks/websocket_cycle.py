"""A whole WebSocket conversation in fixed bytes: connect, handshake, one echo, close. The load of upgrade.py.

It may begin with a line of plain TCP, which is answered by a line. Every byte that the server sends is looked at, but
for fields of its handshake that mean nothing here. The server closes the connection first (RFC 6455 §7.1.1).
"""

from __future__ import annotations

import asyncio
from typing import Any

from websocket_load import PATIENCE, keep_awake, runner
from websocket_peers import LINE, READY

KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455 §1.3."""

MESSAGE = bytes(range(64))
BINARY, CLOSE = 0x82, 0x88
CODE = (1000).to_bytes(2)


def request(port: int, offer: bool) -> bytes:
    """The client's handshake, with or without the offer to compress."""
    return (
        b"GET / HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: %s\r\n"
        b"%s\r\n"
    ) % (port, KEY, b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if offer else b"")


def frame(first: int, payload: bytes) -> bytes:
    """As the server sends it: not masked, at most 125 bytes."""
    return bytes((first, len(payload))) + payload


def masked(first: int, payload: bytes) -> bytes:
    """As the client sends it."""
    mask = b"\x12\x34\x56\x78"
    return bytes((first, 0x80 | len(payload))) + mask + bytes(each ^ mask[i % 4] for i, each in enumerate(payload))


ECHO, MASKED_ECHO = frame(BINARY, MESSAGE), masked(BINARY, MESSAGE)
END, MASKED_END = frame(CLOSE, CODE), masked(CLOSE, CODE)


class Conversation(asyncio.Protocol):
    """One of them: `over` is its end."""

    transport: Any
    """As `asyncio.Transport`; uvloop's is none."""

    def __init__(self, handshake: bytes, line: bool) -> None:
        self.handshake = handshake
        self.expected = "line" if line else "head"
        self.data = b""
        self.head = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(LINE if self.expected == "line" else self.handshake)

    def data_received(self, data: bytes) -> None:
        self.data += data
        match self.expected:
            case "line" if self.came(READY):
                self.go_on("head", self.handshake)
            case "head" if b"\r\n\r\n" in self.data:
                self.head, _, self.data = self.data.partition(b"\r\n\r\n")
                if refusal := self.refusal():
                    self.fail(refusal)
                self.go_on("echo", MASKED_ECHO)
            case "echo" if self.came(ECHO):
                self.go_on("close", MASKED_END)
            case "close" if self.came(END):
                self.expected = "end"

    def came(self, whole: bytes) -> bool:
        """Whether this, and nothing else, is there."""
        if not whole.startswith(self.data):
            self.fail(f"{self.data!r} came instead of {whole!r}")
        return self.data == whole

    def go_on(self, expected: str, answer: bytes) -> None:
        self.expected, self.data = expected, b""
        self.transport.write(answer)

    def refusal(self) -> str:
        """What is wrong with the server's handshake; empty: nothing."""
        status, *lines = self.head.split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if not status.startswith(b"HTTP/1.1 101") or fields.get(b"sec-websocket-accept") != ACCEPT:
            return f"the handshake was refused: {self.head!r}"
        if b"sec-websocket-extensions" in fields:
            return f"the server compresses: {self.head!r}"
        return f"something came before the first message: {self.data!r}" if self.data else ""

    def fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError(why))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.expected != "end" or exc is not None:
            self.fail(f"the server ended the connection while its {self.expected} was due: {exc}")
        elif not self.over.done():
            self.over.set_result(None)


async def converse(port: int, handshake: bytes, line: bool) -> Conversation:
    """One conversation, from its beginning to its end."""
    loop = asyncio.get_running_loop()
    _, conversation = await loop.create_connection(lambda: Conversation(handshake, line), "127.0.0.1", port)
    async with asyncio.timeout(PATIENCE):
        await conversation.over
    return conversation


# --- what the benchmark calls -----------------------------------------------------------------------------------


def look(port: int, line: bool) -> str:
    """One conversation in which compression is offered, and refused if all is well: the server's part in a line."""
    head = runner().run(converse(port, request(port, offer=True), line)).head.decode("latin-1")
    status, *lines = head.split("\r\n")
    names = ", ".join(sorted(line.partition(":")[0].lower() for line in lines))
    return f"{status!r} with {names}; echo, close {int.from_bytes(CODE)}, EOF"


def cycles(port: int, seconds: float, clients: int, line: bool, busy: bool) -> int:
    """Whole conversations that so many clients had, one after the other, begun within so many seconds."""
    handshake = request(port, offer=False)
    count = 0

    async def client(until: float) -> None:
        nonlocal count
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await converse(port, handshake, line)
            count += 1

    async def main() -> None:
        until = asyncio.get_running_loop().time() + seconds
        done = asyncio.gather(*(client(until) for _ in range(clients)))
        if busy:
            await keep_awake(done)
        await done

    runner().run(main())
    return count
