"""What a WebSocket does while its owner does nothing: it listens, and it makes sure that the peer is still there.

Both are chores of the caretaker's tick, in short steps. So they hold no turn that a task could have to wait for, no
task stands behind them, they keep nobody from moving the connection, and they end with its scope.

*Attendance*: while no task receives, what has come is taken in: pings are answered within half a second or so, and so
are the peer's close and its offences. One step takes one receive, or goes on with what the engine has left of it. As
long as there is more, the caretaker comes back when other connections and other tasks have had their turns. Messages
are kept until they are as many as the bound allows; then the rest stays with the operating system, and TCP makes the
peer wait. A foreign Trio stream cannot be asked without waiting: there a task has to receive.

*Keepalive*: a ping now and then, and the end of a connection whose peer is dead. A ping asks for a sign of life until
its pong comes, and a send that has to wait until it is done; the sign is any byte that the peer sends or takes.
So nobody is given up who sends a long frame slowly, or reads one; and a peer that takes nothing, so that not even a
ping could be sent to it, is.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..handle import Statistics
from ..ownership import Event, Phase, Receive, Send
from ..support.checks import check_seconds
from ..transport.protocol import MAX_RECEIVE
from .close_codes import CloseReason, ConnectionClosed
from .close_handshake import Closing
from .protocol.frames import PING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..custody.owner import Owner
    from ..handle.detached import Detached
    from .protocol.engine import Engine

__all__ = ["Keepalive", "Kept", "WebSocketStatistics"]

BATCHES: Final = 4
"""Receives between two ticks at most: a flood costs no more than that."""


@dataclass(frozen=True, slots=True)
class Keepalive:
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


class Kept(Closing):
    """A handle that is looked after."""

    __slots__ = ("_alive_at", "_batches", "_held_at", "_keepalive", "_latency", "_ping_at", "_ping_payload", "_signs")

    def __init__(self, capsule: Detached, engine: Engine, keepalive: Keepalive | None) -> None:
        self._keepalive = keepalive
        self._latency: float | None = None
        self._batches = 0
        super().__init__(capsule, engine)

    def _renew(self) -> None:
        super()._renew()
        # When the latest ping was sent; or, before the first one, when waiting for its time began.
        self._ping_at = trio.current_time()
        self._ping_payload = b""
        # What is different after a sign of life, and when the latest one was seen; when a pong could last not be.
        self._signs: object = None
        self._alive_at = self._held_at = self._ping_at

    @enable_ki_protection
    def _seat(self, owner: Owner, instead_of: Any = None) -> None:
        """As for every handle; and the scope's caretaker looks after it from now on."""
        super()._seat(owner, instead_of)
        owner.caretaker.watch(self)

    def _phase_changed(self, before: Phase) -> None:
        if self._life.phase.terminal:
            self._owner.caretaker.unwatch(self)
        super()._phase_changed(before)

    def statistics(self) -> WebSocketStatistics:
        """Figures of this WebSocket. Never raises."""
        return WebSocketStatistics(self._bytes_received, self._bytes_sent, self._opened, self._latency)

    @enable_ki_protection
    def tick(self, now: float) -> Callable[[], bool] | None:
        """For the caretaker. A step; what it returns goes on with what has come, if there may be more of that."""
        if self._life.phase is not Phase.OPEN or self._life.reset:
            return None
        if self._life.retiring:
            if self._take_what_came():
                return self._take_what_came
            if now >= self._retire_by:
                self._close_in_background()
            return None
        self._batches = BATCHES
        more = self._take_what_came()
        if self._keepalive is not None:
            self._keep_alive(now, self._keepalive)
        return self._take_what_came if more else None

    @enable_ki_protection
    def _retire(self, grace: float = 0.0) -> None:
        """As `Handle._retire`."""
        self._batches = BATCHES
        super()._retire(grace)

    # --- attendance ----------------------------------------------------------------------------------------------

    @enable_ki_protection
    def _take_what_came(self) -> bool:
        """Do some of a reader's work where there is none, up to the bound: whether there may be more. A step."""
        life = self._life
        if self._reading.held or life.phase is not Phase.OPEN or life.receive is not Receive.IDLE or life.reset:
            return False
        return self._has_room() and self._take_batch()

    def _has_room(self) -> bool:
        return not self._engine.full

    def _take_batch(self) -> bool:
        """Take in what one receive brings without waiting, or what is left of one: whether it brought bytes."""
        if self._leftover or self._engine.reader.stalled:
            self._take_rest(patient=True)
            return self._engine.reader.tired or not self._engine.reader.stalled
        if not self._batches:
            return False
        self._batches -= 1
        data = self._receive_nowait()
        if data is None:
            return False
        if not data:
            self._peer_vanished()
            return False
        if self._engine.receive(data, patient=True):
            self._attend()
        return True

    def _receive_nowait(self) -> bytes | None:
        try:
            data = self._transport.receive_nowait(MAX_RECEIVE)
        except trio.BrokenResourceError as exc:
            self._close = CloseReason(1006, None)
            self._peer_reset(exc)
            return None
        self._bytes_received += len(data or b"")
        return data

    # --- keepalive -----------------------------------------------------------------------------------------------

    def _keep_alive(self, now: float, keepalive: Keepalive) -> None:
        """Send the ping that is due, or give up a peer who has not answered the one before. A step."""
        if self._life.phase is not Phase.OPEN or self._life.reset:
            return
        pinged, sending = self._ping_payload in self._pings, self._life.send is Send.BUSY
        if pinged or sending:
            self._look_for_life(now)
            timeout = keepalive.ping_timeout
            if timeout is None:
                return
            if pinged and now - max(self._ping_at, self._alive_at, self._held_at) >= timeout:
                self._give_up(f"no pong came within {timeout:g} s (ping_timeout), nor anything else")
            elif sending and now - max(self._writer_since, self._alive_at) >= timeout:
                self._give_up(f"the peer took nothing of what is sent within {timeout:g} s (ping_timeout)")
        elif keepalive.ping_interval is not None and now - self._ping_at >= keepalive.ping_interval:
            self._send_keepalive(now)

    def _look_for_life(self, now: float) -> None:
        """Note whether the peer has sent or taken anything since the tick before. A step.

        So it has where bytes have arrived that a reader has had no turn to take. Where bytes wait that are not
        received, as enough is kept already, the pong may be among them; a send that gets nowhere is not excused by
        that. A foreign stream cannot tell: no pong is missed while no task receives from it, and no send given up.
        """
        life, transport = self._life, self._transport
        progress = transport.progress()
        signs = (self._bytes_received, self._bytes_sent, self._writer_since, progress)
        came = life.receive is not Receive.IDLE and transport.input_waits()
        if signs != self._signs or came or (progress is None and life.send is Send.BUSY):
            self._signs = signs
            self._alive_at = now
        if life.receive is Receive.IDLE and not transport.is_silent():
            self._held_at = now

    def _send_keepalive(self, now: float) -> None:
        """Send a ping; in a later tick, if a message is being sent just now. A step."""
        if self._writing.held or self._life.send is not Send.IDLE:
            return
        self._ping_payload = self._new_payload()
        self._ping_at = now
        self._pings[self._ping_payload] = None  # no task waits for it
        self._send_control(self._engine.writer.control(PING, self._ping_payload))

    def _give_up(self, why: str) -> None:
        self._close = CloseReason(1006, None)
        self._failure = ConnectionClosed(self._close, f"{self!r}: {why}")
        self._take(Event.IDLE_TIMEOUT)

    def _pong_came(self, payload: bytes) -> None:
        waited = self._ping_payload in self._pings
        super()._pong_came(payload)
        if waited and self._ping_payload not in self._pings:
            self._latency = trio.current_time() - self._ping_at

    def _new_payload(self) -> bytes:
        while (payload := secrets.token_bytes(4)) in self._pings:
            pass
        return payload
