"""The client's side of an HTTP/1.1 connection, without I/O: requests out, responses in.

A connection that is used again has to be proved fit for it: both messages complete, nothing behind the response, no
objection of either side. Bytes that come without a request are a fault, for they would be taken for the response to the
next one: that is how one user is given what is meant for another.

The server may respond before it has read the request, and the connection cannot be used again then unless the request
is sent to its end all the same; so the two directions are followed apart, and `reusable` asks for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...errors import LocalProtocolError, RemoteProtocolError
from .body_reader import EMPTY
from .body_writer import make_writer
from .framing import NO_BODY, UNTIL_EOF, FieldSummary
from .head import parse_response
from .limits import DEFAULT_LIMITS
from .machine import H1Machine
from .prepared_request import PreparedRequest
from .states import COMPLETE, HEAD_COMPLETE, LAST_COMPLETE, NEXT, H1State, Transition

if TYPE_CHECKING:
    from .body_writer import Buffer
    from .framing import Framing
    from .head import ResponseHead
    from .headers import HeaderInput, Headers
    from .limits import HTTPLimits
    from .machine import H1Event

__all__ = ["H1Client"]

_IDLE: Final = H1State.IDLE
_HEAD: Final = H1State.HEAD
_BODY: Final = H1State.BODY
_DONE: Final = H1State.DONE
_NOTHING: Final = make_writer(NO_BODY)  # stateless, so one does for all


class H1Client(H1Machine):
    """A client's HTTP/1.1 machine.

    Attributes:
        method: The method of the present request; empty before it is sent.
        upgrade: The protocols that the present request offers to switch to, lower case.
        awaits_continue: Whether the body is to be held back until 100 (Continue), a final response or a timeout comes
            (RFC 9110 §10.1.1).
        framing: How the body of the present response is framed.
    """

    __slots__ = ("_informed", "awaits_continue", "framing", "method", "upgrade")

    def __init__(self, leftover: bytes = b"", limits: HTTPLimits = DEFAULT_LIMITS) -> None:
        super().__init__(leftover, limits)
        self._forget()

    def _forget(self) -> None:
        self.method = ""
        self.upgrade: tuple[bytes, ...] = ()
        self.awaits_continue = False
        self.framing: Framing = NO_BODY
        self._informed = 0

    @property
    def reusable(self) -> bool:
        """Whether this exchange is complete, and proves that the connection can carry another one."""
        done = self.our_state is _DONE and self.peer_state is _DONE
        return done and self.keep_alive and not len(self.buffer) and not self.received_eof

    def start_next_cycle(self) -> None:
        """Begin the next exchange; see `H1Machine.start_next_cycle`.

        Raises:
            LocalProtocolError: a message is not complete, or the connection ends with this exchange.
            RemoteProtocolError: there are bytes behind the response.
        """
        if len(self.buffer) and self.peer_state is _DONE:
            fault = RemoteProtocolError(f"unexpected bytes behind the response: {self.buffer.peek(32)!r}")
            self.fail(fault)
            raise fault
        if self.our_state is _DONE and self.peer_state is _DONE:
            self.our_state = self.peer_state = NEXT
            self._reader = self._writer = None
            self._forget()
        else:
            super().start_next_cycle()

    # --- writing -------------------------------------------------------------------------------------------------

    def request(self, method: str, target: str, headers: HeaderInput | Headers, body: Buffer = b"") -> bytes:
        """The bytes of a whole request. Raises what `send_head` raises."""
        return self.send_request(PreparedRequest(method, target, headers), body)

    def send_head(self, method: str, target: str, headers: HeaderInput | Headers, *, length: int | None = 0) -> bytes:
        """The bytes of a request's head.

        Args:
            method: A token, as upper case as it is meant.
            target: What stands in the request line: a path with its query, an absolute URL, ``*``, ``host:port``.
            headers: Host is among them. Content-Length and Transfer-Encoding are added as they are needed.
            length: Bytes of the body; 0 also where the fields tell. None: not known; it is sent in chunks.

        Raises:
            LocalProtocolError: the last exchange is not over, or the head cannot be sent.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        prepared = PreparedRequest(method, target, headers)
        if prepared.length is not None:
            length = length or None
        return self.begin(prepared, prepared.framing(length))

    def begin(self, prepared: PreparedRequest, framing: Framing) -> bytes:
        """The bytes of a prepared head, for a body that is framed in this way.

        Raises:
            LocalProtocolError: the last exchange is not over, or the connection ends with it.
        """
        if self.our_state is not _IDLE or self.peer_state is not _IDLE or not self.keep_alive:
            raise LocalProtocolError(
                f"no request now: our side is {self.our_state.value}, the peer's {self.peer_state.value}"
            )
        self.our_state = HEAD_COMPLETE
        self.method = prepared.method
        if prepared.closes:
            self.keep_alive = False
        if framing == NO_BODY:
            self._writer = _NOTHING
            self.upgrade = prepared.upgrade
        else:
            self._writer = make_writer(framing)
            self.awaits_continue = prepared.expects
        return prepared.head(framing)

    def send_request(self, prepared: PreparedRequest, body: Buffer = b"") -> bytes:
        """The bytes of a whole prepared request. Raises what `begin` and `PreparedRequest.framing` raise."""
        size = body.nbytes if isinstance(body, memoryview) else len(body)
        head = self.begin(prepared, prepared.framing(size) if size or prepared.length else NO_BODY)
        if size:
            head += self.send_data(body)
        self.our_state = COMPLETE if self.keep_alive else LAST_COMPLETE
        return head

    def abandon(self) -> None:
        """Give up the request that is being written. It is never completed, so the server sees that it is cut off."""
        self._move_ours(Transition.FAULT)
        self.disable_keep_alive()

    # --- reading -------------------------------------------------------------------------------------------------

    def _read_head(self) -> H1Event:
        data = self._cut_head()
        if data is None:
            return self._no_head()
        if self.our_state is _IDLE:
            raise RemoteProtocolError(f"a response without a request: {data[:32]!r}")
        head = parse_response(data)
        self._check_fields(head.headers)
        fields = head.fields or FieldSummary(head.headers.raw)
        if self.awaits_continue:
            self.awaits_continue = 100 < head.status < 200
        if head.status < 200:
            self._read_informational(head, fields)
        else:
            self._read_final(head, fields)
        return head

    def _read_informational(self, head: ResponseHead, fields: FieldSummary) -> None:
        fields.of_response(head.status, head.http_version, self.method)
        if head.status == 101:
            chosen = fields.upgrade
            if not chosen or not {*chosen} <= {*self.upgrade} or self.our_state not in (_DONE, H1State.MUST_CLOSE):
                raise RemoteProtocolError(
                    f"the server switches to {b', '.join(chosen)!r} (101), where the request offers "
                    f"{b', '.join(self.upgrade)!r}"
                )
            self._switch()
            return
        self._informed += 1
        if self._informed > self.limits.max_informational:
            raise RemoteProtocolError(f"more than {self.limits.max_informational} informational heads")
        self._move_peer(Transition.INFORM)

    def _read_final(self, head: ResponseHead, fields: FieldSummary) -> None:
        self.framing = framing = fields.of_response(head.status, head.http_version, self.method)
        if self.method == "CONNECT" and head.status < 300:
            self._switch()
            return
        if framing == UNTIL_EOF or not fields.persists(head.http_version):
            self.keep_alive = False
        if head.status == 204 and (fields.chunked or fields.length):
            self.keep_alive = False  # it has no body, but its server may think otherwise (RFC 9112 §6.3)
        if framing == NO_BODY:
            self._reader = EMPTY
        else:
            self._expect_body(framing)
        self.peer_state = HEAD_COMPLETE

    def _switch(self) -> None:
        if self.our_state is H1State.BROKEN:
            raise RemoteProtocolError("the server has accepted a request that was not sent to its end")
        self._move_ours(Transition.SWITCH)
        self._move_peer(Transition.SWITCH)

    def _check_start(self, start: bytes) -> bool:
        if self.our_state is _IDLE:
            raise RemoteProtocolError(f"bytes without a request: {self.buffer.peek(32)!r}")
        if not b"HT".startswith(start):
            raise RemoteProtocolError(f"a response does not begin with {start!r}")
        return True

    def fail(self, fault: RemoteProtocolError) -> None:
        """See `H1Machine.fail`."""
        fault.status_hint = 502  # what a gateway answers when its server is at fault (RFC 9110 §15.6.3)
        super().fail(fault)

    def _end_idle(self) -> None:
        if self.our_state is not _IDLE:
            raise RemoteProtocolError("the server ended the connection instead of answering")
        super()._end_idle()
