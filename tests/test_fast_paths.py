"""The fast paths of a byte stream: each comes to what the careful one comes to."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Connection
from trionet.handle import guards
from trionet.ownership import Event

from .helpers.pairs import clog, tcp_sockets

Prepare = Callable[[Connection, socket.socket], Awaitable[None]]
Operation = Callable[[Connection], Awaitable[object]]


def fast_receive(one: Connection) -> Awaitable[bytes]:
    return one.receive_some(8)


def careful_receive(one: Connection) -> Awaitable[bytes]:
    return one._receive_carefully(8)


def fast_send(one: Connection) -> Awaitable[None]:
    return one.send_all(b"message")


async def careful_send(one: Connection) -> None:
    """Every send as the table has it, with nothing tried beforehand."""
    one._refuse(Event.SEND)
    await trio.lowlevel.checkpoint_if_cancelled()
    await one._send_rest(b"message", 0)


async def nothing(one: Connection, far: socket.socket) -> None:
    await trio.lowlevel.checkpoint()


async def data_came(one: Connection, far: socket.socket) -> None:
    far.sendall(b"0123456789")


async def eof_came(one: Connection, far: socket.socket) -> None:
    far.shutdown(socket.SHUT_WR)


async def eof_was_received(one: Connection, far: socket.socket) -> None:
    far.shutdown(socket.SHUT_WR)
    assert await one.receive_some() == b""


async def reset(one: Connection, far: socket.socket) -> None:
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    far.close()


async def reset_was_met(one: Connection, far: socket.socket) -> None:
    await reset(one, far)
    with pytest.raises(trionet.HandleBrokenError):
        await one.receive_some()


async def leased(one: Connection, far: socket.socket) -> None:
    guards.grant_lease(one, "work")
    far.sendall(b"data")


async def peeked(one: Connection, far: socket.socket) -> None:
    far.sendall(b"0123456789")
    await one.peek(3)


async def retires(one: Connection, far: socket.socket) -> None:
    far.sendall(b"last")
    one._retire()


async def eof_was_sent(one: Connection, far: socket.socket) -> None:
    await one.send_eof()


async def aborted(one: Connection, far: socket.socket) -> None:
    one.abort()


async def detached(one: Connection, far: socket.socket) -> None:
    one.detach()


RECEIVING = [data_came, eof_came, eof_was_received, reset, reset_was_met, leased, peeked, retires, aborted, detached]
SENDING = [nothing, data_came, eof_was_received, reset_was_met, leased, eof_was_sent, aborted, detached]


async def outcome_of(prepare: Prepare, operation: Operation, meanwhile: Callable[[Connection], None] | None) -> object:
    """What the operation came to, and what it left behind."""
    sock, far = socket.socketpair() if prepare is clogged else tcp_sockets()
    with far:
        async with trionet.open_scope() as scope:
            one = scope.adopt(sock)
            await prepare(one, far)
            found: list[object] = []

            async def operate() -> None:
                try:
                    found.append(await operation(one))
                except trionet.TrionetError as exc:
                    found.append((type(exc), re.sub(r"\d+", "N", str(exc)), exc.handle is one))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(operate)
                if meanwhile is not None:
                    await wait_all_tasks_blocked()
                    if meanwhile is cancelled:
                        nursery.cancel_scope.cancel()
                    else:
                        meanwhile(one)
            await wait_all_tasks_blocked()
            figures, work = one.statistics(), [blocker.operation for blocker in one.blockers]
            left = (found, one.phase, bytes(one._leftover), one._life.state, one._life.looked, one._torn, work)
            one.abort()
    return *left, figures.bytes_received, figures.bytes_sent


def cancelled(one: Connection) -> None:
    """The task is cancelled."""


@pytest.mark.parametrize("prepare", RECEIVING, ids=lambda each: each.__name__)
async def test_a_receive_comes_to_the_same_by_both_ways(prepare: Prepare) -> None:
    assert await outcome_of(prepare, fast_receive, None) == await outcome_of(prepare, careful_receive, None)


@pytest.mark.parametrize("meanwhile", [cancelled, Connection.abort, Connection._retire])
async def test_a_receive_that_waits_ends_alike_by_both_ways(meanwhile: Callable[[Connection], None]) -> None:
    fast = await outcome_of(nothing, fast_receive, meanwhile)
    assert fast == await outcome_of(nothing, careful_receive, meanwhile)


@pytest.mark.parametrize("prepare", SENDING, ids=lambda each: each.__name__)
async def test_a_send_comes_to_the_same_by_both_ways(prepare: Prepare) -> None:
    assert await outcome_of(prepare, fast_send, None) == await outcome_of(prepare, careful_send, None)


async def clogged(one: Connection, far: socket.socket) -> None:
    clog(one)


@pytest.mark.parametrize("meanwhile", [cancelled, Connection.abort])
async def test_a_send_that_waits_ends_alike_by_both_ways(meanwhile: Callable[[Connection], None]) -> None:
    fast = await outcome_of(clogged, fast_send, meanwhile)
    assert fast == await outcome_of(clogged, careful_send, meanwhile)
