"""Operations, leases and the output buffer: how they begin, and all the ways in which they end."""

from __future__ import annotations

from trionet.ownership import Event, Phase, Receive, Send

from .moves import Moves, Rules, moving
from .state import Handle, World
from .world import Step

# --- reading ---------------------------------------------------------------------------------------------------------


def reading(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    if handle.reader:
        yield from read_ends(game, world, i, handle)
    for kind in ("receive", "peek", "leased"):
        event = Event.RECEIVE_LEASED if kind == "leased" else Event.RECEIVE
        if kind == "leased" and not handle.leases:
            continue
        leftover_first = kind == "leased" or (kind == "receive" and handle.phase is Phase.OPEN)
        if handle.leftover and leftover_first:
            if game.allows(handle, event):
                label, step = moving(game, world, i, f"{kind}: one byte of the leftover")
                step.put(i, leftover=handle.leftover[1:])
                step.consume(handle.leftover[:1])
                yield label, step
            continue
        if game.harmless(handle, event) and not (handle.reader and game.allows(handle, event)):
            continue
        label, step = moving(game, world, i, f"{kind} begins")
        if step.take(i, event) and step.handle(i).life.receive is Receive.BUSY:
            step.put(i, reader=beside(handle.reader, kind))
        yield label, step


def read_ends(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    kind = handle.reader
    if world.kernel and not handle.reader_woken:
        label, step = moving(game, world, i, f"{kind} brings data")
        if kind == "peek":
            step.put(i, leftover=handle.leftover + world.kernel)
            step.kernel = ()
        else:
            step.consume(world.kernel[:1])
            step.kernel = world.kernel[1:]
        end_read(step, i, Event.RECEIVE_ENDED)
        yield label, step
    elif world.peer == "eof" and not handle.reader_woken:
        label, step = moving(game, world, i, f"{kind} sees EOF")
        step.heard_eof = True
        end_read(step, i, Event.PEER_EOF)
        yield label, step
    if world.failure and not world.kernel and not handle.reader_woken:
        label, step = moving(game, world, i, f"{kind} fails: {world.peer}")
        step.put(i, reader="", reader_woken=False)
        step.operation_failed(i, world.failure, Event.RECEIVE_ENDED)
        yield label, step
    label, step = moving(game, world, i, f"{kind} ends: cancelled" if not handle.reader_woken else f"{kind} was woken")
    end_read(step, i, Event.RECEIVE_ENDED)
    yield label, step


def end_read(step: Step, i: int, event: Event) -> None:
    step.put(i, reader="", reader_woken=False)
    step.take(i, event)


# --- writing ---------------------------------------------------------------------------------------------------------


def writing(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    if handle.writer:
        yield from write_ends(game, world, i, handle)
    for kind, event in (("send", Event.SEND), ("leased", Event.SEND_LEASED), ("eof", Event.SEND_EOF)):
        if kind == "leased" and not handle.leases:
            continue
        if game.harmless(handle, event) and not (handle.writer and game.allows(handle, event)):
            continue
        label, step = moving(game, world, i, f"{kind if kind != 'eof' else 'send eof'} begins")
        # `send_eof` asks for itself, and is then a write in flight until EOF is out.
        shutting = kind == "eof" and game.allows(handle, event) and handle.life.send is not Send.SHUT
        if step.take(i, Event.SEND if shutting else event) and step.handle(i).life.send is Send.BUSY:
            step.put(i, writer=beside(handle.writer, kind))
        yield label, step


def write_ends(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    label, step = moving(game, world, i, "EOF is out" if handle.writer == "eof" else f"{handle.writer}: all was sent")
    step.put(i, writer="")
    if handle.writer == "eof":
        step.eof_sent(i)
    else:
        step.take(i, Event.SEND_ENDED)
    yield label, step
    label, step = moving(game, world, i, f"{handle.writer} cancelled before the first byte")
    step.put(i, writer="")
    step.take(i, Event.SEND_ENDED)
    yield label, step
    label, step = moving(game, world, i, f"{handle.writer} cancelled half-way")
    step.poison = True
    step.put(i, writer="")
    step.take(i, Event.SEND_TORN)
    yield label, step
    if world.failure:
        for event in (Event.SEND_ENDED, Event.SEND_TORN):
            label, step = moving(game, world, i, f"{handle.writer} fails: {world.peer} ({event.value})")
            step.put(i, writer="")
            step.operation_failed(i, world.failure, event)
            yield label, step


def beside(task: str, other: str) -> str:
    """Who is at work in one direction now. Two at a time is what must not be."""
    return f"{task} and {other}" if task else other


# --- leases, and the output buffer -----------------------------------------------------------------------------------


def leasing(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    if handle.leases < game.bounds.leases and not game.harmless(handle, Event.LEASE):
        label, step = moving(game, world, i, "lease granted")
        if step.take(i, Event.LEASE):
            step.put(i, leases=handle.leases + 1)
        yield label, step
    busy = "leased" in (handle.reader, handle.writer) or handle.wire is not None
    if handle.leases > (1 if busy else 0):
        label, step = moving(game, world, i, "lease ends")
        step.put(i, leases=handle.leases - 1)
        step.take(i, Event.LEASE_ENDED)
        yield label, step


def buffering(game: Rules, world: World, i: int, handle: Handle) -> Moves:
    """A protocol handle leaves output in its buffer during a lease, and flushes it later."""
    if handle.leases and handle.phase is not Phase.CLAIMED and handle.life.send is Send.IDLE and not handle.life.unsent:
        label, step = moving(game, world, i, "a send goes into the output buffer")
        step.take(i, Event.BUFFERED)
        yield label, step
    if handle.life.unsent:
        label, step = moving(game, world, i, "the output buffer is flushed")
        step.take(i, Event.FLUSHED)
        yield label, step
