"""Ending a stream that a scope adopts, while what it is goes on as the scope's.

An object of one of Trio's classes is known: its content moves into a twin of the same class, and the original becomes
an object that raises closed errors.

A stream of a class of the user's own may have a life of its own: tasks and callbacks that know the object and fill its
buffers. A twin would never see what they bring. So the object stays what it is, and is used as it is; only the ways of
using a stream are shut on it, to everybody but the scope and the stream itself.
"""

from __future__ import annotations

import sys
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from ...support.attributes import attributes
from ...transport.stream import StreamTransport
from .use import in_use, is_inside, is_own, method_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["take_stream"]


def take_stream(stream: trio.abc.Stream) -> StreamTransport:
    """What moves the bytes of `stream` from now on, for its new owner alone. A step.

    Raises:
        trio.ClosedResourceError: it was adopted before.
        trio.BusyResourceError: a task is using it.
        TypeError: it cannot be ended.
    """
    if getattr(stream, "adopted", False):
        raise trio.ClosedResourceError(f"{stream!r} was adopted before")
    if in_use(stream):
        raise trio.BusyResourceError(f"adopt({stream!r}) refused: a task is using it")
    if is_own(type(stream)):
        return StreamTransport(_into_twin(stream))
    return StreamTransport(_shut(stream), stream)


# --- Trio's own -------------------------------------------------------------------------------------------------


def _into_twin(stream: trio.abc.Stream) -> trio.abc.Stream:
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
            stream.__class__ = _ended_class(cls, bases) if bases else AdoptedStream
            return
        except TypeError:
            continue
    raise _cannot_be_ended(stream)


# --- a user's own -----------------------------------------------------------------------------------------------


class Inside(trio.abc.Stream):
    """The way into a stream that was shut: the methods that it had, on the object that it is."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._receive_some, self._send_all = stream.receive_some, stream.send_all
        self._wait, self._aclose = stream.wait_send_all_might_not_block, stream.aclose

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream's own."""
        return await self._receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the stream's own."""
        await self._send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream's own."""
        await self._wait()

    async def aclose(self) -> None:
        """As the stream's own."""
        await self._aclose()


class HalfCloseableInside(Inside, trio.abc.HalfCloseableStream):
    """The same, of a stream that can end sending and go on receiving."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self._send_eof = stream.send_eof

    async def send_eof(self) -> None:
        """As the stream's own."""
        await self._send_eof()


def _shut(stream: trio.abc.Stream) -> trio.abc.Stream:
    inside = HalfCloseableInside(stream) if isinstance(stream, trio.abc.HalfCloseableStream) else Inside(stream)
    if hasattr(stream, "__dict__"):
        for name, value in _shut_methods(type(stream)).items():
            object.__setattr__(stream, name, MethodType(value, stream))
        object.__setattr__(stream, "adopted", True)
        return inside
    try:
        stream.__class__ = _shut_class(type(stream))
    except TypeError:
        raise _cannot_be_ended(stream) from None
    return inside


def _shut_class(cls: type) -> type:
    """A class below `cls` for an object that takes no attributes, with everything shut."""
    body = {"__slots__": (), "adopted": True, **_shut_methods(cls)}
    return type(f"Ended{cls.__name__}", (cls,), body)


def _shut_methods(cls: type) -> dict[str, Callable[..., Any]]:
    names = method_names(cls)
    ended = vars(AdoptedStream)
    return {name: _shut_method(getattr(cls, name), ended[name], names) for name in _OPERATIONS if hasattr(cls, name)}


def _shut_method(original: Callable[..., Any], ended: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    def method(self: object, *args: Any, **kwargs: Any) -> Any:
        if _from_inside(self, sys._getframe(1), names):
            return original(self, *args, **kwargs)
        return ended(self, *args, **kwargs)

    return method


def _from_inside(stream: object, frame: FrameType | None, names: tuple[str, ...]) -> bool:
    """Whether the stream itself is at work: for its new owner, or in a task or callback of its own.

    That is so where its own methods call one another, and the first of them was called by an `Inside`, or by Trio.
    """
    if frame is None or not is_inside(frame, (stream,), names):
        return False
    while frame is not None and is_inside(frame, (stream,), names):
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "") if frame is not None else "trio._core._run"
    return module in (__name__, "trio._core._run")


# --- the end ----------------------------------------------------------------------------------------------------

_OPERATIONS = ("receive_some", "send_all", "send_eof", "wait_send_all_might_not_block", "aclose")
"""What a stream is used by; iterating and ``async with`` use these."""


def _cannot_be_ended(stream: trio.abc.Stream) -> TypeError:
    return TypeError(
        f"adopt({stream!r}) refused: objects of {type(stream).__qualname__} cannot be ended, so it would have two "
        f"owners; adopt the socket under it, or give scope.adopt() a stream of your own that wraps it"
    )


def _ended(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise trio.ClosedResourceError(
        "this stream was adopted by a trionet scope; use the Connection that adopt() returned"
    )


class AdoptedStream(trio.abc.HalfCloseableStream):
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
    body = {name: vars(AdoptedStream)[name] for name in ("adopted", *_OPERATIONS)}
    if bases == (cls,):
        body["__slots__"] = ()
    elif "__orig_bases__" in vars(cls):
        body["__orig_bases__"] = vars(cls)["__orig_bases__"]  # without it, nothing derives from `typing.Generic`
    return type(f"Ended{cls.__name__}", bases, body)
