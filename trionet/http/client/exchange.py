"""Sending one request on a connection, and receiving the head of its response.

The lease of an exchange begins before its first byte is sent. A request whose head and body the system takes at once is
the fast path: no task, no cancel scope. Everything else is *slow* here: a body that is larger than the system's buffer
or has yet to be produced leaves in a task of its own (`Upload`), while this one waits for the response; and a request
that asks for 100 (Continue) first waits whether the server wants the body at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from ...errors import LocalProtocolError, RemoteProtocolError
from ...ownership import Event, Phase, Receive, Refusal, Refuse, Send
from ...support.texts import shown_bytes
from ..protocol.framing import NO_BODY
from ..protocol.head import ResponseHead
from ..protocol.machine import Signal
from ..protocol.states import H1State
from .claim import Claim
from .ending import exchange_failed
from .incoming_body import IncomingBody
from .retry import as_client_error, mark_unsent
from .upload import Upload

if TYPE_CHECKING:
    from ...handle import Lease
    from ..content import Content
    from ..protocol.prepared_request import PreparedRequest
    from .io import ClientIO

__all__ = ["exchange"]

CONTINUE_SECONDS: Final = 1.0
"""How long a request that expects 100 (Continue) waits for it before it sends its body (RFC 9110 §10.1.1)."""

SMALL: Final = 65536
"""Bytes of a body that are joined with the head into one send at most."""

_OPEN: Final = Phase.OPEN
_RECEIVE_IDLE: Final = Receive.IDLE
_SEND_IDLE: Final = Send.IDLE
_BODY: Final = H1State.BODY
_NEED_DATA: Final = Signal.NEED_DATA


@enable_ki_protection
async def exchange(io: ClientIO, prepared: PreparedRequest, content: Content) -> IncomingBody:
    """Send a request and receive the head of its response: the body behind it, which has to be left.

    Raises and Cancellation: as `HTTPClientConnection.request`.
    """
    machine, body = io.machine, content.data
    _check_free(io)
    await checkpoint_if_cancelled()
    if body is None or prepared.expects or len(body) > SMALL:
        wire = machine.begin(prepared, prepared.framing(content.length))
    else:
        wire = machine.send_request(prepared, body)
    lease = io.grant(prepared.name)
    try:
        sent = io.send_now(wire)
        if sent < len(wire) or machine.our_state is _BODY:
            head, upload = await _send_slowly(io, prepared, lease, memoryview(wire)[sent:], content)
        else:
            head, upload = await _read_head(io, lease), None
        incoming = IncomingBody(io, head, prepared.method, lease, Claim(io, lease, upload))
        if machine.framing == NO_BODY:
            incoming.begin_empty()
    except BaseException as exc:
        exchange_failed(io, exc, prepared.method)
        raise
    return incoming


def _check_free(io: ClientIO) -> None:
    """Raise unless a request can be sent now. A step."""
    state = io.handle._life.state
    if (
        state.phase is not _OPEN
        or state.leases
        or state.send is not _SEND_IDLE
        or state.receive is not _RECEIVE_IDLE
        or state.reset
        or io.machine.has_unread
    ):
        _refuse(io)


def _refuse(io: ClientIO) -> NoReturn:
    """Raise what stands in the way of a request."""
    handle, life = io.handle, io.handle._life
    for event in (Event.LEASE, Event.SEND, Event.RECEIVE):
        if isinstance(refuse := life.decide(event), Refuse):
            _refuse_as(io, refuse)
    if life.state.leases:
        _refuse_as(io, Refuse(Refusal.BUSY))
    if life.state.receive is Receive.EOF:
        _refuse_as(io, Refuse(Refusal.CLOSED))
    if io.switched:
        raise LocalProtocolError(f"request refused: {handle} has switched protocols; detach() or upgrade() it")
    unread = shown_bytes(io.machine.unread())
    error = RemoteProtocolError(f"the server sent bytes before a request was sent, on {handle}: {unread}", 502)
    error.retry_safe = True
    as_client_error(error)
    exchange_failed(io, error, "")
    raise error


def _refuse_as(io: ClientIO, refuse: Refuse) -> NoReturn:
    error = io.handle._refusal(refuse, Event.LEASE)
    mark_unsent(error)
    raise error


async def _send_slowly(
    io: ClientIO, prepared: PreparedRequest, lease: Lease, rest: memoryview, content: Content
) -> tuple[ResponseHead, Upload | None]:
    """Send a large body, one that has yet to be produced, or one that the server is asked about."""
    machine = io.machine
    if machine.our_state is not _BODY:
        return await _upload(Upload(io, lease, rest, None))
    if not machine.awaits_continue:
        return await _upload(Upload(io, lease, rest, content))
    if rest:
        await io.send(rest, lease)
    head = await _await_continue(io, lease)
    if head is None:
        return await _upload(Upload(io, lease, None, content))
    machine.abandon()  # answered without the body: nobody knows whether the server still waits for it
    return head, None


async def _await_continue(io: ClientIO, lease: Lease) -> ResponseHead | None:
    """Wait until the server says that it wants the body, or for so long: the final response if that came first."""
    with trio.move_on_after(CONTINUE_SECONDS):
        while io.machine.awaits_continue:
            head = await _read_head(io, lease, informational=True)
            if head.status >= 200:
                return head
    return None


async def _upload(upload: Upload) -> tuple[ResponseHead, Upload | None]:
    """Send the rest in a task of its own, while this one receives the head of the response."""
    upload.begin()
    try:
        head = await _read_head(upload.io, upload.lease)
    except BaseException:
        await _end(upload)  # noqa: ASYNC102 - shielded in there
        raise
    if upload.over or head.status >= 300:
        await _end(upload)
        return head, None
    return head, upload


async def _end(upload: Upload) -> None:
    """End the upload. Raises what the producer of the body has raised."""
    await upload.end()
    upload.io.failing = upload.error
    upload.raise_error()


async def _read_head(io: ClientIO, lease: Lease, *, informational: bool = False) -> ResponseHead:
    """The head that answers the request; informational ones pass by, if they are not asked for (RFC 9110 §15.2)."""
    machine = io.machine
    if not machine.has_unread:
        await io.receive(lease)
    while True:
        while (event := machine.next_event()) is _NEED_DATA:
            await io.receive(lease)
        assert isinstance(event, ResponseHead)
        if event.status >= 200 or event.status == 101 or informational:
            return event
