"""One message for many WebSockets, without waiting for any of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from trio.lowlevel import enable_ki_protection

from ..ownership import Phase, Send
from ..support.checks import check_count, check_kind
from .connection import WebSocket
from .protocol.frames import FIN, build
from .protocol.writer import payload_of

__all__ = ["broadcast"]


@enable_ki_protection
def broadcast(
    websockets: Iterable[WebSocket],
    message: str | bytes | bytearray | memoryview,
    *,
    when_slow: Literal["skip", "close"] = "skip",
    max_buffered: int = 2**20,
) -> list[WebSocket]:
    """Send `message` to all of `websockets`, and wait for none. A step: one call, and all have been seen to.

    The frame is built once for all servers' sides (a client's is masked anew each time), and is not compressed. What
    a peer does not take at once waits in a buffer of its WebSocket, in front of messages that are sent later.

    Args:
        websockets: Any number. Those that are closed or closing are passed over.
        message: str as text, anything else as binary.
        when_slow: What becomes of a WebSocket in whose buffer there is no room: "skip" leaves this message out,
            "close" closes it with 1013 (try again later).
        max_buffered: Bytes that may wait for one peer. A message always fits into an empty buffer.

    Returns:
        The WebSockets that it was not sent to, because they are too slow, or closed.

    Raises:
        TypeError, LocalProtocolError: as `WebSocket.send_message`; nothing was sent.
        ValueError: `when_slow` is something else.

    Source: RFC 6455 §5.4, §7.4.1.
    """
    if when_slow not in ("skip", "close"):
        raise ValueError(f"when_slow must be 'skip' or 'close', not {when_slow!r}")
    if not isinstance(websockets, Iterable):
        raise TypeError(f"websockets must be an iterable of WebSockets, not {websockets!r}; write [websocket]")
    check_count("max_buffered", max_buffered)
    opcode, payload = payload_of(message)
    frame = build(FIN | opcode, payload, mask=False)
    missed = []
    websockets = [check_kind("websockets", websocket, WebSocket, "WebSockets") for websocket in websockets]
    if websockets:
        websockets[0]._owner.check_run("broadcast")
    for websocket in websockets:
        life = websocket._life
        if life.state.phase is not Phase.OPEN or life.state.send is Send.BROKEN or life.state.reset:
            missed.append(websocket)
        elif not websocket._sender.post(
            websocket, build(FIN | opcode, payload, mask=True) if websocket.is_client else frame, max_buffered
        ):
            missed.append(websocket)
            if when_slow == "close":
                websocket._close_handshake.give_up_slow(websocket)
    return missed
