"""Whether somebody is using a stream that a scope is about to adopt.

Trio's own objects tell: their conflict detectors are held, a task is parked on their file descriptor. A stream of a
class of the user's own has nothing of the kind, but Trio shows every task's frames: one that is parked inside a method
of the stream, or of a stream inside it, is using it. That is the best that can be done, and no proof: a task that
takes from what the stream is made of by other ways is not seen.

A task that *began* in a method of the stream (``nursery.start_soon(self._read_ahead)``) belongs to the stream's own
life. It goes on, and does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import current_root_task, current_task, wait_readable, wait_writable

from ...support.attributes import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["in_use", "is_inside", "is_own", "method_names", "somebody_waits"]

_API: Final = frozenset(
    {"receive_some", "send_all", "send_eof", "wait_send_all_might_not_block", "aclose", "__anext__", "__aexit__"}
)
"""What a stream is used by. A task that began in one of these is a user's, and no part of the stream's own life."""

_DEPTH: Final = 3
"""How far into a stream's parts the search goes: a `trio.StapledStream` in an `SSLStream` in a user's wrapper."""


def is_own(cls: type) -> bool:
    """Whether a class is Trio's or trionet's, whose objects are known."""
    return cls.__module__.partition(".")[0] in ("trio", "trionet")


def in_use(stream: Any) -> bool:
    """Whether a task has an operation pending on the stream, as far as that can be told. A step."""
    parts = tuple(_parts(stream, _DEPTH))
    foreign = [part for part in parts if isinstance(part, trio.abc.AsyncResource) and not is_own(type(part))]
    has_life = False
    if foreign:
        names = method_names(*map(type, foreign))
        for task in _tasks():
            inside = [frame for frame, _ in task.iter_await_frames() if is_inside(frame, foreign, names)]
            if inside and _begins_with(task, inside[0]):
                has_life = True
            elif inside:
                return True
    # What a task of the stream's own holds is the stream's; nothing tells it from what somebody else holds.
    return not has_life and any(map(_is_held, parts))


def _parts(thing: Any, depth: int) -> Iterator[Any]:
    """A stream and what it is made of, as far as that is a stream too, or Trio's."""
    yield thing
    if depth:
        for part in attributes(thing).values():
            cls = type(part)
            if cls.__module__ == "trio._core._run":
                continue  # a nursery or a task: the way to everything
            if cls.__module__.partition(".")[0] == "trio" or isinstance(part, trio.abc.AsyncResource):
                yield from _parts(part, depth - 1)


def _is_held(part: Any) -> bool:
    """Whether Trio's conflict detectors tell of a pending operation, or a task waits on the socket."""
    if getattr(part, "_held", False) is True:
        return True
    if not isinstance(part, trio.SocketStream):
        return False
    fd = part.socket.fileno()
    return fd >= 0 and any(somebody_waits(wait, fd) for wait in (wait_readable, wait_writable))


def _tasks() -> Iterator[trio.lowlevel.Task]:
    """All tasks of this run, but for the one that asks."""
    root, here = current_root_task(), current_task()
    todo = [] if root is None else [root]
    while todo:
        task = todo.pop()
        todo.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
        if task is not here:
            yield task


def _begins_with(task: trio.lowlevel.Task, frame: FrameType) -> bool:
    """Whether the task began in this frame's function, and that is not a way of using a stream."""
    return getattr(task.coro, "cr_frame", None) is frame and frame.f_code.co_name not in _API


def method_names(*classes: type) -> tuple[str, ...]:
    """What the qualified names of the methods of these classes, and of those above them, begin with."""
    return tuple({f"{above.__qualname__}." for cls in classes for above in cls.__mro__[:-1]})


def is_inside(frame: FrameType, streams: Sequence[object], names: tuple[str, ...]) -> bool:
    """Whether this is the frame of a method of one of the streams, or of a function inside of one."""
    if not frame.f_code.co_qualname.startswith(names):
        return False
    owner = _self_of(frame)
    return any(owner is stream for stream in streams)


def _self_of(frame: FrameType) -> Any:
    code, names = frame.f_code, frame.f_locals
    return names.get(code.co_varnames[0]) if code.co_argcount else names.get("self")


def somebody_waits(wait: Any, fd: int) -> bool:
    """Whether a task is parked in `wait` for this descriptor, without becoming one.

    Trio refuses a second waiter before it parks, so the first step of a wait of our own tells; the wait is undone with
    the abort function that it hands to Trio's scheduler, before the scheduler has seen it.
    """
    attempt = wait(fd)
    try:
        parked = attempt.send(None)
    except trio.BusyResourceError:
        return True
    parked.abort_func(lambda: None)
    attempt.close()
    return False
