"""A redis-server of one's own, which a test may stop, kill and start again."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import trio

PROGRAM = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed")


class RedisServer:
    """On a Unix socket in `folder`; with `durable`, what it has acknowledged is there again after a kill."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"] if durable else []
        self._command = [str(PROGRAM), *options]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._begin()
        with trio.fail_after(20):
            while not await self._answers():
                await trio.sleep(0.002)

    def _begin(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def _answers(self) -> bool:
        try:
            async with await trio.open_unix_socket(str(self.socket)) as stream:
                await stream.send_all(b"PING\r\n")
                return await stream.receive_some(100) == b"+PONG\r\n"
        except (OSError, trio.BrokenResourceError):
            return False

    def kill(self) -> None:
        """As kill -9 does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
