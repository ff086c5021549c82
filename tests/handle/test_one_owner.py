"""Exactly one live owner: what a wrong recipe keeps of its wire, and what copies would come to."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import trio

import trionet
from tests.helpers.pairs import tcp_pair
from trionet import Phase
from trionet.handle import guards
from trionet.ownership import Reason


class Keeps:
    """A recipe that keeps capsules of its wire: one of before the handshake's end, one of the commit."""

    def __init__(self, fails: BaseException | None = None, sends: bytes = b"", during: Any = None) -> None:
        self.kept: list[Any] = []
        self.fails = fails
        self.sends = sends
        self.during = during
        self.wire: Any = None

    def prepare(self, source: Any) -> None:
        pass

    async def handshake(self, wire: Any) -> None:
        self.wire = wire
        self.kept.append(wire.detach())
        if self.sends:
            await wire.send_all(self.sends)
        if self.during is not None:
            self.during(self.kept[0])
        if self.fails is not None:
            raise self.fails

    def commit(self) -> trionet.Connection:
        self.kept.append(self.wire.detach())
        return trionet.Connection(self.wire.detach())


def check_over(scope: trionet.Scope, capsule: Any, error: type[Exception]) -> None:
    """Nothing can be made of the capsule any more, and it still answers questions."""
    with pytest.raises(error):
        scope.adopt(capsule)
    with pytest.raises(trio.ClosedResourceError):
        trionet.Connection(capsule)
    capsule.abort()
    assert "over" in repr(capsule)
    assert capsule.leftover == b""


async def test_capsules_of_a_wire_end_beside_the_successor() -> None:
    async with trionet.open_scope() as scope:
        one, two = tcp_pair(scope)
        recipe = Keeps()
        successor = await one.upgrade(recipe)
        for capsule in recipe.kept:
            check_over(scope, capsule, trionet.HandleMovedError)
            assert capsule.end.successor is successor
        await successor.send_all(b"alone")
        assert await two.receive_some() == b"alone"
        assert scope.handles == (successor, two)


@pytest.mark.parametrize(
    ("recipe", "phase"),
    [
        (Keeps(ValueError("undone")), Phase.OPEN),
        (Keeps(trionet.UpgradeRefusedError("refused")), Phase.OPEN),
        (Keeps(ValueError("failed"), b"x"), Phase.CLOSED),
    ],
    ids=["undone", "refused", "failed"],
)
async def test_capsules_of_a_wire_end_with_a_handshake_that_came_to_nothing(recipe: Keeps, phase: Phase) -> None:
    async with trionet.open_scope() as scope:
        one, two = tcp_pair(scope)
        with pytest.raises((ValueError, trionet.UpgradeRefusedError)):
            await one.upgrade(recipe)
        check_over(scope, recipe.kept[0], trionet.HandleClosedError)
        assert recipe.kept[0].end.reason is Reason.UPGRADE_FAILED
        assert one.phase is phase
        if phase is Phase.OPEN:
            await one.send_all(b"as before")
            assert await two.receive_some() == b"as before"


async def test_a_capsule_of_a_wire_cannot_be_adopted_or_closed_during_the_handshake() -> None:
    async with trionet.open_scope() as scope:
        one, two = tcp_pair(scope)

        def during(capsule: Any) -> None:
            with pytest.raises(trionet.HandleBusyError, match=r"Recipe\.commit makes the successor"):
                scope.adopt(capsule)
            with pytest.raises(trionet.HandleBusyError):
                capsule.abort()

        successor = await one.upgrade(Keeps(during=during))
        await two.send_all(b"x")
        assert await successor.receive_some() == b"x"


@pytest.mark.parametrize("fails", [None, ValueError("undone")])
async def test_a_handle_that_a_recipe_makes_beside_the_successor_is_of_no_use(fails: Any) -> None:
    """Neither after the handshake nor after one that was undone is there a second way to the bytes."""
    strays: list[Any] = []
    async with trionet.open_scope() as scope:
        one, two = tcp_pair(scope)
        recipe = Keeps(fails, during=lambda capsule: strays.append(trionet.Connection(capsule)))
        if fails is None:
            owner = await one.upgrade(recipe)
        else:
            with pytest.raises(ValueError, match="undone"):
                await one.upgrade(recipe)
            owner = one
        stray = strays[0]
        for use in (stray.receive_some, lambda: stray.send_all(b"x"), lambda: stray.peek(1), stray.send_eof):
            with pytest.raises(trio.ClosedResourceError):
                await use()
        for verb in (stray.abort, stray.detach, lambda: stray.transfer(scope)):
            with pytest.raises(trio.ClosedResourceError):
                verb()
        await two.send_all(b"for the owner")
        assert await owner.receive_some() == b"for the owner"


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps, lambda each: pickle.dumps(each, 0)])
async def test_nothing_that_owns_a_connection_can_be_copied(how: Any) -> None:
    async with trionet.open_scope() as scope, scope.open_http_client() as client:
        one, two = tcp_pair(scope)
        three, four = tcp_pair(scope)
        http, ws = await three.upgrade(trionet.to_http_server()), await four.upgrade(trionet.to_http_client())
        wires: list[Any] = []
        recipe = Keeps(during=lambda _: wires.append(recipe.wire))
        successor = await one.upgrade(recipe)
        capsule = two.detach()
        lease = guards.grant_lease(successor, "work")
        for thing in (successor, one, capsule, lease, scope, scope._owner, *wires, http, ws, client):
            with pytest.raises(
                TypeError, match="can be neither copied nor pickled: a connection has exactly one owner"
            ):
                how(thing)
        lease.end()
