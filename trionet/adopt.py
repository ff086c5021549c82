"""Taking over an existing connection: a socket, a Trio stream or a capsule becomes a capsule, and the original ends.

Two objects that move the same bytes are the bug that trionet exists to end, so the original must be unusable
afterwards. A socket is detached from its object. Any other stream's content moves into a twin of the same class, and
the original turns into an object that raises closed errors.
"""

from __future__ import annotations

import socket
import ssl
from types import MethodType
from typing import Any, NoReturn

import trio
from trio.lowlevel import enable_ki_protection, wait_readable, wait_writable

from .capsule import Detached
from .handle import Handle
from .handle.core import attributes
from .transport.socket import SocketTransport
from .transport.stream import StreamTransport

__all__ = ["into_capsule", "somebody_waits", "take_socket"]


@enable_ki_protection
def into_capsule(original: Any) -> Detached:
    """The connection of `original`, which is ended. A step; see `Scope.adopt` for what is raised."""
    if isinstance(original, Detached):
        original.check()
        return original
    if isinstance(original, Handle):
        raise TypeError(f"adopt({original!r}) refused: it has an owner; use transfer(scope), or adopt its detach()")
    if isinstance(original, trio.SocketStream):
        if _in_use(original):
            raise trio.BusyResourceError(f"adopt({original!r}) refused: a task is using it")
        original = original.socket
    if isinstance(original, ssl.SSLSocket):
        raise TypeError(f"adopt({original!r}) refused: its bytes are TLS; adopt a plain socket and upgrade it")
    if isinstance(original, (socket.socket, trio.socket.SocketType)):
        _check_socket(original)
        return Detached(SocketTransport(take_socket(original)))
    if isinstance(original, trio.abc.Stream):
        return Detached(StreamTransport(_take_stream(original)))
    raise TypeError(f"adopt needs a trio.abc.Stream, a connected stream socket or a Detached, not {original!r}")


@enable_ki_protection
def take_socket(sock: Any) -> socket.socket:
    """The file descriptor of `sock` (of `socket` or `trio.socket`) in a new object; `sock` is closed afterwards."""
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())


def _check_socket(sock: Any) -> None:
    fd = sock.fileno()
    if fd < 0:
        raise trio.ClosedResourceError(f"adopt({sock!r}) refused: it is closed")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"adopt({sock!r}) refused: only stream sockets carry connections")
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"adopt({sock!r}) refused: it listens; use trionet.serve() with it")
    try:
        sock.getpeername()
    except OSError as exc:
        raise ValueError(f"adopt({sock!r}) refused: it is not connected, or the peer has gone ({exc})") from exc
    for wait, doing in ((wait_readable, "receiving"), (wait_writable, "sending")):
        if somebody_waits(wait, fd):
            raise trio.BusyResourceError(f"adopt({sock!r}) refused: a task is {doing} on it")


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


# --- other streams ----------------------------------------------------------------------------------------------


def _take_stream(stream: trio.abc.Stream) -> trio.abc.Stream:
    if getattr(stream, "adopted", False):
        raise trio.ClosedResourceError(f"{stream!r} was adopted before")
    if _in_use(stream):
        raise trio.BusyResourceError(f"adopt({stream!r}) refused: a task is using it")
    cls = type(stream)
    twin: trio.abc.Stream = object.__new__(cls)
    for name, value in attributes(stream).items():
        object.__setattr__(twin, name, value)
    _rebind(twin, stream, twin)
    _end(stream)
    return twin


def _rebind(holder: Any, old: object, new: object, depth: int = 1) -> None:
    """Methods of `old` that `holder` keeps become those of `new`: an `SSLStream` keeps its handshake for later."""
    for name, value in attributes(holder).items():
        if isinstance(value, MethodType) and value.__self__ is old:
            object.__setattr__(holder, name, MethodType(value.__func__, new))
        elif depth and type(value).__module__.partition(".")[0] == "trio":
            _rebind(value, old, new, depth - 1)


def _end(stream: trio.abc.Stream) -> None:
    """Turn `stream` into an object that raises closed errors: by another class, where the layouts allow it."""
    cls = type(stream)
    for bases in ((), cls.__bases__, (cls,)):
        try:
            stream.__class__ = _ended_class(cls, bases) if bases else Ended
            return
        except TypeError:
            continue
    raise TypeError(
        f"adopt({stream!r}) refused: objects of {cls.__qualname__} cannot be ended, so it would have two "
        f"owners; adopt the socket under it, or give scope.adopt() a stream of your own that wraps it"
    )


def _in_use(thing: Any, depth: int = 3) -> bool:
    """Whether an operation is pending on a Trio stream or on one inside it, as Trio's conflict detectors tell."""
    if getattr(thing, "_held", False) is True:
        return True
    if isinstance(thing, trio.SocketStream):
        fd = thing.socket.fileno()
        if fd >= 0 and any(somebody_waits(wait, fd) for wait in (wait_readable, wait_writable)):
            return True
    parts = [part for part in attributes(thing).values() if type(part).__module__.partition(".")[0] == "trio"]
    return depth > 0 and any(_in_use(part, depth - 1) for part in parts)


def _ended(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise trio.ClosedResourceError("this stream was adopted by a trionet scope; use the Connection that adopt() gave")


class Ended(trio.abc.HalfCloseableStream):
    """What a stream turns into when a scope adopts it: everything raises a closed error, closing does nothing."""

    adopted = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raise `trio.ClosedResourceError`."""
        _ended(self)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raise `trio.ClosedResourceError`."""
        _ended(self)

    async def send_eof(self) -> None:
        """Raise `trio.ClosedResourceError`."""
        _ended(self)

    async def wait_send_all_might_not_block(self) -> None:
        """Raise `trio.ClosedResourceError`."""
        _ended(self)

    async def aclose(self) -> None:
        """Do nothing: the connection belongs to somebody else.

        Cancellation: a checkpoint, nothing more.
        """
        await trio.lowlevel.checkpoint()


def _ended_class(cls: type, bases: tuple[type, ...]) -> type:
    """The same with the layout of `cls`: beside it, or as a subclass where it has slots (a final class has no such)."""
    names = ("adopted", "receive_some", "send_all", "send_eof", "wait_send_all_might_not_block", "aclose")
    body = {name: vars(Ended)[name] for name in names}
    if bases == (cls,):
        body["__slots__"] = ()
    elif "__orig_bases__" in vars(cls):
        body["__orig_bases__"] = vars(cls)["__orig_bases__"]  # without it, nothing derives from `typing.Generic`
    return type(f"Ended{cls.__name__}", bases, body)
