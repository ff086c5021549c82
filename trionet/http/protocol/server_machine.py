"""The server's side of an HTTP/1.1 connection, without I/O: requests in, responses out.

It decides what a program should not have to: how a response is framed (by version, method and status), whether the
connection goes on after it, and which of the bytes behind a request are another one.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ...errors import LocalProtocolError, RemoteProtocolError
from .body_reader import CountedReader
from .body_writer import DiscardingWriter, UntilEOFWriter, make_writer
from .fast_head import fast_request
from .framing import CHUNKED, NO_BODY, NO_FIELDS, UNTIL_EOF
from .head import RequestHead, parse_request
from .limits import DEFAULT_LIMITS
from .machine import H1Machine, Signal
from .outgoing import OutgoingFields, cached_lines, date_line, status_line
from .states import BEGUN, COMPLETE, HEAD_COMPLETE, LAST_COMPLETE, NEXT, H1State, Transition
from .syntax import TOKEN_CHARACTERS
from .target import check_same_host

if TYPE_CHECKING:
    from .body_writer import Buffer
    from .framing import FieldSummary, Framing
    from .headers import HeaderInput, Headers
    from .limits import HTTPLimits
    from .machine import H1Event

__all__ = ["H1Server"]

_IDLE: Final = H1State.IDLE
_HEAD: Final = H1State.HEAD
_BODY: Final = H1State.BODY
_DONE: Final = H1State.DONE
_NEED_DATA: Final = Signal.NEED_DATA
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_LINES: Final = {status: status_line(status, reason) for status, reason in _REASONS.items()}
_EMPTY: Final = frozenset({204, 205, 304})
_FAST_LINES: Final = {status: line for status, line in _LINES.items() if status >= 200 and status not in _EMPTY}
_NOT_FAST: Final = frozenset({"HEAD", "CONNECT"})
_TOKEN_BYTES: Final = frozenset(TOKEN_CHARACTERS)
_DISCARDING: Final = DiscardingWriter()
_CONTINUE: Final = _LINES[100] + b"\r\n"


class H1Server(H1Machine):
    """A server's HTTP/1.1 machine.

    Attributes:
        request: The head of the present request, once it is read.
        upgrade: The protocols that the request offers to switch to, lower case; none unless a switch is possible:
            HTTP/1.1, no body, `Connection: upgrade` (RFC 9110 §7.8).
        awaits_continue: Whether the client may be waiting for 100 (Continue): it has asked for that, it has not got it,
            and it has not sent a byte of its body (RFC 9110 §10.1.1).
        head_held: Whether the final head is made, and held back by whoever made it: a 100 can still go ahead of it.
        ending: Whether the connection ends with the last of the requests that have come.
        with_date: Whether Date is added to a response that goes the careful way.
    """

    __slots__ = (
        "_blank_lines",
        "_fast",
        "_framing",
        "_small_head",
        "awaits_continue",
        "ending",
        "head_held",
        "request",
        "upgrade",
        "with_date",
    )

    def __init__(self, leftover: bytes = b"", limits: HTTPLimits = DEFAULT_LIMITS) -> None:
        super().__init__(leftover, limits)
        self.ending = False
        self.head_held = False
        self.with_date = True
        # A head of so many bytes keeps all limits: a field takes four of them at least.
        self._small_head = min(limits.max_head, limits.max_target, 4 * limits.max_fields)
        self._forget()

    def _forget(self) -> None:
        self.request: RequestHead | None = None
        self.upgrade: tuple[str, ...] = ()
        self.awaits_continue = False
        self._blank_lines = 0
        self._framing: Framing = NO_BODY
        # Whether nothing about the request keeps the fast path from being right; then there is no upgrade
        # to forget either, and nobody waits for 100 (Continue).
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
        """The answer to the last of the requests that have come says so (``Connection: close``), and ends this.

        One behind which another has begun does not: its client would take that for not received (RFC 9112 §9.6).
        """
        self.ending = True
        self._fast = False  # the short ways ask for no such thing
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
        """Whether nothing but the end of the connection ends the present answer (RFC 9112 §6.3)."""
        return self.our_state is _BODY and isinstance(self._writer, UntilEOFWriter)

    def snapshot(self) -> tuple[Any, ...]:
        """What `restore` needs to take an answer back of which not a byte was sent."""
        return (self.our_state, self.peer_state, self.keep_alive, self._fast, self._writer)

    def restore(self, before: tuple[Any, ...]) -> None:
        """Take back the answer that was begun since the snapshot; what was read since stays read.

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
            self._buffer.feed(data)
            return
        if self.peer_state is _BODY:
            self.awaits_continue = False  # it did not wait
        super().receive(data)

    def next_event(self) -> H1Event:
        """What comes next in the bytes received; see `H1Machine.next_event`."""
        if self.peer_state is _IDLE:
            buffer = self._buffer
            data, at = buffer.data, buffer.at
            if at == len(data):
                if not self.received_eof:
                    return _NEED_DATA
            # A head in one piece; what trickles in is for a search that is resumed, not begun anew with each piece.
            elif not buffer.searched and type(data) is bytes and (fast := fast_request(data, at)) is not None:
                head, end = fast
                if end - at <= self._small_head or self._within_limits(head, end - at):
                    buffer.at = end
                    self.request = head  # from here on `_begin`, with nothing but a Content-Length to be looked at
                    fields = head.fields
                    self._framing = NO_BODY if fields is NO_FIELDS or fields is None else fields.length or NO_BODY
                    self._reader = None
                    self.peer_state, self.our_state = HEAD_COMPLETE, BEGUN
                    self._fast = head.method != "HEAD"  # nor is it CONNECT
                    return head
        return super().next_event()

    def take_body(self, most: int) -> bytes | None:
        """The whole body at once, if its length is known, at most `most`, and all of it is there; else None.

        What `next_event` gives in two steps, on the fast path.
        """
        size, buffer = self._framing, self._buffer
        if self._reader is not None or not 0 <= size <= most or len(buffer.data) - buffer.at < size:
            return None
        if self.peer_state is not _BODY or self.our_state is not _HEAD or not self.keep_alive:
            return None
        self.peer_state = COMPLETE
        return buffer.take(size)

    def _read_body(self) -> H1Event:
        if self._reader is None:  # made when it is needed: for a body that `take_body` gives it never is
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
            self.keep_alive = False  # CONNECT: its answer decides
        if head.http_version == "1.1" and framing == NO_BODY and self.keep_alive and b"upgrade" in fields.options:
            self.upgrade = tuple(name.decode("latin-1") for name in fields.upgrade)
        if fields.expect and framing != NO_BODY and head.http_version == "1.1":
            self.awaits_continue = b"100-continue" in fields.expect and not len(self._buffer)
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
        self._blank_lines += self._buffer.skip_lines(most + 1 - self._blank_lines)
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
        return RemoteProtocolError(f"a target of more than {self.limits.max_target} characters (max_target)", 414)

    def fail(self, fault: RemoteProtocolError) -> None:
        """See `H1Machine.fail`; a response can tell the client."""
        super().fail(fault)
        if self.our_state is H1State.IDLE:
            self.our_state = BEGUN

    # --- writing -------------------------------------------------------------------------------------------------

    def invite_body(self) -> bytes:
        """The bytes of 100 (Continue), for a client that `awaits_continue`: they go ahead of a head that is held back.

        Raises:
            LocalProtocolError: the final head has left without it, so that the client need not send the body any more.
        """
        if self.our_state is not _HEAD and not self.head_held:
            raise LocalProtocolError(
                "the body may never come: its client waits for 100 (Continue), and the answer's head has left without "
                "it (RFC 9110 §10.1.1); read before the answer begins, or before the first piece of a stream"
            )
        self.awaits_continue = False
        return _CONTINUE

    def inform(self, status: int, headers: HeaderInput | Headers = ()) -> bytes:
        """The bytes of an informational response; none to HTTP/1.0, which knows none (RFC 9110 §15.2).

        Raises:
            LocalProtocolError: no request waits for its answer, or this is no informational status. For 101: `switch`.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        if not 100 <= _checked_status(status) < 200 or status == 101:
            remedy = "; upgrade() switches protocols" if status == 101 else ""
            raise LocalProtocolError(f"status must be that of an informational response, 1xx, not {status}{remedy}")
        fields = OutgoingFields(headers)
        if b"content-length" in fields.picked:
            raise LocalProtocolError("Content-Length in an informational response (RFC 9110 §8.6)")
        line = _first_line(status, None)
        self._move_ours(Transition.INFORM)
        if status == 100:
            self.awaits_continue = False
        if self.request is None or self.request.http_version == "1.0":
            return b""
        return b"%b%b\r\n" % (line, b"".join(fields.lines))

    def respond(
        self,
        status: int,
        headers: HeaderInput | Headers = (),
        body: Buffer = b"",
        *,
        reason: str | None = None,
    ) -> bytes:
        """The bytes of a whole response. Raises what `send_head` raises.

        Where more of the request's body is unread than is dropped behind a response, the connection ends with it. It
        says so, since a client that has sent all of that body would send the next request behind it (RFC 9112 §9.6).
        """
        most = self.limits.drain_bytes
        too_much = self._framing > most and self.peer_state is _BODY and self.body_left > most
        if self._fast and self.our_state is _HEAD and type(body) is bytes and self.keep_alive and not too_much:
            line = _FAST_LINES.get(status)
            lines = cached_lines(headers)
            if line is not None and lines is not None and reason is None and not self.received_eof:
                self.our_state = COMPLETE
                if self._framing == NO_BODY and self.peer_state is _BODY:
                    self.peer_state = COMPLETE
                return b"".join((line, lines, b"Content-Length: %d\r\n" % len(body), date_line(), b"\r\n", body))
        size = body.nbytes if isinstance(body, memoryview) else len(body)
        parts, framing = self._begin_response(status, headers, size, reason, last=too_much)
        if framing:  # without a body's writer: all of it is here
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
    ) -> bytes:
        """The bytes of a response's head.

        Args:
            status: 200 to 999.
            headers: Date, Connection, Content-Length and Transfer-Encoding are added as they are needed. A
                Content-Length that is given counts as `length`; `Connection: close` ends the connection.
            length: Bytes of the body. None: not known; it is sent in chunks, or to HTTP/1.0 until EOF.
            reason: The reason phrase; that of the status if None.

        Raises:
            LocalProtocolError: no request waits for its answer, or the fields do not fit the status or the length.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        parts, framing = self._begin_response(status, headers, length, reason)
        self._writer = _DISCARDING if self._head_only else make_writer(framing)
        return b"".join(parts)

    def _begin_response(
        self, status: int, headers: HeaderInput | Headers, length: int | None, reason: str | None, *, last: bool = False
    ) -> tuple[list[Buffer], Framing]:
        """Take the step to a response's body: the parts of the head, and how the body is framed.

        The connection ends with the `last` one.
        """
        if self.our_state is not H1State.HEAD:
            raise LocalProtocolError(f"no request waits for an answer: our side is {self.our_state.value}")
        if not 200 <= _checked_status(status) <= 999:
            remedy = "; inform() sends 1xx" if 100 <= status < 200 else ""
            raise LocalProtocolError(f"status must be that of a final response, 200 to 999, not {status!r}{remedy}")
        fields = OutgoingFields(headers)
        parts: list[Buffer] = [_first_line(status, reason), *fields.lines]
        framing = self._frame(status, fields, length, parts)
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
        return parts, NO_BODY if self._head_only else framing

    @property
    def _head_only(self) -> bool:
        return self.request is not None and self.request.method == "HEAD"

    def _frame(self, status: int, fields: OutgoingFields, length: int | None, parts: list[Buffer]) -> Framing:
        """How the body is framed; adds the field that says so (RFC 9112 §6, RFC 9110 §8.6)."""
        request, given = self.request, b"content-length" in fields.picked
        if status < 300 and request is not None and request.method == "CONNECT":
            # Any client can send a CONNECT, to a handler that never thought of one (RFC 9110 §9.3.6).
            raise RemoteProtocolError(
                f"CONNECT asks for a tunnel, so {status} cannot be answered to it as if it were a request; "
                f"upgrade(to_connection()) opens a tunnel",
                501,
            )
        if status in (204, 304):
            if length or (given and status == 204):
                raise LocalProtocolError(f"{status} has no body; nor has 204 a Content-Length (RFC 9110 §8.6)")
            fields.length(None)  # with 304 it is the one that 200 would have had
            return NO_BODY
        if status == 205:
            if fields.length(length):
                raise LocalProtocolError("205 has no content (RFC 9110 §15.3.6)")
            length = 0
        head_only = self._head_only
        length = fields.length(length or None if head_only else length)
        if head_only and length is None:
            return NO_BODY  # an empty body may as well be one left out: its length is not told
        if length is not None:
            if not given:
                parts.append(b"Content-Length: %d\r\n" % length)
            return length
        if request is None or request.http_version == "1.0":
            return UNTIL_EOF
        parts.append(b"Transfer-Encoding: chunked\r\n")
        return CHUNKED

    def _goes_on(self, fields: OutgoingFields, framing: Framing) -> bool:
        """Whether the connection carries another request after this response (RFC 9112 §9.3)."""
        if not self.keep_alive or framing == UNTIL_EOF or b"close" in fields.tokens(b"connection"):
            return False
        if self.awaits_continue:
            return False  # whether the body comes after all, nobody knows (RFC 9110 §10.1.1)
        if self.ending and not (self.has_unread and (self._framing == NO_BODY or self.peer_state is _DONE)):
            return False
        if self.received_eof and not len(self._buffer):
            return False
        # What follows a refused CONNECT may be meant for the tunnel; it must not be taken for requests.
        return self.request is not None and self.request.method != "CONNECT"

    def switch(self, headers: HeaderInput | Headers = (), *, status: int = 101) -> bytes:
        """The bytes that accept an upgrade (101) or CONNECT (2xx). HTTP ends here; see `take_leftover`.

        Arguments and errors: as for `switch_head`.
        """
        data = self.switch_head(headers, status=status)
        self._move_ours(Transition.SWITCH)
        self._move_peer(Transition.SWITCH)
        return data

    def switch_head(self, headers: HeaderInput | Headers = (), *, status: int = 101) -> bytes:
        """The bytes that accept an upgrade (101) or CONNECT (2xx), without taking the step.

        Args:
            headers: For 101 they name the protocol in Upgrade, one that `upgrade` offers; Connection is added.
            status: 101, or a 2xx for CONNECT.

        Raises:
            LocalProtocolError: the request does not allow it, is not read to its end, or is answered already.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        fields = OutgoingFields(headers)
        parts = [_first_line(status, None), *fields.lines]
        if status == 101:
            chosen = fields.tokens(b"upgrade")
            if not chosen or not {name.decode("latin-1") for name in chosen} <= {*self.upgrade}:
                raise LocalProtocolError(f"101 to {chosen}, where the request offers {list(self.upgrade)}")
            if b"upgrade" not in fields.tokens(b"connection"):
                parts.append(b"Connection: Upgrade\r\n")
        elif not 200 <= status < 300 or self.request is None or self.request.method != "CONNECT":
            raise LocalProtocolError(f"{status} switches no protocol here: 101 after Upgrade does, 2xx after CONNECT")
        if b"content-length" in fields.picked:
            raise LocalProtocolError("Content-Length, where no body can follow (RFC 9110 §8.6)")
        if self.our_state is not H1State.HEAD or self.peer_state is not H1State.DONE:
            raise LocalProtocolError(
                f"no switch: our side is {self.our_state.value}, the request {self.peer_state.value}"
            )
        parts.append(b"\r\n")
        return b"".join(parts)


def _checked_status(status: Any) -> int:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"status must be an int such as 200, without a reason phrase, not {status!r}")
    return status


def _first_line(status: int, reason: str | None) -> bytes:
    if reason is None:
        return _LINES.get(status) or status_line(status, "")
    return status_line(status, reason)
