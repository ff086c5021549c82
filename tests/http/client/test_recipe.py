"""The recipe that makes a connection an HTTP client's."""

import re

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.http.client.recipe import to_http_client

from ...helpers.pairs import tcp_pair


async def test_the_recipe_refuses_unread_bytes_and_changes_nothing():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(b"220 not HTTP\r\n")
        await one.peek(4)
        with pytest.raises(trionet.LocalProtocolError, match="must not speak first: b'220 not HTTP"):
            await one.upgrade(to_http_client())
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(14) == b"220 not HTTP\r\n"


async def test_a_request_that_is_not_entered_says_what_to_write():
    usage = re.escape("a request is a block: write `async with http.request(...) as response`, ")
    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        http = await one.upgrade(to_http_client())
        with pytest.raises(TypeError, match=f"^{usage}without await$"):
            await http.request("GET", "/")
        with pytest.raises(TypeError, match=f"^{usage}not `with`$"), http.request("GET", "/"):
            pass
        with pytest.raises(AttributeError, match=f"^{usage}and ask that for 'status'$"):
            _ = http.request("GET", "/").status
        assert not hasattr(http.request("GET", "/"), "__len__")
        assert one.statistics().bytes_sent == 0


async def test_the_recipe_is_for_an_idle_open_connection_and_used_once():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        recipe = to_http_client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.receive_some)
            await wait_all_tasks_blocked()
            with pytest.raises(trionet.HandleBusyError):
                await one.upgrade(recipe)
            await other.send_all(b"x")
        with assert_checkpoints():
            http = await one.upgrade(recipe)
        assert one.end.reason is Reason.UPGRADED
        with pytest.raises(trionet.LocalProtocolError, match="used before"):
            await other.upgrade(recipe)
        with pytest.raises(trionet.LocalProtocolError, match="works on a Connection"):
            await http.upgrade(to_http_client())
        await other.aclose()
        with pytest.raises(trionet.HandleClosedError):
            await other.upgrade(to_http_client())


async def test_a_cancelled_recipe_changes_nothing():
    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            await one.upgrade(to_http_client())
        assert one.phase is Phase.OPEN


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"host": ""}, ValueError, "to_http_client: host must be"),
        ({"limits": 7}, TypeError, "limits must be a trionet.HTTPLimits, not 7"),
    ],
)
def test_arguments_of_the_recipe_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        to_http_client(**options)
