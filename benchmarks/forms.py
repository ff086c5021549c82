"""What an upload costs: a form with a file of 100 MB, taken by trionet and by Starlette on uvicorn (httptools, uvloop).

The figure is user plus system time of the server process for one upload, and beside it how much its memory has grown at
the most. Both parse with python-multipart, and both put the file on the disk. Each answers with the size that it has
seen, which is compared.

``python forms.py serve NAME`` is one server.
"""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from http_peers import announce, listen
from paired import Goal, Report, finish, parser, positive, print_versions, run_rounds, versions
from processes import Cores, Started, choose_cores, end_with_parent, on_core, start

PEERS = ("trionet", "starlette")
PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "python-multipart", "trio")
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="large"\r\n\r\n'
END = b"\r\n--x--\r\n"
BLOCK = bytes(range(256)) * 4096


def upload(port: int, megabytes: int) -> None:
    """Send the form, and check the answer."""
    size = megabytes * len(BLOCK)
    length = len(HEAD) + size + len(END)
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = (
            f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}"
        )
        client.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + HEAD)
        for _ in range(megabytes):
            client.sendall(BLOCK)
        client.sendall(END)
        answer = b""
        while data := client.recv(65536):
            answer += data
    if not answer.endswith(b"\r\n\r\n%d" % size):
        raise SystemExit(f"the server on port {port} has answered {answer[-200:]!r}")


def peak_bytes(pid: int) -> int:
    """The most memory that the process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(pid)


def run(server: Started, megabytes: int) -> float:
    """CPU milliseconds of one upload."""
    server.settle()
    before = server.cpu_seconds()
    upload(server.port, megabytes)
    server.settle()
    return (server.cpu_seconds() - before) * 1000


def serve_trionet() -> None:
    import trio

    import trionet

    async def app(exchange: trionet.Exchange) -> None:
        async with exchange.form(max_bytes=2**31) as form:
            file = form["file"]
            assert isinstance(file, trionet.UploadedFile)
            await exchange.respond(200, str(file.size))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(trionet.serve_http, host="127.0.0.1"), app, 0)
            announce(server.port)

    trio.run(main)


def serve_starlette() -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def app(request: Request) -> PlainTextResponse:
        async with request.form() as form:
            file: Any = form["file"]
            return PlainTextResponse(str(file.size))

    config = uvicorn.Config(
        Starlette(routes=[Route("/", app, methods=["POST"])]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    uvicorn.Server(config).run(sockets=[listen()])


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        end_with_parent()
        {"trionet": serve_trionet, "starlette": serve_starlette}[sys.argv[2]]()
        return
    options = parser(__doc__, rounds=5)
    options.add_argument("--megabytes", type=positive, default=100, help="size of the file (default: %(default)s)")
    chosen = options.parse_args()
    cores: Cores = choose_cores(chosen.pin)
    found = versions(*PACKAGES)
    print_versions(chosen, found, str(cores))
    commands = {name: on_core(cores.measured, [sys.executable, __file__, "serve", name]) for name in PEERS}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(start(command)) for name, command in commands.items()}
        for server in servers.values():
            upload(server.port, 1)
        before = {name: peak_bytes(server.pid) for name, server in servers.items()}
        runs = {name: partial(run, server, chosen.megabytes) for name, server in servers.items()}
        title = f"Upload of a form with a file of {chosen.megabytes} MB"
        goals = [Goal("trionet", "starlette", 1.0)]
        report = Report.of(title, "CPU ms an upload", run_rounds(runs, chosen.rounds), goals)
        report.print()
        grown = {name: peak_bytes(server.pid) - before[name] for name, server in servers.items()}
    print("\nMemory grown by", *(f"{name}: {size / 2**20:.1f} MiB" for name, size in grown.items()), sep="\n  ")
    print("\nCommands", *(" ".join(command) for command in commands.values()), sep="\n  ")
    finish(
        chosen, [report], versions=found, cores=str(cores), grown=grown, commands=[*map(" ".join, commands.values())]
    )


if __name__ == "__main__":
    main()
