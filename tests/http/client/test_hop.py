"""One hop of a request: its connection, and the one retry."""

import itertools
import socket

import pytest

import trionet
from trionet.scope.opening import open_http_client

from ...helpers.http_by_hand import HELLO, serving
from ...helpers.http_clients import get


def dying(times):
    """A server whose connections answer once; on the second request the first `times` of them end without a word."""
    served = {}
    died = itertools.count()

    async def answer(connection, asked):
        served[connection] = served.get(connection, 0) + 1
        if served[connection] > 1 and next(died) < times:
            connection.abort()
        else:
            await connection.send_all(HELLO)

    return answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
async def test_an_idempotent_request_is_sent_again_if_its_reused_connection_died(method):
    async with serving(dying(1)) as server, open_http_client() as client:
        await get(client, server.url)
        async with client.request(method, server.url) as response:
            assert response.status == 200
        assert [asked.method for asked in server.asked] == ["GET", method, method]
        figures = client.statistics()
        assert (figures.retried, figures.opened) == (1, 2)


@pytest.mark.parametrize(
    ("method", "options"), [("POST", {}), ("PATCH", {"content": b"x"}), ("PUT", {"content": iter([b"x"])})]
)
async def test_no_other_request_is_sent_again(method, options):
    async with serving(dying(1)) as server, open_http_client() as client:
        await get(client, server.url)
        with pytest.raises((trionet.RemoteProtocolError, trionet.HandleBrokenError)) as caught:
            async with client.request(method, server.url, **options):
                pass
        assert caught.value.retry_safe is (method == "PUT")
        assert ("a retry is safe" in str(caught.value)) is (method == "PUT")
        assert [asked.method for asked in server.asked] == ["GET", method]
        assert client.statistics().retried == 0


async def test_the_retry_is_on_a_fresh_connection_and_the_only_one():
    async def end(connection, asked):
        if asked.target == "/":
            await connection.send_all(HELLO)
        else:
            await connection.aclose()

    async with serving(end) as server, open_http_client() as client:
        async with client.request("GET", server.url), client.request("GET", server.url):
            pass
        assert client.statistics().idle == 2
        with pytest.raises(trionet.RemoteProtocolError, match="GET is idempotent: a retry is safe"):
            await get(client, f"{server.url}/end")
        assert server.accepted == 3  # not on the other idle one
        assert [asked.target for asked in server.asked].count("/end") == 2


async def test_nothing_is_sent_again_on_a_connection_that_was_fresh():
    async def end(connection, asked):
        await connection.aclose()

    async with serving(end) as server, open_http_client() as client:
        with pytest.raises(trionet.RemoteProtocolError):
            await get(client, server.url)
        assert len(server.asked) == 1


async def test_nothing_is_sent_again_after_a_byte_of_the_response():
    async def half(connection, asked):
        if asked.target == "/":
            await connection.send_all(HELLO)
        else:
            await connection.send_all(b"H")
            await connection.aclose()

    async with serving(half) as server, open_http_client() as client:
        await get(client, server.url)
        with pytest.raises(trionet.RemoteProtocolError, match="after 1 byte of it"):
            await get(client, f"{server.url}/half")
        assert len(server.asked) == 2


async def test_who_cannot_be_reached_was_sent_nothing():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        async with open_http_client() as client:
            with pytest.raises(ConnectionRefusedError, match=r"nothing was sent: a retry is safe") as caught:
                await get(client, f"http://127.0.0.1:{bound.getsockname()[1]}/")
            assert caught.value.retry_safe is True
            assert client.statistics().running == 0
