"""An HTTP/1.1 connection without I/O: what the machines of both sides share.

A machine is given the bytes that arrive, and is asked for events, one at a time (`next_event`); it is told what to say,
and gives out the bytes to send. It holds two states, `peer_state` for what is read and `our_state` for what is written,
which change as the table in `states` says.

Events are asked for, not pushed, because the next one may depend on what is written first: behind a request that offers
an upgrade the bytes are another request or another protocol, and only the response decides. So a machine never reads
ahead of a message that is not over on both sides: it says `PAUSED`, and leaves the bytes where they are.

A fault is remembered. Once the peer has broken the protocol, the place where a next message would begin is unknown, so
every later call raises the same again; a server can still send its response, and then the connection ends.

`H1Server` and `H1Client` derive from this class. They differ in which heads they read and write and in what a head
decides about the connection, which are the methods that they override.

Events are plain values: a head, bytes of a body, `EndOfMessage`, or a `Signal`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, TypeAlias

from ...errors import LocalProtocolError, RemoteProtocolError, unraised
from ...support.texts import amount
from .body_reader import EndOfMessage, make_reader
from .head import RequestHead, ResponseHead
from .limits import DEFAULT_LIMITS
from .receive_buffer import ReceiveBuffer
from .states import BEGUN, TABLE, H1State, Transition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .body_reader import BodyReader
    from .body_writer import BodyWriter, Buffer
    from .framing import Framing
    from .headers import HeaderInput, Headers
    from .limits import HTTPLimits

__all__ = ["H1Event", "H1Machine", "Signal"]


class Signal(enum.Enum):
    """What `next_event` says when there is neither a head nor a piece of a body."""

    NEED_DATA = "need data"
    """Nothing more before something is received."""
    PAUSED = "paused"
    """This message is complete; the next one is read after `start_next_cycle`."""
    ENDED = "ended"
    """The peer has ended the connection, between messages."""
    SWITCHED = "switched"
    """HTTP ends here: what is unread belongs to the next protocol."""

    __hash__ = object.__hash__


H1Event: TypeAlias = RequestHead | ResponseHead | bytes | EndOfMessage | Signal
"""What `next_event` gives."""


_IDLE: Final = H1State.IDLE
_HEAD: Final = H1State.HEAD
_BODY: Final = H1State.BODY
_NEED_DATA: Final = Signal.NEED_DATA


class H1Machine:
    """One side of an HTTP/1.1 connection.

    Attributes:
        our_state: Where the messages stand that are written.
        peer_state: Where the messages stand that are read.
        keep_alive: Whether the connection may carry another exchange after this one, as far as is known. Others end
            it with `disable_keep_alive` or `close_after_exchange`.
        received_eof: Whether the peer has ended its direction.
        limits: The bounds on what is read.
        buffer: What was received and is not read yet. Others may look how much that is; the machine alone reads it.
    """

    __slots__ = (
        "_fault",
        "_reader",
        "_writer",
        "buffer",
        "keep_alive",
        "limits",
        "our_state",
        "peer_state",
        "received_eof",
    )

    def __init__(self, leftover: bytes = b"", limits: HTTPLimits = DEFAULT_LIMITS) -> None:
        self.our_state = _IDLE
        self.peer_state = _IDLE
        self.keep_alive = True
        self.received_eof = False
        self.limits = limits
        self.buffer = ReceiveBuffer(leftover)
        self._fault: RemoteProtocolError | None = None
        self._reader: BodyReader | None = None
        self._writer: BodyWriter | None = None

    # --- reading -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. Bytes behind the last message are dropped (RFC 9112 §9.6)."""
        if self.peer_state in _DISCARDING:
            return
        if self.received_eof:
            raise LocalProtocolError("bytes were given after EOF")
        if data:
            self.buffer.feed(data)

    def receive_eof(self) -> None:
        """Take the peer's EOF."""
        self.received_eof = True

    def unread(self) -> bytes:
        """What was received and not read; it stays where it is."""
        return self.buffer.peek(len(self.buffer))

    def replace_unread(self, data: bytes) -> None:
        """From now on `data` is what was received and not read."""
        self.buffer = ReceiveBuffer(data)

    @property
    def has_unread(self) -> bool:
        """Whether there are bytes that were received and not read."""
        buffer = self.buffer
        return buffer.at != len(buffer.data)

    @property
    def buffered(self) -> int:
        """Bytes received and not read yet. While `PAUSED`, the caller has to bound them."""
        return len(self.buffer)

    def next_event(self) -> H1Event:
        """What comes next in the bytes received.

        Raises:
            RemoteProtocolError: the peer broke the protocol, or exceeded a bound; so does every later call. What was
                written is not undone, and a server can still send its response.
        """
        try:
            if self.peer_state is _BODY:
                return self._read_body()
            if self.peer_state is _IDLE or self.peer_state is _HEAD:
                return self._read_head()
        except RemoteProtocolError as exc:
            self.fail(exc)
            raise
        return self._read_nothing()

    def _read_head(self) -> H1Event:
        raise NotImplementedError

    def _read_body(self) -> H1Event:
        assert self._reader is not None
        got = self._reader.read(self.buffer)
        if got is None:
            if not self.received_eof:
                return _NEED_DATA
            got = self._reader.at_eof()
        if not isinstance(got, bytes):
            self._move_peer(Transition.END)
            self._settle()
        return got

    def _read_nothing(self) -> H1Event:
        if self.peer_state is H1State.DONE:
            return Signal.PAUSED
        if self.peer_state is H1State.SWITCHED:
            return Signal.SWITCHED
        if self._fault is not None:
            raise RemoteProtocolError(str(self._fault), self._fault.status_hint) from self._fault
        if self.received_eof:
            self._move_peer(Transition.EOF)
        return Signal.ENDED if self.peer_state is H1State.CLOSED else _NEED_DATA

    def _cut_head(self) -> bytes | None:
        """The bytes of the next head; None if it is not all there yet. What cannot become a head is refused at once."""
        buffer, limits = self.buffer, self.limits
        data = buffer.cut(b"\r\n\r\n", limits.max_head)
        if data is not None:
            self.peer_state = BEGUN
            return data
        if self.peer_state is _IDLE and not self._begins():
            return None
        if buffer.has_bare_newline():
            raise RemoteProtocolError("bare LF in a message head (RFC 9112 §2.2)")
        if len(buffer) >= limits.max_head:
            raise self._oversize(buffer.peek(limits.max_head))
        if self.received_eof:
            raise RemoteProtocolError(f"EOF in the middle of a head, after {amount(len(buffer), 'byte')} of it")
        return None

    def _begins(self) -> bool:
        """Whether the first bytes of a head are there; notes EOF if nothing came before it."""
        start = self.buffer.peek(2)
        if not start:
            if self.received_eof:
                self._end_idle()
            return False
        if not self._check_start(start):
            return False
        self._move_peer(Transition.BEGIN)
        return True

    def _end_idle(self) -> None:
        """EOF where a message could have begun."""
        self._move_peer(Transition.EOF)

    def _check_start(self, start: bytes) -> bool:
        """Whether a head begins with these one or two bytes; raises if none can."""
        raise NotImplementedError

    def _no_head(self) -> H1Event:
        return Signal.ENDED if self.peer_state is H1State.CLOSED else _NEED_DATA

    def _oversize(self, data: bytes) -> RemoteProtocolError:
        return RemoteProtocolError(f"the head has more than {self.limits.max_head} bytes (max_head)", 431)

    def _check_fields(self, headers: Headers) -> None:
        if len(headers.raw) > self.limits.max_fields:
            raise RemoteProtocolError(
                f"{len(headers.raw)} fields in a head; at most {self.limits.max_fields} (max_fields)", 431
            )

    def _expect_body(self, framing: Framing) -> None:
        self._reader = make_reader(framing, max_trailers=self.limits.max_head, max_fields=self.limits.max_fields)

    def fail(self, fault: RemoteProtocolError) -> None:
        """The peer breaks the protocol; from outside, where no bytes show it, such as by being slow."""
        self._fault = unraised(fault)
        self._move_peer(Transition.FAULT)
        self.disable_keep_alive()

    # --- writing -------------------------------------------------------------------------------------------------

    def send_data(self, data: Buffer) -> Buffer:
        """The bytes to send for a piece of the body: the piece itself where nothing has to be added.

        Raises:
            LocalProtocolError: there is no body to send now, or it is longer than its head has said.
        """
        return self._present_writer().data(data)

    def send_parts(self, data: Buffer) -> Sequence[Buffer]:
        """As `send_data`, in the parts of one vectored send; nothing for an empty piece."""
        return self._present_writer().parts(data)

    def count_data(self, size: int) -> bool:
        """As `send_data`, of a piece that need not be in memory; False if this body's pieces have to be.

        Raises:
            LocalProtocolError: as for `send_data`.
        """
        return self._present_writer().count(size)

    def send_end(self, trailers: HeaderInput | Headers = ()) -> bytes:
        """The bytes that complete the message.

        Raises:
            LocalProtocolError: there is no message to complete, it is shorter than its head has said, or it cannot
                have these trailers (they need a chunked body).
            ValueError, TypeError: a trailer cannot be sent; see `Headers`.
        """
        data = self._present_writer().end(trailers)
        self._move_ours(Transition.END)
        self._settle()
        return data

    def _present_writer(self) -> BodyWriter:
        if self.our_state is not _BODY or self._writer is None:
            raise LocalProtocolError(f"no body to send now: our side is {self.our_state.value}")
        return self._writer

    # --- between exchanges ---------------------------------------------------------------------------------------

    def start_next_cycle(self) -> None:
        """Begin the next exchange: both messages of this one are complete, and the connection goes on.

        Raises:
            LocalProtocolError: one of them is not, or the connection ends with this exchange.
        """
        ours, peer = TABLE[Transition.CYCLE][self.our_state], TABLE[Transition.CYCLE][self.peer_state]
        if ours is None or peer is None:
            raise LocalProtocolError(
                f"no next exchange: our side is {self.our_state.value}, the peer's {self.peer_state.value}; "
                "both have to be done"
            )
        self.our_state, self.peer_state = ours, peer
        self._reader = self._writer = None
        self._forget()

    def _forget(self) -> None:
        """Drop what was known about the last exchange."""
        raise NotImplementedError

    def _settle(self) -> None:
        if not self.keep_alive:
            self._move_ours(Transition.NO_KEEP_ALIVE)
            self._move_peer(Transition.NO_KEEP_ALIVE)

    def close_after_exchange(self) -> None:
        """The connection ends with this exchange: a message that is complete stays so, and one to come says it."""
        self.keep_alive = False

    def disable_keep_alive(self) -> None:
        """The connection ends with this exchange, from now on: nothing follows a message that is complete."""
        self.keep_alive = False
        self._settle()

    def _move_ours(self, transition: Transition) -> None:
        state = TABLE[transition][self.our_state]
        if state is None:
            raise LocalProtocolError(f"refused: {transition.value}, while our side is {self.our_state.value}")
        self.our_state = state

    def _move_peer(self, transition: Transition) -> None:
        state = TABLE[transition][self.peer_state]
        assert state is not None, (transition, self.peer_state)
        self.peer_state = state


_DISCARDING: Final = frozenset({H1State.MUST_CLOSE, H1State.CLOSED, H1State.BROKEN})
