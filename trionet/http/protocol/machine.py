"""An HTTP/1.1 connection without I/O: what both sides of it share.

A machine is given the bytes that arrive, and asked for events, one at a time (`next_event`); it gives out the bytes to
send. It holds two states, `peer` for what is read and `ours` for what is written, moved by the table in `states`. The
server's and the client's machine stand above it: they differ in which heads they read and write, and in what a head
decides about the connection.

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
from .receive_buffer import Inbox
from .states import TABLE, Half, Step

if TYPE_CHECKING:
    from .body_reader import BodyReader
    from .body_writer import BodyWriter, Buffer
    from .framing import Framing
    from .headers import HeaderInput, Headers
    from .limits import HTTPLimits

__all__ = ["Event", "H1Machine", "Signal"]


class Signal(enum.Enum):
    """What `next_event` says when there is neither a head nor a piece of a body."""

    NEED_DATA = "need data"
    """Nothing more before something is received."""
    PAUSED = "paused"
    """This message is complete; the next one is read after `start_next_cycle`."""
    ENDED = "ended"
    """The peer has ended the connection, between messages."""
    SWITCHED = "switched"
    """HTTP ends here: `take_leftover` gives what belongs to the next protocol."""

    __hash__ = object.__hash__


Event: TypeAlias = RequestHead | ResponseHead | bytes | EndOfMessage | Signal
"""What `next_event` gives."""


_IDLE: Final = Half.IDLE
_HEAD: Final = Half.HEAD
_BODY: Final = Half.BODY
_NEED_DATA: Final = Signal.NEED_DATA


class H1Machine:
    """One side of an HTTP/1.1 connection.

    Attributes:
        ours: Where the messages stand that are written.
        peer: Where the messages stand that are read.
        keep_alive: Whether the connection may carry another exchange after this one, as far as is known.
        received_eof: Whether the peer has ended its direction.
        limits: The bounds on what is read.
    """

    __slots__ = ("_fault", "_inbox", "_reader", "_writer", "keep_alive", "limits", "ours", "peer", "received_eof")

    def __init__(self, leftover: bytes = b"", limits: HTTPLimits = DEFAULT_LIMITS) -> None:
        self.ours = _IDLE
        self.peer = _IDLE
        self.keep_alive = True
        self.received_eof = False
        self.limits = limits
        self._inbox = Inbox(leftover)
        self._fault: RemoteProtocolError | None = None
        self._reader: BodyReader | None = None
        self._writer: BodyWriter | None = None

    # --- reading -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. What comes behind the last message is dropped (RFC 9112 §9.6)."""
        if self.peer in _DEAF:
            return
        if self.received_eof:
            raise LocalProtocolError("bytes after EOF")
        if data:
            self._inbox.feed(data)

    def receive_eof(self) -> None:
        """Take the peer's EOF."""
        self.received_eof = True

    def unread(self) -> bytes:
        """What was received and not read; it stays where it is."""
        return self._inbox.peek(len(self._inbox))

    def replace_unread(self, data: bytes) -> None:
        """From now on `data` is what was received and not read."""
        self._inbox = Inbox(data)

    @property
    def more(self) -> bool:
        """Whether there are bytes that were received and not read."""
        inbox = self._inbox
        return inbox.at != len(inbox.data)

    @property
    def buffered(self) -> int:
        """Bytes received and not read yet. While `PAUSED`, whoever receives has to bound them."""
        return len(self._inbox)

    def next_event(self) -> Event:
        """What comes next in the bytes received.

        Raises:
            RemoteProtocolError: the peer broke the protocol or a bound; so does every later call. What was written is
                not undone, and a server can still answer.
        """
        try:
            if self.peer is _BODY:
                return self._read_body()
            if self.peer is _IDLE or self.peer is _HEAD:
                return self._read_head()
        except RemoteProtocolError as exc:
            self._fail(exc)
            raise
        return self._read_nothing()

    def _read_head(self) -> Event:
        raise NotImplementedError

    def _read_body(self) -> Event:
        assert self._reader is not None
        got = self._reader.read(self._inbox)
        if got is None:
            if not self.received_eof:
                return _NEED_DATA
            got = self._reader.at_eof()
        if not isinstance(got, bytes):
            self._step_peer(Step.END)
            self._settle()
        return got

    def _read_nothing(self) -> Event:
        if self.peer is Half.DONE:
            return Signal.PAUSED
        if self.peer is Half.SWITCHED:
            return Signal.SWITCHED
        if self._fault is not None:
            raise RemoteProtocolError(str(self._fault), self._fault.status_hint) from self._fault
        if self.received_eof:
            self._step_peer(Step.EOF)
        return Signal.ENDED if self.peer is Half.CLOSED else _NEED_DATA

    def _cut_head(self) -> bytes | None:
        """The next head, exactly; None if it is not all there yet. What cannot become a head is refused at once."""
        inbox, limits = self._inbox, self.limits
        data = inbox.cut(b"\r\n\r\n", limits.max_head)
        if data is not None:
            self.peer = _HEAD
            return data
        if self.peer is _IDLE and not self._begins():
            return None
        if inbox.has_bare_newline():
            raise RemoteProtocolError("bare LF in a message head (RFC 9112 §2.2)")
        if len(inbox) >= limits.max_head:
            raise self._oversize(inbox.peek(limits.max_head))
        if self.received_eof:
            raise RemoteProtocolError(f"EOF in the middle of a head, after {amount(len(inbox), 'byte')} of it")
        return None

    def _begins(self) -> bool:
        """Whether the first bytes of a head are there; notes EOF if nothing came before it."""
        start = self._inbox.peek(2)
        if not start:
            if self.received_eof:
                self._end_idle()
            return False
        if not self._check_start(start):
            return False
        self._step_peer(Step.BEGIN)
        return True

    def _end_idle(self) -> None:
        """EOF where a message could have begun."""
        self._step_peer(Step.EOF)

    def _check_start(self, start: bytes) -> bool:
        """Whether a head begins with these one or two bytes; raises if none can."""
        raise NotImplementedError

    def _no_head(self) -> Event:
        return Signal.ENDED if self.peer is Half.CLOSED else _NEED_DATA

    def _oversize(self, data: bytes) -> RemoteProtocolError:
        return RemoteProtocolError(f"a head of more than {self.limits.max_head} bytes (max_head)", 431)

    def _check_fields(self, headers: Headers) -> None:
        if len(headers.raw) > self.limits.max_fields:
            raise RemoteProtocolError(
                f"{len(headers.raw)} fields in a head; at most {self.limits.max_fields} (max_fields)", 431
            )

    def _expect_body(self, framing: Framing) -> None:
        self._reader = make_reader(framing, max_trailers=self.limits.max_head, max_fields=self.limits.max_fields)
        self.peer = _BODY

    def fail(self, fault: RemoteProtocolError) -> None:
        """The peer breaks the protocol as bytes do not show, by being slow, say: as if `next_event` raised."""
        self._fail(fault)

    def _fail(self, fault: RemoteProtocolError) -> None:
        self._fault = unraised(fault)
        self._step_peer(Step.FAULT)
        self._give_up()

    # --- writing -------------------------------------------------------------------------------------------------

    def send_data(self, data: Buffer) -> Buffer:
        """The bytes to send for a piece of the body: the piece itself where nothing has to be added.

        Raises:
            LocalProtocolError: there is no body to send now, or it is longer than its head has said.
        """
        return self._present_writer().data(data)

    def send_end(self, trailers: HeaderInput | Headers = ()) -> bytes:
        """The bytes that complete the message.

        Raises:
            LocalProtocolError: there is no message to complete, it is shorter than its head has said, or it cannot
                have these trailers (they need a chunked body).
            ValueError, TypeError: a trailer cannot be sent; see `Headers`.
        """
        data = self._present_writer().end(trailers)
        self._step_ours(Step.END)
        self._settle()
        return data

    def abandon(self) -> None:
        """Give up the message that is being written: it is never completed, so the peer sees that it is torn."""
        self._step_ours(Step.FAULT)
        self._give_up()

    def _present_writer(self) -> BodyWriter:
        if self.ours is not _BODY or self._writer is None:
            raise LocalProtocolError(f"no body to send now: our side is {self.ours.value}")
        return self._writer

    # --- between exchanges ---------------------------------------------------------------------------------------

    def start_next_cycle(self) -> None:
        """Begin the next exchange: both messages of this one are complete, and the connection goes on.

        Raises:
            LocalProtocolError: one of them is not, or the connection ends with this exchange.
        """
        ours, peer = TABLE[Step.CYCLE][self.ours], TABLE[Step.CYCLE][self.peer]
        if ours is None or peer is None:
            raise LocalProtocolError(
                f"no next exchange: our side is {self.ours.value}, the peer's {self.peer.value}; both have to be done"
            )
        self.ours, self.peer = ours, peer
        self._reader = self._writer = None
        self._forget()

    def _forget(self) -> None:
        """Drop what was known about the last exchange."""
        raise NotImplementedError

    def take_leftover(self) -> bytes:
        """What was received behind the last message, exactly, and once: the next protocol's first bytes.

        Raises:
            LocalProtocolError: the connection is neither switched nor between two exchanges.
        """
        if self.peer is not Half.SWITCHED and not (self.peer is _IDLE and self.ours is _IDLE):
            raise LocalProtocolError(f"no leftover: our side is {self.ours.value}, the peer's {self.peer.value}")
        return self._inbox.clear()

    def _settle(self) -> None:
        if not self.keep_alive:
            self._step_ours(Step.LAST)
            self._step_peer(Step.LAST)

    def give_up(self) -> None:
        """The connection ends with this exchange, whatever was agreed on."""
        self._give_up()

    def _give_up(self) -> None:
        self.keep_alive = False
        self._settle()

    def _step_ours(self, step: Step) -> None:
        state = TABLE[step][self.ours]
        if state is None:
            raise LocalProtocolError(f"refused: {step.value}, while our side is {self.ours.value}")
        self.ours = state

    def _step_peer(self, step: Step) -> None:
        state = TABLE[step][self.peer]
        assert state is not None, (step, self.peer)
        self.peer = state


_DEAF: Final = frozenset({Half.MUST_CLOSE, Half.CLOSED, Half.BROKEN})
