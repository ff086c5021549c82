"""Keepalive: a ping now and then, and the end of a connection whose peer is dead.

It is a chore of the caretaker's tick, in a short step, behind the attendance (`receiving`), which reads the pongs while
no task does. A ping asks for a sign of life until its pong comes, and a send that has to wait asks for one until it is
done; the sign is any byte that the peer sends or takes. So a peer that sends a long frame slowly, or reads one slowly,
is not given up; and a peer that takes nothing, so that not even a ping could be sent to it, is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..handle import Statistics
from ..ownership import Event, Phase, Receive, Send
from ..support.checks import check_seconds
from .close_codes import CloseReason, ConnectionClosed
from .protocol.frames import PING

if TYPE_CHECKING:
    from ..handle import Handle
    from .close_state import CloseState
    from .pings import Pings
    from .sending import MessageSender

__all__ = ["Keepalive", "KeepaliveOptions", "WebSocketStatistics"]


@dataclass(frozen=True, slots=True)
class KeepaliveOptions:
    """How a WebSocket makes sure that the peer is still there; `None` for either switches that part off.

    Args:
        ping_interval: Seconds between two pings, more than 0. They are looked after twice a second.
        ping_timeout: Seconds without a sign of life, more than 0, after which the connection is aborted: while a pong
            is due, or while a send waits for the peer to take something. Any byte that the peer sends, and any that it
            takes of a send, is a sign of life.

    Raises:
        ValueError: a number that is not more than 0.
    """

    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0

    def __post_init__(self) -> None:
        for name in ("ping_interval", "ping_timeout"):
            value = getattr(self, name)
            if value is not None:
                check_seconds(name, value, positive=True, off="None: none")


@dataclass(frozen=True, slots=True)
class WebSocketStatistics(Statistics):
    """Figures of one WebSocket."""

    latency: float | None
    """Seconds from the latest keepalive ping to its pong; None before the first one.

    While no task receives, a pong is noticed by the next tick only: then it is up to half a second too long.
    """


class Keepalive:
    """Sends pings, and gives up a peer that shows no sign of life; neither where there are no `options`."""

    __slots__ = ("_alive_at", "_closing", "_held_at", "_options", "_payload", "_pinged_at", "_pings", "_sender",
                 "_signs")  # fmt: skip

    def __init__(
        self, options: KeepaliveOptions | None, sender: MessageSender, pings: Pings, closing: CloseState
    ) -> None:
        self._options = options
        self._sender = sender
        self._pings = pings
        self._closing = closing
        # When the latest ping was sent; or, before the first one, when waiting for its time began.
        self._pinged_at = trio.current_time()
        self._payload = b""
        # What is different after a sign of life, and when the latest one was seen; when a pong could last not be.
        self._signs: object = None
        self._alive_at = self._held_at = self._pinged_at

    @enable_ki_protection
    def look(self, handle: Handle, now: float) -> None:
        """Send the ping that is due, or give up a peer that has not answered the one before. A step."""
        options, life = self._options, handle._life
        if options is None or life.state.phase is not Phase.OPEN or life.state.reset:
            return
        pinged, sending = self._payload in self._pings, life.state.send is Send.BUSY
        if pinged or sending:
            self._look_for_life(handle, now)
            timeout = options.ping_timeout
            if timeout is None:
                return
            if pinged and now - max(self._pinged_at, self._alive_at, self._held_at) >= timeout:
                self._give_up(handle, f"no pong came within {timeout:g} s (ping_timeout), nor anything else")
            elif sending and now - max(handle._writer_since, self._alive_at) >= timeout:
                self._give_up(handle, f"the peer took nothing of what is sent within {timeout:g} s (ping_timeout)")
        elif options.ping_interval is not None and now - self._pinged_at >= options.ping_interval:
            self._send_ping(handle, now)

    def _look_for_life(self, handle: Handle, now: float) -> None:
        """Note whether the peer has sent or taken anything since the tick before. A step.

        So it has where bytes have arrived that a reader has had no turn to take. Where bytes wait that are not
        received, as enough is kept already, the pong may be among them; a send that gets nowhere is not excused by
        that. A foreign stream cannot tell: no pong is missed while no task receives from it, and no send given up.
        """
        life, transport = handle._life, handle._transport
        progress = transport.progress()
        signs = (handle._bytes_received, handle._bytes_sent, handle._writer_since, progress)
        came = life.state.receive is not Receive.IDLE and transport.input_waits()
        if signs != self._signs or came or (progress is None and life.state.send is Send.BUSY):
            self._signs = signs
            self._alive_at = now
        if life.state.receive is Receive.IDLE and not transport.is_silent():
            self._held_at = now

    def _send_ping(self, handle: Handle, now: float) -> None:
        """Send a ping; in a later tick, if a message is being sent just now. A step."""
        sender = self._sender
        if sender.frame_turn.held or handle._life.state.send is not Send.IDLE:
            return
        self._payload = self._pings.new_payload()
        self._pinged_at = now
        self._pings.begin_keepalive(self._payload, now)
        sender.send_soon(handle, sender.writer.control(PING, self._payload))

    def _give_up(self, handle: Handle, why: str) -> None:
        self._closing.reason = reason = CloseReason(1006, None)
        handle._failure = ConnectionClosed(reason, f"{handle!r}: {why}")
        handle._take(Event.IDLE_TIMEOUT)
