"""The lean transport: a non-blocking stream socket, waited for with Trio's own readiness calls.

Sending is one ``send`` and, only if the kernel did not take everything, waits. Receiving can be done in two ways, and
which is the better one depends on how busy the program is.

**Waiting first.** ``wait_readable`` registers the socket with the system's poll, lets other tasks run, and comes back
when input is there: then one ``recv`` brings it. In a dialogue the peer's message is never there before it is asked
for, so trying first would cost a checkpoint and a failing ``recv`` in addition.

**Trying first** (the eager receive). Under load the peer's next message comes while the other connections get their
turns. Then a checkpoint and a ``recv`` bring it for half of what registering costs. It is a full checkpoint, so a
receive lets other tasks run and can be cancelled in either way.

**The credit.** A transport knows nothing of the load, but how its own tries have gone. A try that brings something (a
hit) adds `HIT` to its credit, one that does not takes `MISS` away; with credit it tries first, without it waits. So it
goes on trying as long as two of three tries are hits. That is on the safe side, as a hit saves more than a miss costs.
The bound `MOST` is there to forget: however long a connection was busy, 16 misses in a row end it. Without credit it
would never find out that the load has changed, so one receive in `PROBE` tries all the same; if that is a hit, the
credit is full at once. A new transport has the smallest credit there is: mostly a client speaks at once, and what it
says is there by the time of the first receive.

What was not done: trying always (a dialogue would pay for every message); a measure of the load that all connections
share (Trio offers none, and every receive would pay for it); an edge-triggered epoll of trionet's own with a task that
wakes the receivers (0.88 to 0.92 of the eager receive's time at 32 connections, and no gain at one).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any, Literal

import trio
from trio.lowlevel import checkpoint, enable_ki_protection, notify_closing, wait_readable, wait_writable

from .protocol import MAX_RECEIVE
from .readiness import readiness, under_way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .file_region import FileRegion
    from .protocol import Buffer
    from .proxy_header import ProxyHeader

__all__ = ["SocketTransport", "is_tcp_socket", "take_socket"]

HIT, MISS, MOST = 1, 2, 32
"""What a hit adds to the credit, what a miss takes away from it, and how much of it there can be."""
PROBE = 64
"""Of so many receives one tries first also without credit."""

IOV_MAX = min(os.sysconf("SC_IOV_MAX"), 1024) if hasattr(os, "sysconf") else 16
_UNIX = getattr(socket, "AF_UNIX", None)
_CLOSED_ERRNOS = {errno.EBADF, errno.ENOTSOCK}


class SocketTransport:
    """Moves the bytes of a connected stream socket (TCP or Unix)."""

    __slots__ = (
        "_closed",
        "_credit",
        "_poll",
        "_poll_input",
        "_receives",
        "_sock",
        "_waited",
        "_wakes",
        "bytes_sent",
        "local_address",
        "proxy_header",
        "remote_address",
    )

    can_half_close = True
    parting = False
    tls = None

    def __init__(self, sock: socket.socket, remote_address: Any = None, *, is_tcp: bool | None = None) -> None:
        """Take over a connected socket; it is switched to non-blocking.

        Args:
            sock: The socket.
            remote_address: What `accept` has said.
            is_tcp: Whether it is TCP, where that is known already (a socket takes a while to tell its family).
        """
        sock.setblocking(False)
        if is_tcp_socket(sock) if is_tcp is None else is_tcp:
            # A message goes out when it is sent, not when the peer's delayed acknowledgement allows it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._poll: Any = None
        self._poll_input: Any = None
        self._closed = False
        self._waited = False  # whether the system's poll has ever heard of it
        self._wakes = 0
        self._receives = 0
        self._credit = 1
        self.bytes_sent: int | None = 0
        self.local_address: Any = sock.getsockname()
        self.remote_address: Any = _peer_name(sock) if remote_address is None else remote_address
        self.proxy_header: ProxyHeader | None = None

    def speak_for(self, header: ProxyHeader) -> None:
        self.proxy_header = header
        if header.source is not None:
            self.remote_address = header.source

    @property
    def socket(self) -> socket.socket:
        """The socket itself, for its options; reading from it or writing to it would disturb the transport."""
        return self._sock

    @property
    def file_sender(self) -> SocketTransport | None:
        return self if hasattr(os, "sendfile") else None

    @property
    def untouched(self) -> bool:
        return self.bytes_sent == 0

    async def receive_some(self, max_bytes: int) -> bytes:
        wakes = self._wakes
        self._receives += 1
        if (self._credit > 0 or not self._receives % PROBE) and not self._closed:
            await checkpoint()
            try:
                data = self._sock.recv(max_bytes)
            except BlockingIOError:
                self._credit = max(0, self._credit - MISS)
                if wakes != self._wakes:
                    raise trio.ClosedResourceError("the receive was called off") from None
            except OSError as exc:
                raise self._translate(exc) from exc
            else:
                self._credit = min(self._credit + HIT, MOST) if self._credit else MOST
                return data
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this socket was already closed")
            self._waited = True
            try:
                await wait_readable(self._sock)
            except trio.ClosedResourceError:
                if self._closed:
                    raise
                # Called off. What has arrived is taken all the same: a close behind it would reset it away.
            try:
                return self._sock.recv(max_bytes)
            except BlockingIOError:
                # Another process took the bytes, or the wake-up was spurious: wait again, unless told to give up.
                if wakes != self._wakes:
                    raise trio.ClosedResourceError("the receive was called off") from None
            except OSError as exc:
                raise self._translate(exc) from exc

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        try:
            return self._sock.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise self._translate(exc) from exc

    def is_silent(self) -> bool:
        # A third of what a peek costs, which has to raise where there is nothing; and it leaves the error of a reset.
        if self._closed:
            return False
        poll = self._poll_input
        if poll is None:
            poll = self._poll_input = readiness(self._sock, for_input=True)
        return not poll(0)

    def unread_size(self) -> int:
        try:
            return len(self._sock.recv(MAX_RECEIVE, socket.MSG_PEEK))
        except OSError:  # nothing has come; or the connection was reset, and the peer has gone
            return 0

    def peer_gone(self) -> Literal["reset", "eof"] | None:
        if self._closed or not hasattr(select, "POLLRDHUP"):
            return None
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        flags = next((found for _, found in poll.poll(0)), 0)
        # A Unix socket hangs up also when its peer was closed in the normal way; a reset has left an error.
        if flags & select.POLLERR or (flags & select.POLLHUP and self._sock.family != _UNIX):
            return "reset"
        return "eof" if flags else None

    def spoil(self) -> None:
        if not self._closed:
            # A close resets the connection, and drops what is not sent yet (socket(7)).
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def send_some(self, data: Buffer) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._translate(exc) from exc

    async def send_all(self, data: Buffer) -> None:
        self.bytes_sent = 0
        sent = self.send_some(data)
        if type(data) is bytes and sent == len(data):
            self.bytes_sent = sent
            return
        with memoryview(data) as whole, whole.cast("B") as view:
            size = len(view)
            while sent < size:
                self.bytes_sent = sent
                await self.wait_writable()
                with view[sent:] as rest:
                    sent += self.send_some(rest)
            self.bytes_sent = sent

    async def send_vectored(self, parts: Sequence[Buffer]) -> None:
        self.bytes_sent = total = 0
        views: list[memoryview] = []
        try:
            views.extend(_bytes_of(part) for part in parts if len(part))
            while views:
                try:
                    sent = self._sock.sendmsg(views[:IOV_MAX])
                except BlockingIOError:
                    sent = 0
                except OSError as exc:
                    raise self._translate(exc) from exc
                total += sent
                self.bytes_sent = total
                _advance(views, sent)
                if views:
                    await self.wait_writable()
        finally:
            for view in views:
                view.release()  # a bytearray can be resized when this has raised

    async def send_file(self, region: FileRegion) -> None:
        self.bytes_sent = sent = 0
        await region.fetch()
        while sent < len(region):
            try:
                sent += region.send_some(self._sock.fileno(), sent)
            except BlockingIOError:
                await self.wait_writable()
            except OSError as exc:
                region.check(sent)
                raise self._translate(exc) from exc
            self.bytes_sent = sent

    async def send_eof(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._translate(exc) from exc

    async def wait_writable(self) -> None:
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this socket was already closed")
            self._waited = True
            try:
                await wait_writable(self._sock)
                return
            except trio.ClosedResourceError:
                # `notify_closing` wakes reader and writer alike: unless the socket really is closed, wait again.
                continue

    def is_writable(self) -> bool:
        if self._closed:
            return False
        poll = self._poll
        if poll is None:
            poll = self._poll = readiness(self._sock, for_input=False)
        return bool(poll(0))

    def progress(self) -> object:
        # What waits in the system's own buffers gets less as the peer takes it, and more as it sends (tcp(7), unix(7):
        # SIOCOUTQ, SIOCINQ).
        return None if self._closed else (self.bytes_sent, under_way(self._sock))

    def input_waits(self) -> bool:
        return not self._closed and not self.is_silent()

    def wake_receiver(self) -> None:
        self._wakes += 1
        notify_closing(self._sock)

    async def goodbye(self) -> None:
        """A socket says goodbye by being closed."""

    def close(self) -> bool:
        if not self._closed:
            self._closed = True
            try:
                if self._waited:  # else nobody waits now, and the poll has nothing to forget
                    notify_closing(self._sock)
            finally:
                self._sock.close()
        return True

    async def aclose(self) -> None:
        self.close()

    def _translate(self, exc: OSError) -> Exception:
        if self._closed or exc.errno in _CLOSED_ERRNOS:
            return trio.ClosedResourceError("this socket was already closed")
        return trio.BrokenResourceError(f"socket connection broken: {exc}")


def is_tcp_socket(sock: socket.socket) -> bool:
    """Whether it is one of TCP, connected or listening."""
    return sock.family in (socket.AF_INET, socket.AF_INET6)


def _peer_name(sock: socket.socket) -> Any:
    """The peer's address; None where the peer has gone already (ENOTCONN)."""
    try:
        return sock.getpeername()
    except OSError:
        return None


def _bytes_of(part: Buffer) -> memoryview:
    with memoryview(part) as whole:
        return whole.cast("B")


def _advance(views: list[memoryview], sent: int) -> None:
    """Drop the first `sent` bytes of `views`, in place. What a slow peer has taken leaves nothing behind."""
    done = 0
    while done < len(views) and sent >= len(views[done]):
        sent -= len(views[done])
        views[done].release()
        done += 1
    del views[:done]
    if sent:
        with views[0] as cut:
            views[0] = cut[sent:]


@enable_ki_protection
def take_socket(sock: Any) -> socket.socket:
    """The file descriptor of `sock` (of `socket` or `trio.socket`) in a new object; `sock` is closed afterwards."""
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
