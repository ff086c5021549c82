"""One stream of bytes, read by trionet and by h11 into the same form, so that the two can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import h11

from tests.helpers.http_corpus import Entry
from trionet import RemoteProtocolError
from trionet.http.protocol.body_reader import EndOfMessage
from trionet.http.protocol.client_machine import H1Client
from trionet.http.protocol.head import RequestHead, ResponseHead
from trionet.http.protocol.machine import Signal
from trionet.http.protocol.server_machine import H1Server

BIG = 1 << 17


@dataclass
class Message:
    """What was understood."""

    start: tuple[Any, ...]
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False

    def __post_init__(self) -> None:
        # h11 gives the coding in lower case, however it was written.
        self.fields = [
            (name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in self.fields
        ]


@dataclass
class Reading:
    messages: list[Message] = field(default_factory=list)
    refusal: int | None = None
    ended: bool = False
    why: str = field(default="", compare=False)
    """What h11 gave as the reason of its refusal."""

    @property
    def understood(self) -> list[Message]:
        """The messages that were read to their end."""
        return [message for message in self.messages if message.complete]


def _note(reading: Reading, event: object) -> bool:
    """Put down what `event` says: whether it ends a message."""
    match event:
        case RequestHead():
            start = (event.method, event.target, event.http_version)
            reading.messages.append(Message(start, list(event.headers.raw)))
        case ResponseHead():
            reading.messages.append(Message((event.status, event.reason, event.http_version), list(event.headers.raw)))
            reading.messages[-1].complete = event.status < 200
        case bytes():
            assert event
            reading.messages[-1].body += event
        case EndOfMessage():
            reading.messages[-1].trailers = list(event.trailers.raw)
            reading.messages[-1].complete = True
            return True
    return False


def requests(*pieces: bytes) -> Reading:
    """What trionet's server reads; it answers each request at once, and the last piece is followed by EOF."""
    machine, reading = H1Server(), Reading()
    for piece in (*pieces, None):
        if piece is None:
            machine.receive_eof()
        else:
            machine.receive(piece)
        if not _drain(machine, reading):
            break
    return reading


def _drain(machine: H1Server, reading: Reading) -> bool:
    while True:
        try:
            event = machine.next_event()
        except RemoteProtocolError as exc:
            reading.refusal = exc.status_hint
            return False
        if isinstance(event, Signal):
            reading.ended = event is Signal.ENDED
            return not reading.ended
        if _note(reading, event):
            machine.respond(403)  # h11 would take a 2xx for the start of a tunnel
            if machine.keep_alive:
                machine.start_next_cycle()


def responses(method: str, *pieces: bytes) -> Reading:
    """What trionet's client reads as the answer to one request."""
    machine, reading = H1Client(), Reading()
    machine.request(method, "a:1" if method == "CONNECT" else "/", [("Host", "a")])
    for piece in (*pieces, None):
        if piece is None:
            machine.receive_eof()
        else:
            machine.receive(piece)
        while True:
            try:
                event = machine.next_event()
            except RemoteProtocolError as exc:
                reading.refusal = exc.status_hint
                return reading
            if isinstance(event, Signal):
                if event is Signal.SWITCHED:
                    reading.messages[-1].complete = True
                break
            if _note(reading, event):
                return reading
    return reading


def read(entry: Entry, *, client: bool, pieces: tuple[bytes, ...] = ()) -> Reading:
    """What trionet reads."""
    pieces = pieces or (entry.raw,)
    return responses(entry.method, *pieces) if client else requests(*pieces)


def h11_reads(entry: Entry, *, client: bool) -> Reading:
    """What h11 reads."""
    reading = Reading()
    connection = h11.Connection(h11.CLIENT if client else h11.SERVER, max_incomplete_event_size=BIG)
    if client:
        target = "a:1" if entry.method == "CONNECT" else "/"
        connection.send(h11.Request(method=entry.method, target=target, headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
    if entry.raw:
        connection.receive_data(entry.raw)
    connection.receive_data(b"")
    try:
        while _h11_step(connection, reading, client=client):
            pass
    except h11.RemoteProtocolError as exc:
        reading.refusal, reading.why = exc.error_status_hint, str(exc)
    return reading


def _h11_step(connection: h11.Connection, reading: Reading, *, client: bool) -> bool:
    event = connection.next_event()
    match event:
        case h11.Request():
            start: tuple[Any, ...] = (event.method.decode(), event.target.decode("latin-1"), _text(event.http_version))
            reading.messages.append(Message(start, list(event.headers.raw_items())))
        case h11.Response() | h11.InformationalResponse():
            start = (event.status_code, bytes(event.reason).decode("latin-1"), _text(event.http_version))
            reading.messages.append(Message(start, list(event.headers.raw_items())))
            reading.messages[-1].complete = event.status_code < 200
            if client and connection.their_state is h11.SWITCHED_PROTOCOL:
                reading.messages[-1].complete = True
        case h11.Data():
            reading.messages[-1].body += bytes(event.data)
        case h11.EndOfMessage():
            reading.messages[-1].trailers = list(event.headers.raw_items())
            reading.messages[-1].complete = True
            return not client and _h11_answers(connection)
        case _:
            reading.ended = isinstance(event, h11.ConnectionClosed)
            return False
    return True


def _h11_answers(connection: h11.Connection) -> bool:
    connection.send(h11.Response(status_code=403, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is h11.MUST_CLOSE:
        return False
    connection.start_next_cycle()
    return True


def _text(version: bytes) -> str:
    return version.decode()


def drain(machine):
    """All events that are there: head, body, end."""
    head, body, end = None, b"", None
    while not isinstance(event := machine.next_event(), Signal):
        if isinstance(event, bytes):
            body += event
        elif isinstance(event, EndOfMessage):
            end = event
        else:
            head = event
    return head, body, end
