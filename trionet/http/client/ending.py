"""How an exchange ends, which decides about its connection (RFC 9112 §9.3).

When both messages are complete, the machine is asked whether they prove the connection fit for another exchange; if
there is any doubt, it closes. When an exchange fails, the connection ends with it: nobody could tell where the next
response begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from ...errors import RemoteProtocolError, unraised
from ...handle.closing import close_quietly
from ...ownership import Event, Phase
from .retry import mark

if TYPE_CHECKING:
    from ...handle import Lease
    from .io import ClientIO

__all__ = ["exchange_done", "exchange_failed", "finish_closing"]

_OPEN_OR_RESERVED: Final = (Phase.OPEN, Phase.RESERVED)


@enable_ki_protection
def exchange_done(io: ClientIO, lease: Lease) -> bool:
    """Both messages are complete, or will never be: the next request may come, or the connection ends. A step.

    Returns:
        Whether the exchange needs the connection no more; it does where HTTP has ended on it (101, CONNECT).
    """
    machine = io.machine
    if machine.reusable:
        machine.start_next_cycle()
        io.idle_since = trio.current_time()
        lease.end()
    elif io.switched:
        lease.end()
        return False
    else:
        _close_behind(io, lease)
    return True


@enable_ki_protection
def exchange_failed(io: ClientIO, exc: BaseException, method: str) -> None:
    """The exchange has ended with `exc`, and the connection ends with it. A step."""
    handle, machine = io.handle, io.machine
    if isinstance(exc, RemoteProtocolError):
        if handle._failure is None:
            handle._failure = unraised(exc)
        handle._take(Event.PEER_GONE if machine.received_eof else Event.PROTOCOL_ERROR)
    elif handle._life.state.reset:
        handle._take(Event.ACLOSE)  # PEER_RESET is its reason
    else:
        handle.abort()
    if isinstance(exc, Exception) and exc is not io.failing:
        mark(exc, method, lasts=isinstance(exc, RemoteProtocolError) and not machine.received_eof)
    io.failing = None


def _close_behind(io: ClientIO, lease: Lease) -> None:
    """Close gracefully with the end of this lease: at once where there is nothing to say."""
    life = io.handle._life
    ours = life.state.phase in _OPEN_OR_RESERVED
    io.handle._take(Event.ACLOSE)
    lease.end()
    if ours and life.state.phase is Phase.DRAINING:
        finish_closing(io)


def finish_closing(io: ClientIO) -> None:
    """The connection drains: release it, or say goodbye before that, in a service task. A step."""
    handle = io.handle
    if handle._must_wait:
        handle._owner.start_service(close_quietly, handle)
    else:
        handle._take(Event.DRAINED)
