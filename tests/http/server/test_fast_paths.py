"""The fast paths of a server's connection do what the careful ways do: they are only quicker.

Each of them has a condition, in which it asks a short cut, or compares with a constant. Here those are replaced by what
never holds, so that everything goes the careful way; and the same conversations are held both ways.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from unittest.mock import patch

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trionet
from trionet.http.protocol.server_machine import H1Server
from trionet.http.server import connection, output
from trionet.http.server.connection import HTTPServerConnection
from trionet.http.server.input import RequestInput
from trionet.http.server.output import ResponseOutput

from ...helpers.pairs import receive_all, unix_pair
from .conversations import TALKS, converse, request_of

PLACES = {"head": (HTTPServerConnection, "_receive_carefully"), "body": (RequestInput, "read_into")}
PLACES["response"] = (ResponseOutput, "finish")
"""Where there is a fast path, and what is called where it is not taken."""


class Shut(dict):
    """A short cut that leads nowhere: the table has to be asked."""

    def __missing__(self, state):
        return None


@contextmanager
def careful(place):
    """Nothing takes the fast path in this place, or in any."""
    with ExitStack() as stack:
        if place in ("head", "all"):
            for name in ("RECEIVE", "RECEIVE_ENDED", "ARRIVED_LEASE"):
                stack.enter_context(patch.object(connection, name, Shut()))
        if place in ("body", "all"):
            stack.enter_context(patch.object(H1Server, "take_body", lambda *_: None))
        if place in ("response", "all"):
            stack.enter_context(patch.object(output, "_DONE", None))
            stack.enter_context(patch.object(output, "_LAST", None))
        yield


@contextmanager
def counted(place):
    """How often the careful way of this place is gone."""
    owner, name = PLACES[place]
    original, calls = getattr(owner, name), []

    def counting(*args):
        calls.append(args)
        return original(*args)

    with patch.object(owner, name, counting):
        yield calls


def hold(talk, cuts=(), yields=()):
    """A conversation: what its client gets, what is told of the handle, and its figures."""
    requests = [request_of(number, *turn) for number, turn in enumerate(talk)]
    requests.append(b"GET /plain/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    data = b"".join(requests)
    starts = [0, *accumulate(map(len, requests))]
    cuts = [(which % len(requests), part) for which, part in cuts]
    at = sorted(starts[which] + round(part * len(requests[which])) for which, part in cuts)
    seen = []

    async def main():
        def observe(handle, before, after):
            if isinstance(handle, HTTPServerConnection):
                seen.append((before, after))
                handles.add(handle)

        handles = set()
        async with trionet.open_scope(observer=observe) as scope:
            one, client = unix_pair(scope)
            scope.start_soon(trionet.http_handler(converse, on_error=lambda *_: None), one)

            async def send():
                for start, end, turns in zip([0, *at], [*at, len(data)], [*yields, *[0] * 9], strict=False):
                    if start < end:
                        await client.send_all(data[start:end])
                    if turns > 5:
                        await wait_all_tasks_blocked()
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()

            scope.start_soon(send)
            got = await receive_all(client)
            (http,) = handles
            await http.wait_ended()
            await wait_all_tasks_blocked()
            figures = http.statistics()
            scope.cancel()
        return (
            re.sub(rb"\r\nDate: [^\r]*", b"", got),
            seen,
            http.end.reason,
            (figures.bytes_received, figures.bytes_sent),
            http.blockers,
        )

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("place", PLACES)
def test_the_fast_path_is_taken_and_can_be_shut(place):
    talk = [("read", b"abc", False)] * 3
    with counted(place) as calls:
        hold(talk)
    assert len(calls) < 3
    with counted(place) as calls, careful(place):
        hold(talk, cuts=[(1, 0), (2, 0)], yields=[9, 9])
    assert len(calls) >= 3


def test_the_last_response_of_a_connection_takes_the_fast_path():
    with counted("response") as calls:
        hold([])
    assert not calls


@given(
    talk=TALKS,
    cuts=st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0, 0, 0.1, 0.5, 0.9])), max_size=5),
    yields=st.lists(st.integers(0, 9), max_size=6),
    place=st.sampled_from([*PLACES, "all"]),
)
@settings(deadline=None, max_examples=100)
def test_the_careful_way_leads_where_the_fast_one_does(talk, cuts, yields, place):
    fast = hold(talk, cuts, yields)
    with careful(place):
        assert hold(talk, cuts, yields) == fast
