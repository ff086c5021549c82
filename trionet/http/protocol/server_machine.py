"""The server's side of an HTTP/1.1 connection, without I/O: requests in, responses out.

It decides what a program should not have to: which of the bytes behind a request are another one, when a response may
be sent, and whether the connection goes on after it. How a head is read or framed is for the modules below.

Nearly all requests are alike: HTTP/1.1, no upgrade, no Expect, a body of a known length or none, and a response with a
common status and fields that were sent before; and where the client ends the connection with the request, no body. For
those there is a fast path, which is a part of each of five methods: `receive_request`, `next_event`, `take_body`,
`respond` and `start_next_cycle` first ask whether it is open, and otherwise go the careful way, which has all the rules
and could do without the fast path. What the careful way has found out about a request is in `_fast`; whatever closes
the fast path for good (`end_soon`) closes it there. `tests/http/protocol/test_states.py` runs a machine with the fast
path beside one without, and compares all that they say and all their states.

A response can be taken back as long as not a byte of it was sent (`snapshot`, `restore`): a handler that fails before
the first piece of its stream left can still respond with an error. Taking back must not forget what was read meanwhile,
so `restore` puts the writing direction back, and of the reading direction only what the response had done to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...errors import LocalProtocolError, RemoteProtocolError
from .body_reader import CountedReader
from .body_writer import DiscardingWriter, UntilEOFWriter, make_writer
from .fast_head import fast_request
from .field_lines import FieldLines
from .framing import CLOSING_FIELDS, NO_BODY, NO_FIELDS, UNTIL_EOF
from .head import RequestHead, parse_request
from .headers import as_pairs
from .limits import DEFAULT_LIMITS
from .machine import H1Machine, Signal
from .outgoing import cached_lines, date_line
from .response_head import CONTINUE, PLAIN_LINES, compose, informational_head, switching_head
from .states import BEGUN, COMPLETE, HEAD_COMPLETE, LAST_COMPLETE, NEXT, H1State, Transition
from .syntax import TOKEN_CHARACTERS
from .target import check_same_host

if TYPE_CHECKING:
    from .body_writer import Buffer
    from .framing import FieldSummary, Framing
    from .headers import Field, HeaderInput, Headers
    from .limits import HTTPLimits
    from .machine import H1Event
    from .outgoing import OutgoingFields

__all__ = ["H1Server"]

_IDLE: Final = H1State.IDLE
_HEAD: Final = H1State.HEAD
_BODY: Final = H1State.BODY
_DONE: Final = H1State.DONE
_NEED_DATA: Final = Signal.NEED_DATA
_NOT_FAST: Final = frozenset({"HEAD", "CONNECT"})
_TOKEN_BYTES: Final = frozenset(TOKEN_CHARACTERS)
_DISCARDING: Final = DiscardingWriter()


MAX_KNOWN: Final = 4096
"""Bytes of fields that are remembered until the next request at most."""


class H1Server(H1Machine):
    """A server's HTTP/1.1 machine.

    Attributes:
        request: The head of the present request, once it is read.
        upgrade: The protocols that the request offers to switch to, lower case; none unless a switch is possible:
            HTTP/1.1, no body, `Connection: upgrade` (RFC 9110 §7.8).
        awaits_continue: Whether the client may be waiting for 100 (Continue): it has asked for that, it has not got it,
            and it has not sent a byte of its body (RFC 9110 §10.1.1).
        head_held: Whether the final head was made, and is held back by the caller: a 100 can still go ahead of it.
        ending: Whether the connection ends with the last of the requests that have arrived.
        error_fields: The fields of responses that no handler has made, to what is no request or comes too slowly.
        with_date: Whether Date is added to a response that goes the careful way.
    """

    __slots__ = (
        "_added",
        "_blank_lines",
        "_fast",
        "_framing",
        "_known",
        "_small_head",
        "awaits_continue",
        "ending",
        "error_fields",
        "head_held",
        "request",
        "upgrade",
        "with_date",
    )

    def __init__(self, leftover: bytes = b"", limits: HTTPLimits = DEFAULT_LIMITS) -> None:
        super().__init__(leftover, limits)
        self.ending = False
        self.head_held = False
        self._known: FieldLines | None = None  # the fields of the last head, if it went the fast path
        self.error_fields: HeaderInput | Headers = ()
        self.with_date = True
        # A head of so many bytes keeps all limits: a field takes four of them at least.
        self._small_head = min(limits.max_head, limits.max_target, 4 * limits.max_fields)
        self._forget()

    def _forget(self) -> None:
        self.request: RequestHead | None = None
        self.upgrade: tuple[str, ...] = ()
        self.awaits_continue = False
        self._added: dict[object, Field] | None = None
        self._blank_lines = 0
        self._framing: Framing = NO_BODY
        # Whether the fast path is open: nothing about the request needs a closer look. Then it offers no upgrade, and
        # its client does not wait for 100 (Continue), so that `start_next_cycle` has nothing of that to forget.
        self._fast = False

    def start_next_cycle(self) -> None:
        """Begin the next exchange; see `H1Machine.start_next_cycle`."""
        if self._fast and self.our_state is _DONE and self.peer_state is _DONE and self.keep_alive:
            self.our_state = self.peer_state = NEXT
            self._fast = False
            self.request = None
            self._blank_lines = 0
        else:
            super().start_next_cycle()

    def end_soon(self) -> None:
        """End the connection with the last of the requests that have arrived; its response says ``Connection: close``.

        A response behind whose request another one has begun does not say it: the client would conclude that the next
        request was not received (RFC 9112 §9.6).
        """
        self.ending = True
        self._fast = False  # the fast path does not look at `ending`
        self._small_head = -1

    @property
    def bodiless(self) -> bool:
        """Whether the present request has no body: its end needs nothing to be received."""
        return self._framing == NO_BODY

    @property
    def body_left(self) -> int:
        """Bytes of the present request's body that are not read yet; 0 if its length is not known."""
        if self.peer_state is not _BODY:
            return 0
        if self._reader is None:
            return max(0, self._framing)
        return self._reader.left if isinstance(self._reader, CountedReader) else 0

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection ends the present response (RFC 9112 §6.3)."""
        return self.our_state is _BODY and isinstance(self._writer, UntilEOFWriter)

    def snapshot(self) -> tuple[Any, ...]:
        """What `restore` needs to take back a response of which not a byte was sent."""
        return (self.our_state, self.peer_state, self.keep_alive, self._fast, self._writer)

    def restore(self, before: tuple[Any, ...]) -> None:
        """Take back the response that was begun since the snapshot; what was read since stays read.

        Above all a request that turned out to be malformed stays that: its end cannot be found.
        """
        peer = self.peer_state
        (self.our_state, was, self.keep_alive, self._fast, self._writer) = before
        self.head_held = False
        if peer is H1State.BROKEN:
            self.disable_keep_alive()
        elif was is not _BODY:
            self.peer_state = was
        elif peer is not _BODY:
            self.peer_state = COMPLETE if self.keep_alive else LAST_COMPLETE

    # --- reading -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. What comes behind the last request is dropped (RFC 9112 §9.6)."""
        if self.peer_state is _IDLE and not self.received_eof:
            self.buffer.feed(data)
            return
        if self.peer_state is _BODY:
            self.awaits_continue = False  # it did not wait
        if self.head_held and self.peer_state is H1State.MUST_CLOSE and not self.received_eof:
            self.buffer.feed(data)  # the response that would be the last one can still be taken back
        else:
            super().receive(data)

    def receive_request(self, data: bytes) -> H1Event:
        """Take bytes from a peer whose request is waited for, and say what comes next.

        The same as `receive` and `next_event`, in one call for a request that comes whole and alone.
        """
        buffer = self.buffer
        if self.peer_state is not _IDLE or buffer.at != len(buffer.data) or self.received_eof:
            self.receive(data)
            return self.next_event()
        fast = fast_request(data, 0, self._known)
        if fast is not None:
            head, end = fast
            if end <= self._small_head or self._within_limits(head, end):
                if end != len(data):
                    buffer.feed(data)
                    buffer.at = end
                self._begin_fast(head)
                return head
        buffer.feed(data)
        return super().next_event()

    def next_event(self) -> H1Event:
        """What comes next in the bytes received; see `H1Machine.next_event`."""
        if self.peer_state is _IDLE:
            buffer = self.buffer
            data, at = buffer.data, buffer.at
            if at == len(data):
                if not self.received_eof:
                    return _NEED_DATA
            # A head in one piece. One that trickles in is for a search that is resumed, not begun anew with each piece.
            elif (
                not buffer.searched
                and type(data) is bytes
                and (fast := fast_request(data, at, self._known)) is not None
            ):
                head, end = fast
                if end - at <= self._small_head or self._within_limits(head, end - at):
                    buffer.at = end
                    self._begin_fast(head)
                    return head
        return super().next_event()

    def _begin_fast(self, head: RequestHead) -> None:
        """As `_begin`, for a head that leaves nothing to be looked at but a Content-Length."""
        self.request = head
        if type(lines := head._headers) is FieldLines:
            self._known = lines if len(lines.wire) <= MAX_KNOWN else None
        fields = head.fields
        if fields is NO_FIELDS or fields is None:
            self._framing = NO_BODY
        else:
            self._framing = fields.length or NO_BODY
            if fields is CLOSING_FIELDS:
                self.keep_alive = False
        self._reader = None
        self.peer_state, self.our_state = HEAD_COMPLETE, BEGUN
        self._fast = head.method != "HEAD"  # nor is it CONNECT

    def forget_fields(self) -> None:
        """Keep nothing of the last request: its connection is idle."""
        self._known = None

    def take_body(self, most: int) -> bytes | None:
        """The whole body at once, if its length is known, at most `most`, and all of it is there; else None.

        What `next_event` gives in two steps, on the fast path.
        """
        size, buffer = self._framing, self.buffer
        if self._reader is not None or not 0 <= size <= most or len(buffer.data) - buffer.at < size:
            return None
        if self.peer_state is not _BODY or self.our_state is not _HEAD or not self.keep_alive:
            return None
        self.peer_state = COMPLETE
        return buffer.take(size)

    def _read_body(self) -> H1Event:
        if self._reader is None:  # not before it is needed: `take_body` does without
            self._expect_body(self._framing)
        return super()._read_body()

    def _within_limits(self, head: RequestHead, size: int) -> bool:
        limits = self.limits
        return (
            not self.ending
            and size <= limits.max_head
            and len(head.target) <= limits.max_target
            and (size <= 4 * limits.max_fields or head.field_count <= limits.max_fields)
        )

    def _read_head(self) -> H1Event:
        if self.peer_state is _IDLE:
            self._skip_blank_lines()
        data = self._cut_head()
        if data is None:
            return self._no_head()
        head = parse_request(data, any_method=self.limits.any_method)
        self._check_fields(head.headers)
        if len(head.target) > self.limits.max_target:
            raise self._long_target()
        assert head.fields is not None
        self._begin(head, head.fields)
        return head

    def _begin(self, head: RequestHead, fields: FieldSummary) -> None:
        framing = fields.of_request(head.method, head.http_version)
        if head.target[0] != "/":
            check_same_host(head.target, head.headers.get("Host"))
        self.request = head
        self.peer_state, self.our_state = HEAD_COMPLETE, BEGUN
        self._framing = framing
        self._reader = None
        if not fields.persists(head.http_version) and head.method != "CONNECT":
            self.keep_alive = False  # CONNECT: its response decides
        if head.http_version == "1.1" and framing == NO_BODY and self.keep_alive and b"upgrade" in fields.options:
            self.upgrade = tuple(name.decode("latin-1") for name in fields.upgrade)
        if fields.expect and framing != NO_BODY and head.http_version == "1.1":
            self.awaits_continue = b"100-continue" in fields.expect and not len(self.buffer)
        self._fast = (
            self.keep_alive
            and not self.ending
            and head.http_version == "1.1"
            and head.method not in _NOT_FAST
            and not self.upgrade
            and not self.awaits_continue
        )

    def _skip_blank_lines(self) -> None:
        most = self.limits.max_blank_lines
        self._blank_lines += self.buffer.skip_lines(most + 1 - self._blank_lines)
        if self._blank_lines > most:
            raise RemoteProtocolError(f"more than {most} empty lines before a request (max_blank_lines)")

    def _check_start(self, start: bytes) -> bool:
        if start == b"\r" and not self.received_eof:
            return False  # half an empty line
        if start[0] not in _TOKEN_BYTES:
            raise RemoteProtocolError(f"a request does not begin with {start!r}")
        return True

    def _oversize(self, data: bytes) -> RemoteProtocolError:
        end = data.find(b"\r\n")
        if end < 0 or end > self.limits.max_target + 64:  # with method and version
            return self._long_target()
        return super()._oversize(data)

    def _long_target(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"the target has more than {self.limits.max_target} characters (max_target)", 414)

    def fail(self, fault: RemoteProtocolError) -> None:
        """See `H1Machine.fail`; a response can tell the client."""
        super().fail(fault)
        if self.our_state is H1State.IDLE:
            self.our_state = BEGUN

    # --- writing -------------------------------------------------------------------------------------------------

    def invite_body(self) -> bytes:
        """The bytes of 100 (Continue), for a client that `awaits_continue`. They go ahead of a head that is held back.

        Raises:
            LocalProtocolError: the final head has left without it, so that the client need not send the body any more.
        """
        if self.our_state is not _HEAD and not self.head_held:
            raise LocalProtocolError(
                "the body may never come: its client waits for 100 (Continue), and the head of the response has left "
                "without it (RFC 9110 §10.1.1); read before the response begins, or before the first piece of a stream"
            )
        self.awaits_continue = False
        return CONTINUE

    def inform(self, status: int, headers: HeaderInput | Headers = ()) -> bytes:
        """The bytes of an informational response; none for HTTP/1.0, which has no such responses (RFC 9110 §15.2).

        Raises:
            LocalProtocolError: no request waits for its response, or the status is not 1xx. For 101: `switch`.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        head = informational_head(status, headers)
        self._move_ours(Transition.INFORM)
        if status == 100:
            self.awaits_continue = False
        if self.request is None or self.request.http_version == "1.0":
            return b""
        return head

    def respond(
        self,
        status: int,
        headers: HeaderInput | Headers = (),
        body: Buffer = b"",
        *,
        reason: str | None = None,
    ) -> bytes:
        """The bytes of a whole response. Raises what `send_head` raises.

        If more of the request's body is unread than would be read and dropped, the connection ends with the response,
        which says so: a client that has sent all of that body would send its next request behind it (RFC 9112 §9.6).
        """
        # The fast path: a plain response to a plain request. `_respond` has the rules.
        if (
            self._fast
            and self.our_state is _HEAD
            and (self.keep_alive or (self._framing == NO_BODY and self.peer_state is _BODY))
            and not self.received_eof
            and (self._framing <= self.limits.drain_bytes or self.peer_state is not _BODY)
            and type(body) is bytes
            and reason is None
        ):
            line, lines = PLAIN_LINES.get(status), cached_lines(headers)
            if line is not None and lines is not None:
                length = b"Content-Length: %d\r\n" % len(body)
                if not self.keep_alive:
                    self.our_state = self.peer_state = LAST_COMPLETE
                    return b"".join((line, lines, length, date_line(), b"Connection: close\r\n\r\n", body))
                self.our_state = COMPLETE
                if self._framing == NO_BODY and self.peer_state is _BODY:
                    self.peer_state = COMPLETE
                return b"".join((line, lines, length, date_line(), b"\r\n", body))
        return self._respond(status, headers, body, reason)

    def _respond(self, status: int, headers: HeaderInput | Headers, body: Buffer, reason: str | None) -> bytes:
        size = body.nbytes if isinstance(body, memoryview) else len(body)
        last = self.body_left > self.limits.drain_bytes
        parts, framing = self._begin_response(status, headers, size, reason, last=last)
        if framing:  # all of it is here, so it needs no writer
            parts.append(body)
        self.our_state = COMPLETE
        if self._framing == NO_BODY and self.peer_state is _BODY:
            self.peer_state = COMPLETE
        if not self.keep_alive:
            self._settle()
        return b"".join(parts)

    def send_head(
        self,
        status: int,
        headers: HeaderInput | Headers = (),
        *,
        length: int | None = None,
        reason: str | None = None,
        held: bool = False,
    ) -> bytes:
        """The bytes of a response's head.

        Args:
            status: 200 to 999.
            headers: Date, Connection, Content-Length and Transfer-Encoding are added as they are needed. A
                Content-Length that is given counts as `length`; `Connection: close` ends the connection.
            length: Bytes of the body. None: not known; it is sent in chunks, or to HTTP/1.0 until EOF.
            reason: The reason phrase; that of the status if None.
            held: Whether the caller holds the head back until it calls `head_leaves`; until then a 100 (Continue) can
                go ahead of it, and `restore` can take it back.

        Raises:
            LocalProtocolError: no request waits for its response, or the fields do not fit the status or the length.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        parts, framing = self._begin_response(status, headers, length, reason)
        request = self.request
        head_only = request is not None and request.method == "HEAD"
        self._writer = _DISCARDING if head_only else make_writer(framing)
        self.head_held = held
        return b"".join(parts)

    def head_leaves(self) -> None:
        """The head that was held back is sent now, and cannot be taken back any more."""
        self.head_held = False

    def add_field(self, key: object, field: Field) -> None:
        """Put a field into the final head, beside those that are given for it; of two with one key it is the later.

        Raises:
            LocalProtocolError: the head was made already.
        """
        if self.our_state is not H1State.HEAD:
            raise LocalProtocolError(f"{field[0]!s} comes too late: the response has begun")
        if self._added is None:
            self._added = {}
        self._added.pop(key, None)
        self._added[key] = field
        self._fast = False  # the fast path does not look at them

    def with_added(self, headers: HeaderInput | Headers) -> HeaderInput | Headers:
        """The fields of the final head: these, and those of `add_field`."""
        return headers if self._added is None else [*as_pairs(headers), *self._added.values()]

    def _begin_response(
        self, status: int, headers: HeaderInput | Headers, length: int | None, reason: str | None, *, last: bool = False
    ) -> tuple[list[Buffer], Framing]:
        """Begin a response: the parts of its head, and how its body is framed. If it is the `last`, it says so."""
        if self.our_state is not H1State.HEAD:
            raise LocalProtocolError(f"no request waits for a response: our side is {self.our_state.value}")
        parts, fields, framing = compose(self.request, status, self.with_added(headers), length, reason)
        keep_alive = not last and self._goes_on(fields, framing)
        if self.with_date and b"date" not in fields.picked:
            parts.append(date_line())
        if not keep_alive:
            if b"close" not in fields.tokens(b"connection"):
                parts.append(b"Connection: close\r\n")
        elif self.request is not None and self.request.http_version == "1.0":
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(b"\r\n")
        self._move_ours(Transition.HEAD)
        if not keep_alive:
            self.disable_keep_alive()
        return parts, framing

    def _goes_on(self, fields: OutgoingFields, framing: Framing) -> bool:
        """Whether the connection carries another request after this response (RFC 9112 §9.3)."""
        if not self.keep_alive or framing == UNTIL_EOF or b"close" in fields.tokens(b"connection"):
            return False
        if self.awaits_continue:
            return False  # the body may come after all, or not (RFC 9110 §10.1.1)
        if self.ending and not (self.has_unread and (self._framing == NO_BODY or self.peer_state is _DONE)):
            return False
        if self.received_eof and not len(self.buffer):
            return False
        # What follows a refused CONNECT may be meant for the tunnel; it must not be taken for requests.
        return self.request is not None and self.request.method != "CONNECT"

    def switch_head(self, headers: HeaderInput | Headers = (), *, status: int = 101) -> bytes:
        """The bytes that accept an upgrade (101) or CONNECT (2xx), and leave the states as they are.

        Once they are sent HTTP ends here, and with it this machine: `unread` is the next protocol's first input.

        Args:
            headers: For 101 they name the protocol in Upgrade, one that `upgrade` offers; Connection is added.
            status: 101, or a 2xx for CONNECT.

        Raises:
            LocalProtocolError: the request does not allow it, is not read to its end, or has a response already.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        head = switching_head(self.request, self.upgrade, status, self.with_added(headers))
        if self.our_state is not H1State.HEAD or self.peer_state is not H1State.DONE:
            raise LocalProtocolError(
                f"no switch of protocols: our side is {self.our_state.value}, the request {self.peer_state.value}"
            )
        return head
