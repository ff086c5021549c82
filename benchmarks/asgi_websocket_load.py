"""``python asgi_websocket_load.py PORT SECONDS``: 32 WebSockets, each of which sends a message when the last came back.

Frames are written by hand, with one select for all, so that the load costs less than any server. Prints the number of
messages as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

CONNECTIONS = 32
MESSAGE = b"x" * 64
MASKED = b"\x81" + bytes([0x80 | len(MESSAGE)]) + b"\0\0\0\0" + MESSAGE
ECHOED = b"\x81" + bytes([len(MESSAGE)]) + MESSAGE
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def dial(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    if not head.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"not accepted: {head!r}")
    return sock


def main() -> None:
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    socks = {sock.fileno(): sock for sock in (dial(port) for _ in range(CONNECTIONS))}
    poll = select.epoll()
    for descriptor, sock in socks.items():
        poll.register(descriptor, select.EPOLLIN)
        sock.sendall(MASKED)
    end, messages = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for descriptor, _ in poll.poll(1):
            data = socks[descriptor].recv(4096)
            if data != ECHOED:
                raise SystemExit(f"not the message that was sent: {data!r}")
            messages += 1
            socks[descriptor].sendall(MASKED)
    print(json.dumps({"messages": messages}))


if __name__ == "__main__":
    main()
