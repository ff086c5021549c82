"""``--reload``: a parent that keeps the listeners and starts the application anew whenever a file changes.

The listeners stay open all the time, so nobody is refused meanwhile: who comes waits in the backlog for the next
child. A child that does not start, because of a syntax error for instance, is left ended until the next change.

Parent and child are joined by a pipe, the lifeline. The child ends, gracefully, when the parent closes its end: for a
change, at a signal, and also when the parent was killed. It is no second signal, as one that the parent passed on
would be where a terminal has sent Ctrl-C to both.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from ...server.running import tell
from ...transport.listening import close_listener
from ..mistakes import Mistake, working_directory
from .environment import environment_of_children
from .sockets import INHERITED, open_listeners

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from .options import Reload, Where

__all__ = ["PATIENCE", "is_child", "parent_has_ended", "run_reloading"]

LIFELINE: Final = "TRIONET_LIFELINE_FD"
"""Environment variable: the descriptor on which a child sees the end of its parent."""
_LIFELINE_FD: Final = os.environ.pop(LIFELINE, None)  # what the application starts is no child of that parent
PATIENCE: Final = 1.0
"""Seconds that a child has for what is under way: event streams would hold up each change."""
_BEYOND: Final = 2.0
"""Seconds more before a child that does not end is killed."""


def is_child() -> bool:
    """Whether this process was started by a parent that reloads it."""
    return _LIFELINE_FD is not None


async def parent_has_ended() -> None:
    """Wait until the parent of this child has closed its end of the lifeline, or was killed.

    Cancellation: nothing changes.
    """
    await trio.lowlevel.wait_readable(int(_LIFELINE_FD or -1))


def run_reloading(where: Where, options: Reload, argv: Sequence[str]) -> int:
    """Run this command in child processes until a signal: the exit status.

    Raises:
        Mistake: watchfiles is missing, or the address is in use.
    """
    try:
        import watchfiles
    except ModuleNotFoundError as exc:
        raise Mistake("--reload needs watchfiles: pip install 'trionet[cli]'") from exc
    folders = options.reload_dir or (working_directory(),)
    for folder in folders:
        if not folder.is_dir():
            raise Mistake(f"--reload-dir {folder}: there is no such folder")

    def watch(stop: trio.Event) -> Any:
        return watchfiles.awatch(
            *folders,
            watch_filter=make_filter(options, folders),
            debounce=max(1, int(options.reload_delay * 1000)),
            step=50,
            stop_event=stop,
        )

    return trio.run(_Parent(where, argv, watch).run)


def make_filter(options: Reload, folders: Sequence[Path]) -> Callable[[Any, str], bool]:
    """Which changes count: a pattern of --reload-include outweighs those that are left out.

    A pattern is that of a file, or of a folder below those that are watched: then it is that of all files in there.
    """
    left_out = (".*", ".py[cod]", ".sw.*", "~*", *options.reload_exclude)
    tops = [folder.resolve() for folder in folders]

    def counts(_change: Any, name: str) -> bool:
        path = Path(name)
        if any(_covers(pattern, path, tops) for pattern in options.reload_include):
            return True
        if any(_covers(pattern, path, tops) for pattern in left_out):
            return False
        return path.suffix == ".py"

    return counts


def _covers(pattern: str, path: Path, tops: Sequence[Path]) -> bool:
    """Whether this pattern is that of the file, or of a folder between it and the one that is watched."""
    if any(each.match(pattern) for each in (path, *_below(path, tops))):
        return True
    folder = Path(pattern)
    return len(folder.parts) > 1 and folder.is_dir() and folder.resolve() in path.parents


def _below(path: Path, tops: Sequence[Path]) -> Iterator[Path]:
    for parent in path.parents:
        if parent in tops or not any(top in parent.parents for top in tops):
            return
        yield parent


class _Parent:
    """The listeners, the child of the moment, and what is watched."""

    def __init__(self, where: Where, argv: Sequence[str], watch: Callable[[trio.Event], Any]) -> None:
        self._where = where
        self._argv = argv
        self._watch = watch
        self._stop = trio.Event()  # the thread that watches cannot be cancelled, and looks at this
        self._signal = 0

    async def run(self) -> int:
        listeners, _ = await open_listeners(self._where)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_signal, nursery.cancel_scope)
                changes = await nursery.start(self._watching)
                await nursery.start(self._child, listeners)
                async for names in changes:
                    tell(f"reloading: {', '.join(names)}")
                    await nursery.start(self._child, listeners)
        finally:
            for listener in listeners:
                close_listener(listener)
        return 128 + self._signal if self._signal == signal.SIGINT else 0

    async def _watching(self, task_status: trio.TaskStatus[trio.MemoryReceiveChannel[list[str]]]) -> None:
        """Watch from before the first start on, so that no change is missed while the application is read."""
        into, changes = trio.open_memory_channel[list[str]](0)
        async with into, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, into)
            nursery.start_soon(self._on_hangup, into)
            await trio.lowlevel.checkpoint()  # its first step sets up the watch
            task_status.started(changes)

    async def _pass_on(self, into: trio.MemorySendChannel[list[str]]) -> None:
        async for changes in self._watch(self._stop):
            await into.send(sorted({Path(name).name for _, name in changes}))

    async def _on_hangup(self, into: trio.MemorySendChannel[list[str]]) -> None:
        """SIGHUP asks for what is on the disk to be read anew."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                await into.send(["SIGHUP"])

    async def _until_signal(self, whole: trio.CancelScope) -> None:
        try:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for number in signals:
                    self._signal = number
                    whole.cancel()
                    return
        finally:
            self._stop.set()

    _running: trio.CancelScope | None = None
    _ended: trio.Event

    async def _child(self, listeners: list[socket.socket], task_status: trio.TaskStatus[None]) -> None:
        """End the child before this one, and start one; come to the end when it has."""
        if self._running is not None:
            self._running.cancel()
            await self._ended.wait()
        with trio.CancelScope() as scope, _lifeline() as (theirs, cut):
            self._running, self._ended = scope, trio.Event()
            try:
                await self._run_child(listeners, theirs, cut, task_status)
            finally:
                self._ended.set()

    async def _run_child(
        self,
        listeners: list[socket.socket],
        lifeline: int,
        cut: Callable[[], None],
        task_status: trio.TaskStatus[None],
    ) -> None:
        fds = [listener.fileno() for listener in listeners]
        environment = {**environment_of_children(), INHERITED: ",".join(map(str, fds)), LIFELINE: str(lifeline)}
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trionet", *self._argv], env=environment, pass_fds=(*fds, lifeline)
        )
        task_status.started()
        try:
            status = await process.wait()
            tell(f"the application has ended (exit status {status}); waiting for a change")
        finally:
            cut()
            with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE + _BEYOND):
                await process.wait()
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


@contextmanager
def _lifeline() -> Iterator[tuple[int, Callable[[], None]]]:
    """A pipe: the end that a child inherits, and what closes ours."""
    theirs, ours = os.pipe()
    closed = False

    def cut() -> None:
        nonlocal closed
        if not closed:
            closed = True
            os.close(ours)

    try:
        yield theirs, cut
    finally:
        cut()
        os.close(theirs)
