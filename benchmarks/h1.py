"""CPU time of reading a request and writing its answer, without I/O: trionet's machine, h11, a bare llhttp parse.

``python -m benchmarks.h1`` pins itself to one core and takes the best of several rounds; read the numbers as ratios.
"""

from __future__ import annotations

import os
import timeit
from typing import TYPE_CHECKING

import h11
import httptools

from trionet.http.protocol.server_machine import H1Server
from trionet.http.protocol.states import H1State

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"
BROWSER = (
    b"GET /a/b?c=d HTTP/1.1\r\nHost: example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\nCookie: a=b; c=d\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n"
    b"Sec-Fetch-Mode: navigate\r\nCache-Control: max-age=0\r\n\r\n"
)
UPLOAD = b"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
HEADERS = [("Content-Type", "text/plain")]
BODY = b"Hello, world!"


class _Fields:
    def on_header(self, name: bytes, value: bytes) -> None:
        pass


def llhttp(raw: bytes) -> Callable[[], object]:
    """A new parser, and the head."""
    return lambda: httptools.HttpRequestParser(_Fields()).feed_data(raw)


def trionet(raw: bytes) -> Callable[[], object]:
    """One exchange on a connection that is kept."""
    machine = H1Server()

    def exchange() -> None:
        machine.receive(raw)
        while machine.peer_state is not H1State.DONE:
            machine.next_event()
        machine.respond(200, HEADERS, BODY)
        machine.start_next_cycle()

    return exchange


def by_h11(raw: bytes) -> Callable[[], object]:
    """The same with h11."""
    connection = h11.Connection(h11.SERVER)
    headers = [*HEADERS, ("Content-Length", str(len(BODY))), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")]

    def exchange() -> None:
        connection.receive_data(raw)
        while not isinstance(connection.next_event(), h11.EndOfMessage):
            pass
        connection.send(h11.Response(status_code=200, headers=headers))
        connection.send(h11.Data(data=BODY))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()

    return exchange


def main() -> None:
    """Print a table."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{'':10}{'llhttp':>9}{'trionet':>9}{'h11':>9}   µs for one exchange; llhttp: only the parse")
    for name, raw in (("small", SMALL), ("browser", BROWSER), ("upload", UPLOAD)):
        costs = [measure(make(raw)) for make in (llhttp, trionet, by_h11)]
        print(f"{name:10}" + "".join(f"{cost:9.2f}" for cost in costs))


def measure(run: Callable[[], object], number: int = 5000) -> float:
    """µs of a run, the best of ten rounds."""
    return min(timeit.repeat(run, number=number, repeat=10)) / number * 1e6


if __name__ == "__main__":
    main()
