"""HTTP servers that nobody here has written: nginx as a process, uvicorn and aiohttp on asyncio in a thread.

Each listens on loopback before it is given out, so that nobody has to wait until it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
import uvicorn
from aiohttp import web

KINDS = ("tcp", "tls", "unix")


@dataclass
class Peer:
    """Where a server is: the beginning of its URLs, and the Unix socket if that is how to reach it."""

    url: str
    unix_path: str | None = None


def certify(ca: trustme.CA, folder: Path) -> tuple[str, str]:
    """A certificate for ``localhost``, and its key, as files."""
    issued = ca.issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return str(certificate), str(key)


def listen(kind: str, folder: Path) -> tuple[socket.socket, Peer]:
    """A listening socket, and how to reach who takes it."""
    if kind == "unix":
        path = str(folder / "peer")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        peer = Peer("http://localhost", path)
    else:
        sock = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio switches Nagle's algorithm off only if this is said
        sock.bind(("127.0.0.1", 0))
        peer = Peer(f"{'https' if kind == 'tls' else 'http'}://localhost:{sock.getsockname()[1]}")
    sock.listen(100)
    return sock, peer


# --- on asyncio ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def in_thread(run: Callable[[], None], stop: Callable[[], None]) -> AsyncIterator[None]:
    """`run` in a thread during the block; at its end, however that comes, `stop` makes it return."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, run)
        try:
            yield
        finally:
            stop()


@contextlib.asynccontextmanager
async def uvicorn_serves(
    app: Any, kind: str, folder: Path, ca: trustme.CA, *, parser: str, **options: Any
) -> AsyncIterator[Peer]:
    """uvicorn with an ASGI application; its `parser` is ``h11`` or ``httptools``."""
    if kind == "tls":
        options["ssl_certfile"], options["ssl_keyfile"] = certify(ca, folder)
    config = uvicorn.Config(
        app, http=parser, ws="none", loop="asyncio", lifespan="off", log_config=None, access_log=False, **options
    )
    sock, peer = listen(kind, folder)
    server = uvicorn.Server(config)

    def run() -> None:
        with sock:
            server.run([sock])

    def stop() -> None:
        server.should_exit = True

    async with in_thread(run, stop):
        yield peer


@contextlib.asynccontextmanager
async def aiohttp_serves(app: web.Application, kind: str, folder: Path, ca: trustme.CA) -> AsyncIterator[Peer]:
    """aiohttp's server."""
    context = None
    if kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certify(ca, folder))
    sock, peer = listen(kind, folder)
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, sock, ssl_context=context).start()
        await over.wait()
        await runner.cleanup()

    def run() -> None:
        with sock, asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    async with in_thread(run, lambda: loop.call_soon_threadsafe(over.set)):
        yield peer


# --- nginx --------------------------------------------------------------------------------------------------------

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

MAIN = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    error_log {folder}/errors;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{secure} ssl;
        listen unix:{folder}/sock;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        {server}
    }}
}}
"""


def free_ports() -> tuple[int, int]:
    """Two TCP ports that were free a moment ago."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextlib.contextmanager
def nginx_serves(server: str, folder: Path, ca: trustme.CA) -> Iterator[dict[str, Peer]]:
    """nginx with these lines in its ``server`` block: how to reach it, by kind. ``{folder}`` and ``{secure}`` in them
    stand for its folder and its TLS port. Skips the test if there is no nginx."""
    if NGINX is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    certificate, key = certify(ca, folder)
    for _ in range(5):  # another program may have taken a port meanwhile
        (folder / "sock").unlink(missing_ok=True)  # one that could not start leaves its socket behind
        plain, secure = free_ports()
        lines = server.replace("{folder}", str(folder)).replace("{secure}", str(secure))
        text = MAIN.format(folder=folder, plain=plain, secure=secure, certificate=certificate, key=key, server=lines)
        (folder / "conf").write_text(text)
        command = [NGINX, "-p", str(folder), "-c", str(folder / "conf"), "-e", "stderr"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                said = _until_it_listens(process)
                if process.poll() is None:
                    yield {
                        "tcp": Peer(f"http://localhost:{plain}"),
                        "tls": Peer(f"https://localhost:{secure}"),
                        "unix": Peer("http://localhost", str(folder / "sock")),
                    }
                    return
            finally:
                process.kill()  # a SIGTERM between two looks at its flags would be overlooked until the next event
        if "in use" not in said:
            break
    pytest.fail(f"nginx does not start: {said}")


def _until_it_listens(process: subprocess.Popen[str]) -> str:
    """Read what nginx says until it says its version, which it does when it listens, or until it ends."""
    said = ""
    assert process.stderr is not None
    for line in process.stderr:
        said += line
        if " nginx/" in line:
            return said
    process.wait(10)
    return said
