"""A response as a program sees it: what is read of it, and what a status that is an error takes along."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet.http.protocol.limits import HTTPLimits

from ...helpers.http_by_hand import Asked, serving


def error(body: bytes, *fields: bytes, length: int | None = None) -> bytes:
    head = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 404 Not Found\r\n%bContent-Length: %d\r\n\r\n%b" % (head, length or len(body), body)


async def status_error(client: trionet.HTTPClient, url: str, **options: Any) -> trionet.HTTPStatusError:
    with pytest.raises(trionet.HTTPStatusError, match="was answered with 404 Not Found") as caught:
        async with client.request("GET", url, **options) as response:
            response.raise_for_status()
    return caught.value


async def test_ten_errors_cost_one_connection_and_each_has_its_body():
    async with serving(error(b"no such thing")) as server, trionet.open_http_client() as client:
        for _ in range(10):
            assert (await status_error(client, server.url)).body == b"no such thing"
        assert (server.accepted, client.statistics().opened) == (1, 1)


async def test_a_body_that_comes_later_is_waited_for_as_at_any_blocks_end():
    async def say(connection: trionet.Connection, asked: Asked) -> None:
        wire = error(b"no such thing")
        await connection.send_all(wire[:-6])
        await trio.testing.wait_all_tasks_blocked()
        await connection.send_all(wire[-6:])

    async with serving(say) as server, trionet.open_http_client() as client:
        for _ in range(2):
            assert (await status_error(client, server.url)).body == b"no such thing"
        assert server.accepted == 1


async def test_an_error_has_what_was_read_before_and_what_was_drained():
    async with serving(error(b"abcdef")) as server, trionet.open_http_client() as client:
        with pytest.raises(trionet.HTTPStatusError) as caught:
            async with client.request("GET", server.url) as response:
                await response.read()
                response.raise_for_status()
        assert caught.value.body == b"abcdef"
        async with client.request("GET", server.url) as response:
            with pytest.raises(trionet.HTTPStatusError) as caught:
                response.raise_for_status()
            assert caught.value.body == b""  # it has not left the block, where the body can still be read
            assert await response.read() == b"abcdef"
        assert server.accepted == 1


@pytest.mark.parametrize(
    ("wire", "body", "connections"),
    [
        (error(bytes(1000), length=200_000), bytes(1000), 2),  # too long to drain
        (error(b"bye", b"Connection: close"), b"bye", 2),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbye\r\nx\r\n", b"bye", 2),
        (error(gzip.compress(b"hello", mtime=0), b"Content-Encoding: gzip"), b"hello", 1),
        (error(gzip.compress(bytes(10**7), mtime=0), b"Content-Encoding: gzip"), bytes(65536), 1),
        (error(b"not gzip", b"Content-Encoding: gzip"), b"", 1),
        (error(b"x", b"Content-Encoding: gzip, gzip, gzip"), b"", 1),
        (error(b"x", b"Content-Encoding: utf-8"), b"x", 1),
    ],
)
async def test_what_is_at_hand_is_bounded_and_costs_no_connection_more_than_leaving_does(wire, body, connections):
    async with serving(wire) as server, trionet.open_http_client() as client:
        for _ in range(2):
            assert (await status_error(client, server.url)).body == body
        assert server.accepted == connections
        assert client.statistics().running == 0


async def test_a_body_that_does_not_come_costs_no_more_time_than_leaving_does(autojump_clock):
    async with serving(error(b"abc", length=9)) as server, trionet.open_http_client() as client:
        began = trio.current_time()
        assert (await status_error(client, server.url)).body == b"abc"
        assert trio.current_time() - began == HTTPLimits().drain_timeout


async def test_a_nursery_around_the_status_error_changes_nothing():
    async def look(response: trionet.Response) -> None:
        response.raise_for_status()

    async with serving(error(b"no such thing")) as server, trionet.open_http_client() as client:
        for _ in range(2):
            found = []
            try:
                async with client.request("GET", server.url) as response, trio.open_nursery() as nursery:
                    async with trio.open_nursery() as inner:  # noqa: ASYNC112 - a group of its own is what this is about
                        inner.start_soon(look, response)
                    nursery.cancel_scope.cancel()
            except* trionet.HTTPStatusError as group:
                found = [exc for nested in group.exceptions for exc in nested.exceptions]
            assert [exc.body for exc in found] == [b"no such thing"]
        assert server.accepted == 1


async def test_a_status_error_in_company_drains_nothing():
    async with serving(error(b"abc")) as server, trionet.open_http_client() as client:
        with pytest.raises(ExceptionGroup):
            async with client.request("GET", server.url) as response:
                with pytest.raises(trionet.HTTPStatusError) as caught:
                    response.raise_for_status()
                raise ExceptionGroup("both", [caught.value, KeyError()])
        assert client.statistics().open == 0


async def test_another_error_drains_nothing():
    """Also a status error: the one of another response."""
    async with serving(error(b"abc")) as server, trionet.open_http_client() as client:
        async with client.request("GET", server.url) as other:
            with pytest.raises(trionet.HTTPStatusError) as caught:
                other.raise_for_status()
        for exc in (caught.value, KeyError()):
            with pytest.raises(type(exc)):
                async with client.request("GET", server.url) as response:
                    with pytest.raises(trionet.HTTPStatusError):
                        response.raise_for_status()
                    raise exc
        assert client.statistics().open == 0


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
@pytest.mark.parametrize("content", [b"x", iter([b"x"])])
async def test_methods_without_content_are_not_sent_with_any(method, content):
    async with serving(error(b"")) as server, trionet.open_http_client() as client, trionet.open_scope() as scope:
        connection = await scope.connect_tcp("127.0.0.1", server.port)
        http = await connection.upgrade(trionet.to_http_client())
        with pytest.raises(trionet.LocalProtocolError, match=f"{method} has no content"):
            async with http.request(method, "host.example:1", content=content):
                pass
        with pytest.raises(trionet.LocalProtocolError, match=f"{method} "):
            async with client.request(method, server.url, content=content):
                pass
        assert http._reuse.reusable
        assert server.asked == []
