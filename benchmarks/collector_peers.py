"""The servers that collector.py surrounds with hostile clients, with a look at Python's collector inside each.

``python collector_peers.py NAME`` listens on a free port of 127.0.0.1, prints it, and serves until it is killed: a
small answer to everything, and `LARGE` to ``/large``.

Whoever connects to the abstract Unix socket ``collector-PID`` says one word, and is sent JSON:

- ``rest``: what is there by now is collected and frozen (`gc.freeze`), so that the next census leaves it out.
- ``census``: how many objects the collector tracks, in all and by type.
- ``pauses``: for each generation since the last time, how often it ran, and the longest and the sum of its runs, as CPU
  seconds of the thread in which it ran; and one more run of generation 2, there and then.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import threading
import time
from collections import Counter
from typing import Any

from http_peers import BACKLOG, IDLE, announce, listen
from processes import end_with_parent, raise_file_limit

SMALL = b"Hello, world!"
LARGE = bytes(1 << 23)
"""More than the system's buffers of one connection hold."""


class Collector:
    """Times each run of the collector, and answers for it."""

    def __init__(self) -> None:
        self._began = 0.0
        self._collected = 0
        self._runs: list[list[float]] = [[], [], []]
        gc.callbacks.append(self._run)
        threading.Thread(target=self._serve, daemon=True).start()

    def _run(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self._runs[info["generation"]].append(time.thread_time() - self._began)
            self._collected += info["collected"]

    def _serve(self) -> None:
        answers = {b"rest": self._rest, b"census": self._census, b"pauses": self._pauses}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address(os.getpid()))
            listener.listen()
            while True:
                asking, _ = listener.accept()
                with asking:
                    asking.sendall(json.dumps(answers[asking.recv(100)]()).encode())

    def _rest(self) -> None:
        gc.collect()
        gc.freeze()

    def _census(self) -> dict[str, Any]:
        gc.collect()
        return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())

    def _pauses(self) -> dict[str, Any]:
        runs, self._runs = self._runs, [[], [], []]
        began = time.thread_time()
        gc.collect()
        full = time.thread_time() - began
        self._runs[2].clear()
        found = [{"count": len(each), "longest": max(each, default=0.0), "sum": sum(each)} for each in runs]
        collected, self._collected = self._collected, 0
        return {"generations": found, "full": full, "collected": collected}


def address(pid: int) -> str:
    """Where the figures of this process can be had."""
    return f"\0collector-{pid}"


# --- the servers ------------------------------------------------------------------------------------------------


async def answer(exchange: Any) -> None:
    await exchange.respond(200, LARGE if exchange.target == "/large" else SMALL)


def serve_trionet(*, frozen: bool) -> None:
    """Under plain `trio.run`; or, `frozen`, under `trionet.run`, which looks after the collector."""
    import trio

    import trionet

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trionet.serve_http, answer, 0)
            Collector()
            announce(server.port)

    if frozen:
        trionet.run(main)
    else:
        trio.run(main)


async def application(scope: Any, receive: Any, send: Any) -> None:
    body = LARGE if scope["path"] == "/large" else SMALL
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve_uvicorn() -> None:
    import uvicorn

    config = uvicorn.Config(
        application, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="critical",
        timeout_keep_alive=IDLE, backlog=BACKLOG,
    )  # fmt: skip
    Collector()
    uvicorn.Server(config).run(sockets=[listen()])


def serve_hypercorn() -> None:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    config = Config()
    config.bind = [f"fd://{listen().detach()}"]
    config.backlog = BACKLOG
    config.accesslog = None
    config.loglevel = "CRITICAL"
    config.keep_alive_timeout = IDLE
    config.keep_alive_max_requests = 1 << 60
    Collector()
    trio.run(serve, application, config)


SERVERS = {
    "trionet": lambda: serve_trionet(frozen=True),
    "trionet, trio.run": lambda: serve_trionet(frozen=False),
    "uvicorn": serve_uvicorn,
    "hypercorn": serve_hypercorn,
}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("server", choices=SERVERS)
    chosen = options.parse_args()
    end_with_parent()
    raise_file_limit()
    SERVERS[chosen.server]()


if __name__ == "__main__":
    main()
