"""A client's HTTP connection: one request at a time, each with an end that decides what becomes of the connection."""

import gzip
import io
import random
import re

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.http.client.recipe import to_http_client
from trionet.http.protocol.limits import HTTPLimits

from ...handle.test_handle import Greeting
from ...helpers.http_by_hand import HELLO, http_pair, read_request
from ...helpers.http_served import vanish
from ...helpers.pairs import memory_pair, tcp_pair
from ...stories.test_cancel_everywhere import at_every_checkpoint

HEAD = b"HTTP/1.1 200 OK\r\n"


class Chat(Greeting):
    """A protocol that begins on an HTTP connection as well."""

    def prepare(self, source):
        """Take anything."""


async def answer(server, data=HELLO):
    asked = await read_request(server)
    await server.send_all(data)
    return asked


# --- the recipe -------------------------------------------------------------------------------------------------


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


# --- one request after another ----------------------------------------------------------------------------------


async def test_requests_follow_each_other_on_one_connection():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope, host="host.example")
        for target in ("/", "/two?x=%20"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, server)
                async with http.request("GET", target, headers={"X-A": "b"}) as response:
                    assert (response.status, response.reason, response.http_version) == (200, "OK", "1.1")
                    assert str(response.url) == f"http://host.example{target}"
                    assert response.headers["content-length"] == "5"
                    assert response.connection is http
                    assert await response.read() == b"hello"
                    assert await response.read() == b"hello"
            assert http._reuse.reusable
        assert http._io.uses == 2


async def test_what_goes_out_is_one_send_with_host_and_content():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, http, "POST", "/", {"json": {"a": 1}})
            data = await server.receive_some()
            host, port = http.remote_address
            assert (
                data
                == (
                    f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
                    'Content-Length: 7\r\n\r\n{"a":1}'
                ).encode()
            )
            await server.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert http._reuse.reusable


async def exchange(http, method="GET", target="/", options=None):
    async with http.request(method, target, **(options or {})) as response:
        return response, await response.read()


async def test_a_second_request_is_refused_before_a_byte_of_it_is_written():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, http, "GET", "/first", name="the first one")
            await wait_all_tasks_blocked()
            with pytest.raises(trionet.HandleBusyError) as caught:
                await exchange(http, "POST", "/second")
            assert "the first one" in [blocker.task for blocker in caught.value.blockers]
            assert caught.value.retry_safe is True
            with pytest.raises(trionet.HandleBusyError, match="GET /first"):
                http.detach()
            assert (await answer(server)).target == "/first"
        with trio.move_on_after(0):
            assert await server.receive_some() == b""
        assert http._reuse.reusable


async def test_a_second_request_is_refused_while_the_first_response_is_unread():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            async with http.request("GET", "/first") as response:
                with pytest.raises(trionet.HandleBusyError, match="GET /first"):
                    await exchange(http)
                assert await response.read() == b"hello"
                nursery.start_soon(answer, server)
                assert (await exchange(http))[1] == b"hello"  # from the end of the body on it is the next one's turn


async def test_a_request_that_could_not_be_sent_at_all_may_be_tried_again():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, server, HELLO[:-5])
                async with http.request("GET", "/") as response:
                    nursery.start_soon(answer_rest, server)
                    await response.read()
            server.abort()
            await wait_readable(http)
            with pytest.raises((trionet.HandleBrokenError, trionet.RemoteProtocolError)) as caught:
                http._transport.send_some(b"x")  # is answered with a reset, and the next one fails
                await exchange(http, "POST")
        assert caught.value.retry_safe is True
        assert "nothing of the request was sent" in str(caught.value)


async def answer_rest(server):
    await server.send_all(b"hello")


async def test_the_lease_lasts_from_the_first_byte_to_the_end_of_the_body():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        await server.send_all(b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            async with http.request("GET", "/") as response:
                assert [blocker.operation for blocker in http.blockers] == ["request GET /"]
                async for _ in response:
                    assert http.blockers
                assert http.blockers == ()
                capsule = http.detach()
        assert (await answer_on(scope.adopt(capsule), server)) == b"raw"


async def answer_on(connection, server):
    await server.send_all(b"raw")
    return await connection.receive_exactly(3)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_has_ended_with_its_head(status):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, b"HTTP/1.1 %d X\r\n\r\n" % status)
            async with http.request("GET", "/") as response:
                assert http.blockers == ()
                assert await response.read() == b""


async def test_head_has_no_body_whatever_its_length_says():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HEAD + b"Content-Length: 5\r\n\r\n")
            _, body = await exchange(http, "HEAD")
            assert body == b""
        assert http._reuse.reusable


@pytest.mark.parametrize("split", [1, 7, 1000])
async def test_chunks_trailers_and_json_arrive_in_any_split(split):
    wire = HEAD + b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\nX-Sum: 7\r\n\r\n'

    async def slowly(server):
        await read_request(server)
        for at in range(0, len(wire), split):
            await server.send_all(wire[at : at + split])
            await wait_all_tasks_blocked()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slowly, server)
            async with http.request("GET", "/") as response:
                assert await response.json() == {"a": 1}
                assert response.trailers.items() == [("X-Sum", "7")]
        assert http._reuse.reusable


async def test_reading_is_a_checkpoint_unless_something_was_received_since_the_last_time():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                answer, server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
            )
            async with http.request("GET", "/") as response:
                assert await anext(response) == b"a"  # the head was waited for
                with assert_checkpoints():
                    assert await anext(response) == b"b"
                with assert_checkpoints():
                    await response.read()
                with assert_checkpoints():
                    await response.read()
                with trio.CancelScope() as cancelled:
                    cancelled.cancel()
                    await response.read()
                assert cancelled.cancelled_caught
        assert http._reuse.reusable


async def test_a_cancelled_read_loses_nothing():
    async def slowly(server):
        await read_request(server)
        await server.send_all(HELLO[:-2])
        await wait_all_tasks_blocked()
        reading.cancel()
        await wait_all_tasks_blocked()
        await server.send_all(HELLO[-2:])

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            reading = trio.CancelScope()
            nursery.start_soon(slowly, server)
            async with http.request("GET", "/") as response:
                with reading:
                    await response.read()
                assert reading.cancelled_caught
                assert await response.read() == b"hello"
        assert http._reuse.reusable


async def test_a_body_longer_than_asked_for_names_the_bound():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        for wire in (HELLO, chunked):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, server, wire)
                async with http.request("GET", "/") as response:
                    with pytest.raises(trionet.LimitExceededError, match=r"longer than 4 bytes \(max_bytes\)"):
                        await response.read(4)
                    assert await response.read(5) == b"hello"
        assert http._reuse.reusable


async def test_the_body_cannot_be_read_after_its_block():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HEAD + b"Content-Length: 9\r\n\r\nhell")
            with pytest.raises(KeyError):
                async with http.request("GET", "/") as response:
                    raise KeyError
            with pytest.raises(trionet.HandleClosedError, match="inside it"):
                await response.read()


async def test_a_request_that_another_task_sends_too_is_not_cut_off():
    """The second task was refused, and closed the generator: the body ended there, as if it were whole."""

    async def body():
        for _ in range(3):
            yield b"abc"
            await wait_all_tasks_blocked()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        context = http.request("POST", "/", content=body())

        async def send():
            async with context as response:
                await response.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="sent already"):
                async with context:
                    pass
            asked = await read_request(server)
            assert asked.body == b"abcabcabc"
            await server.send_all(HELLO)


async def test_a_request_is_sent_once():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            context = http.request("GET", "/")
            async with context:
                pass
            with pytest.raises(RuntimeError, match="sent already"):
                async with context:
                    pass


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("GET", "/a b"), {}),
        (("G T", "/"), {}),
        (("GET", "/"), {"headers": {"X": "a\r\nb"}}),
        (("GET", "/"), {"headers": [("Transfer-Encoding", "chunked")]}),
        (("POST", "/"), {"headers": {"Content-Length": "4"}, "content": b"abc"}),
        (("POST", "/"), {"content": b"", "json": 1}),
        (("CONNECT", "a:1"), {"content": b"x"}),
    ],
)
async def test_what_cannot_be_sent_leaves_the_connection_as_it_was(arguments, options):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        with pytest.raises((ValueError, trionet.LocalProtocolError)):
            await exchange(http, *arguments, options)
        assert http.blockers == ()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            assert (await exchange(http))[1] == b"hello"


# --- leaving the block ------------------------------------------------------------------------------------------


async def test_a_short_rest_is_drained_and_the_connection_used_again():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        for wire in (HELLO, HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, server, wire)
                async with http.request("GET", "/"):
                    pass
            assert http._reuse.reusable


async def test_a_rest_that_is_under_way_is_waited_for(autojump_clock):
    async def slowly(server):
        await answer(server, HELLO[:-2])
        await trio.sleep(0.5)
        await server.send_all(HELLO[-2:])

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slowly, server)
            async with http.request("GET", "/"):
                pass
        assert http._reuse.reusable


async def test_a_rest_that_does_not_come_costs_the_drain_timeout_and_the_connection(autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope, limits=HTTPLimits(drain_timeout=3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HELLO[:-2])
            before = trio.current_time()
            async with http.request("GET", "/"):
                pass
            assert trio.current_time() - before == pytest.approx(3)
        assert http.end.reason is Reason.ABORTED


async def test_a_long_rest_is_not_read_at_all():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope, limits=HTTPLimits(drain_bytes=100))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HEAD + b"Content-Length: 101\r\n\r\n" + bytes(101))
            async with http.request("GET", "/"):
                received = http.statistics().bytes_received
        assert http.end.reason is Reason.ABORTED
        assert http.statistics().bytes_received == received


async def test_an_endless_rest_is_read_up_to_the_bound():
    async def endless(server):
        await read_request(server)
        await server.send_all(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await server.send_all(b"400\r\n%b\r\n" % bytes(1024))

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope, limits=HTTPLimits(drain_bytes=5000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endless, server)
            async with http.request("GET", "/") as response:
                buffered = response.connection._io.machine.buffered
                received = http.statistics().bytes_received
        assert http.end.reason is Reason.ABORTED
        assert http.statistics().bytes_received - received <= max(0, 5000 - buffered)


async def test_leaving_by_an_exception_drains_nothing():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            with pytest.raises(KeyError):
                async with http.request("GET", "/"):
                    raise KeyError
            assert http.end.reason is Reason.ABORTED


async def test_leaving_by_an_exception_after_the_body_keeps_the_connection():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx")
            with pytest.raises(
                trionet.HTTPStatusError, match="GET http://.* was answered with 404 Not Found"
            ) as caught:
                async with http.request("GET", "/") as response:
                    await response.read()
                    response.raise_for_status()
            assert caught.value.response is response
            assert (caught.value.body, caught.value.retry_safe) == (b"x", None)
        assert http._reuse.reusable


async def test_a_cancelled_drain_aborts():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HELLO[:-2])
            with trio.CancelScope() as leaving:
                async with http.request("GET", "/"):
                    leaving.cancel()
            assert http.end.reason is Reason.ABORTED


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 X\r\n"]
)
async def test_a_connection_that_may_not_go_on_closes_with_the_response(head):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, head + b"Content-Length: 2\r\n\r\nab")
            await exchange(http)
        assert http.end.reason is Reason.LOCAL


async def test_bytes_behind_the_response_close_the_connection():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HELLO + b"HTTP/1.1 200 for the next one\r\n\r\n")
            assert (await exchange(http))[1] == b"hello"
        assert http.phase is Phase.CLOSED


# --- what the server may do -------------------------------------------------------------------------------------


async def test_a_body_that_eof_ends():
    async def until_eof(server):
        await answer(server, HEAD + b"\r\nhel")
        await server.send_all(b"lo")
        await server.aclose()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_eof, server)
            assert (await exchange(http))[1] == b"hello"
        assert http.phase is Phase.CLOSED


@pytest.mark.parametrize(
    ("method", "safe"), [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)]
)
@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (HELLO[:-1], "1 of 5 bytes missing"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "EOF in the middle of a chunked body"),
        (HEAD, "EOF in the middle of a head"),
        (b"", "instead of answering"),
    ],
)
async def test_a_truncated_response_is_an_error_that_says_whether_a_retry_is_safe(method, safe, wire, message):
    async def cut(server):
        await answer(server, wire)
        await server.aclose()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut, server)
            with pytest.raises(trionet.RemoteProtocolError, match=message) as caught:
                await exchange(http, method)
        assert caught.value.retry_safe is safe
        assert ("a retry is safe" in str(caught.value)) is safe
        assert http.end.reason is Reason.PEER_EOF


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n",
    ],
)
async def test_a_malformed_response_ends_the_connection(wire):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, wire)
            with pytest.raises(trionet.RemoteProtocolError) as caught:
                await exchange(http)
            assert caught.value.retry_safe is None  # it would be answered in the same way
            assert "retry" not in str(caught.value)
        assert http.end.reason is Reason.PROTOCOL_ERROR
        with pytest.raises(trionet.HandleClosedError, match="nothing of the request was sent"):
            await exchange(http)


async def test_what_comes_unasked_is_not_taken_for_an_answer():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        await server.send_all(HELLO)
        await wait_readable(http)
        assert not http.is_silent()
        with pytest.raises(trionet.LimitExceededError):
            await http.upgrade(Chat(say=b""))
        assert http.phase is Phase.OPEN  # and what the handshake had received is unread again
        with pytest.raises(trionet.RemoteProtocolError, match="sent bytes before a request was sent") as caught:
            await exchange(http, "POST")
        assert caught.value.retry_safe is True
        assert http.end.reason is Reason.PROTOCOL_ERROR
        assert await server.receive_some() == b""


async def wait_readable(http):
    await trio.lowlevel.wait_readable(http._transport.socket)


async def test_a_reset_is_told_and_ends_the_connection():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:

            async def reset():
                await wait_all_tasks_blocked()
                server.abort()  # with a request unread: the system resets the connection

            nursery.start_soon(reset)
            with pytest.raises(trionet.HandleBrokenError, match="POST is not idempotent") as caught:
                await exchange(http, "POST")
        assert caught.value.retry_safe is False
        assert http.end.reason is Reason.PEER_RESET


async def test_informational_heads_pass_by():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                answer, server, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 X\r\n\r\n" + HELLO
            )
            response, body = await exchange(http)
        assert (response.status, body) == (200, b"hello")
        assert http._reuse.reusable


async def test_a_switch_of_protocols_leaves_the_byte_stream():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nHELLO\n"
            nursery.start_soon(answer, server, switching)
            async with http.request("GET", "/", headers={"Connection": "upgrade", "Upgrade": "chat"}) as response:
                assert response.status == 101
                with pytest.raises(trionet.LocalProtocolError, match="switched"):
                    await exchange(http)
                successor = await http.upgrade(Chat(say=b""))
        assert http.end.reason is Reason.UPGRADED
        assert successor.phase is Phase.OPEN


async def test_connect_opens_a_tunnel():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, b"HTTP/1.1 200 OK\r\n\r\n220 hello")
            async with http.request("CONNECT", "host.example:25") as response:
                tunnel = scope.adopt(response.connection.detach())
        assert await tunnel.receive_exactly(9) == b"220 hello"


# --- bodies of requests -----------------------------------------------------------------------------------------


async def pieces(*data):
    for piece in data:
        await trio.lowlevel.checkpoint()
        yield piece


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: b"abcdef", "content-length"),
        (lambda: [b"abc", b"def"], "content-length"),
        (lambda: io.BytesIO(b"abcdef"), "content-length"),
        (lambda: pieces(b"abc", b"def"), "transfer-encoding"),
        (lambda: iter([b"abc", b"def"]), "transfer-encoding"),
    ],
)
@pytest.mark.parametrize("expect_continue", [False, True])
async def test_every_kind_of_body_arrives(make, field, expect_continue, autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange, http, "POST", "/", {"content": make(), "expect_continue": expect_continue})
                asked = await read_request(server)
                await server.send_all(HELLO)
            assert asked.body == b"abcdef"
            assert field in asked.fields
            assert http._reuse.reusable


async def test_a_body_larger_than_all_buffers_arrives():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        body = random.Random(1).randbytes(5_000_000)
        for content in (body, pieces(body[:4_000_000], body[4_000_000:])):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange, http, "PUT", "/", {"content": content})
                assert (await read_request(server)).body == body
                await server.send_all(HELLO)
            assert http._reuse.reusable


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_early_refusal_stops_the_upload_and_closes_the_connection_afterwards(streaming):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        stopped = trio.Event()

        async def endless():
            try:
                while True:
                    yield bytes(65536)
            finally:
                stopped.set()

        async with trio.open_nursery() as nursery:

            async def refuse():
                await server.receive_until(b"\r\n\r\n", max_bytes=9999)  # and reads no further
                await wait_all_tasks_blocked()
                await server.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")

            nursery.start_soon(refuse)
            content = endless() if streaming else bytes(20_000_000)
            async with http.request("POST", "/", content=content) as response:
                assert response.status == 413
                assert stopped.is_set() is streaming
                assert await response.read() == b"no!"
        assert http.phase is Phase.CLOSED


async def test_a_server_that_answers_as_it_reads_is_read_while_the_body_is_sent():
    async def echo(server):
        await server.receive_until(b"\r\n\r\n", max_bytes=9999)
        await server.send_all(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while size := int(await server.receive_until(b"\r\n", max_bytes=9), 16):
            data = await server.receive_exactly(size + 2)
            await server.send_all(b"%x\r\n%b" % (size, data))
        await server.receive_exactly(2)
        await server.send_all(b"0\r\n\r\n")

    heard = trio.Event()

    async def talk():
        yield b"one"
        await heard.wait()
        yield b"two"

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, server)
            got = []
            async with http.request("POST", "/", content=talk()) as response:
                async for piece in response:
                    got.append(piece)
                    heard.set()
        assert got == [b"one", b"two"]
        assert http._reuse.reusable


async def test_an_upload_that_the_server_does_not_wait_for_ends_with_the_block():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)

        async def never():
            yield b"some"
            await trio.sleep_forever()

        for read in (True, False):
            http, server = await http_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(early, server)
                async with http.request("POST", "/", content=never()) as response:
                    if read:
                        assert await response.read() == b"hello"
                assert http.phase is Phase.CLOSED


async def early(server):
    await server.receive_until(b"some\r\n", max_bytes=9999)
    await server.send_all(HELLO)


@pytest.mark.parametrize("known_length", [False, True])
async def test_a_producer_that_raises_tears_the_message_and_the_connection(known_length):
    async def failing():
        yield b"some"
        raise KeyError("the producer's own")

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            seen = bytearray()

            async def watch():
                with pytest.raises(trio.BrokenResourceError):
                    while data := await server.receive_some():
                        seen.extend(data)
                    raise trio.BrokenResourceError

            nursery.start_soon(watch)
            options = {"content": failing()}
            if known_length:
                options["headers"] = {"Content-Length": "9"}
            with pytest.raises(KeyError, match="the producer's own"):
                await exchange(http, "POST", "/", options)
        assert http.end.reason is Reason.ABORTED
        assert b"some" in seen
        assert not seen.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("content", [[b"abc"], [b"abcdefghi"]])
async def test_a_producer_that_breaks_its_promise_of_length_tears_the_message(content):
    async with trionet.open_scope() as scope:
        http, _ = await http_pair(scope)
        with pytest.raises(trionet.LocalProtocolError, match="Content-Length of 5"):
            await exchange(http, "POST", "/", {"content": pieces(*content), "headers": {"Content-Length": "5"}})
        assert http.end.reason is Reason.ABORTED


async def test_a_producer_that_raises_behind_an_early_answer_is_heard():
    async def failing(go_on):
        yield b"some"
        await go_on.wait()
        raise KeyError

    for read in (True, False):
        go_on = trio.Event()
        async with trionet.open_scope() as scope:
            http, server = await http_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer_head, server)
                with pytest.raises(KeyError):
                    async with http.request("POST", "/", content=failing(go_on)) as response:
                        assert response.status == 200
                        go_on.set()
                        await wait_all_tasks_blocked()
                        if read:
                            await response.read()


async def answer_head(server):
    await server.receive_until(b"some\r\n", max_bytes=9999)
    await server.send_all(HELLO[:-5])


async def test_a_cancelled_upload_tears_the_message():
    async def never():
        yield b"some"
        await trio.sleep_forever()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        with trio.CancelScope() as uploading:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange, http, "POST", "/", {"content": never()})
                await wait_all_tasks_blocked()
                uploading.cancel()
        assert http.end.reason is Reason.ABORTED
        with pytest.raises(trionet.RemoteProtocolError):
            await read_request_strictly(server)


async def read_request_strictly(server):
    await server.receive_until(b"some\r\n", max_bytes=9999)
    await server.receive_exactly(1)


# --- 100 (Continue) ---------------------------------------------------------------------------------------------


async def test_the_body_waits_for_100_continue(autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, http, "POST", "/", {"content": b"abc", "expect_continue": True})
            head = await server.receive_some()
            assert b"Expect: 100-continue" in head
            assert head.endswith(b"\r\n\r\n")
            began = trio.current_time()
            await server.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await server.receive_exactly(3) == b"abc"
            assert trio.current_time() - began < 0.5
            await server.send_all(HELLO)
        assert http._reuse.reusable


async def test_the_body_waits_for_one_second_at_most(autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(exchange, http, "POST", "/", {"content": b"abc", "expect_continue": True})
            await server.receive_until(b"\r\n\r\n", max_bytes=999)
            assert await server.receive_exactly(3) == b"abc"
            assert trio.current_time() - began == pytest.approx(1)
            await server.send_all(HELLO)
        assert http._reuse.reusable


async def test_a_refusal_instead_of_100_spares_the_body():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_expectation, server)
            async with http.request("POST", "/", content=b"abc", expect_continue=True) as response:
                assert response.status == 417
                assert await response.read() == b"no"
        assert http.phase is Phase.CLOSED
        assert await server.receive_some() == b""


async def answer_expectation(server):
    await server.receive_until(b"\r\n\r\n", max_bytes=999)
    await server.send_all(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")


# --- the verbs --------------------------------------------------------------------------------------------------


async def test_detach_at_a_message_boundary_and_upgrade_on_the_byte_stream():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            await exchange(http)
        plain = scope.adopt(http.detach())
        assert http.end.reason is Reason.DETACHED
        http = await plain.upgrade(to_http_client())
        await server.send_all(b"HELLO\nrest")
        successor = await http.upgrade(Chat(say=b""))
        assert await successor.receive_exactly(4) == b"rest"


async def test_transfer_takes_the_connection_to_another_scope():
    async with trionet.open_scope() as outer:
        async with trionet.open_scope() as scope:
            http, server = await http_pair(scope)
            server = server.transfer(outer)
            moved = http.transfer(outer)
        assert http.end.reason is Reason.TRANSFERRED
        with pytest.raises(trionet.HandleMovedError):
            await exchange(http)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            assert (await exchange(moved))[1] == b"hello"


@pytest.mark.parametrize("verb", ["aclose", "detach_when_idle"])
async def test_a_graceful_end_waits_for_the_running_exchange(verb):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HELLO[:-2])
            async with http.request("GET", "/") as response:
                nursery.start_soon(getattr(http, verb))
                await wait_all_tasks_blocked()
                with pytest.raises((trionet.HandleBusyError, trionet.HandleClosedError)):
                    await exchange(http)
                await server.send_all(HELLO[-2:])
                assert await response.read() == b"hello"
        assert http.end.reason is (Reason.LOCAL if verb == "aclose" else Reason.DETACHED)


async def test_a_large_upload_passes_while_the_connection_drains():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, http, "PUT", "/", {"content": bytes(5_000_000)})
            await wait_all_tasks_blocked()
            nursery.start_soon(http.aclose)
            await wait_all_tasks_blocked()
            assert http.phase is Phase.DRAINING
            assert len((await read_request(server)).body) == 5_000_000
            await server.send_all(HELLO)
        assert http.end.reason is Reason.LOCAL


async def test_abort_ends_the_running_exchange():
    async with trionet.open_scope() as scope:
        http, _ = await http_pair(scope)
        async with trio.open_nursery() as nursery:

            async def victim():
                with pytest.raises(trionet.HandleClosedError, match="GET is idempotent: a retry is safe"):
                    await exchange(http)

            nursery.start_soon(victim)
            await wait_all_tasks_blocked()
            http.abort()
        assert http.end.reason is Reason.ABORTED


async def test_abort_ends_also_a_body_that_has_arrived():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            async with http.request("GET", "/") as response:
                http.abort()
                with pytest.raises(trionet.HandleClosedError):
                    await response.read()


async def test_a_scope_that_is_left_names_the_request_it_cut_off(autojump_clock):
    async with trio.open_nursery() as nursery:
        async with trionet.open_scope(drain_timeout=1) as scope:
            http, _ = await http_pair(scope)

            async def victim():
                with pytest.raises(trionet.HandleClosedError):
                    await exchange(http, "GET", "/slow")

            nursery.start_soon(victim)
            await wait_all_tasks_blocked()
        assert http.end.reason is Reason.DRAIN_TIMEOUT
        assert "request GET /slow" in str(scope.report)


async def test_a_server_that_drains_spares_the_clients_of_its_handlers():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        http._retire()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            assert (await exchange(http))[1] == b"hello"
        assert http._reuse.reusable


async def test_requests_over_any_trio_stream():
    async with trionet.open_scope() as scope:
        one, server = memory_pair(scope)
        http = await one.upgrade(to_http_client())
        assert http.host == "localhost"
        assert not http.is_silent()  # a stream cannot tell
        for content in (None, pieces(b"x"), bytes(100_000)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, server)
                assert (await exchange(http, "POST", "/", {"content": content}))[1] == b"hello"


async def test_content_codings_are_left_on_where_nobody_asked_for_them():
    body = gzip.compress(b"hello")
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            wire = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            nursery.start_soon(answer, server, wire)
            async with http.request("GET", "/") as response:
                assert b"".join([piece async for piece in response.raw()]) == body


@pytest.mark.parametrize("content", ["none", "small", "large", "streamed"])
async def test_cancelled_at_every_checkpoint_of_an_exchange(content):
    outcomes = set()

    async def scenario(cancelling):
        async with trionet.open_scope() as scope:
            http, server = await http_pair(scope)
            bodies = {"none": None, "small": b"x", "large": bytes(3_000_000), "streamed": pieces(b"one", b"two")}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_pieces, server)
                with cancelling.scope:
                    async with http.request("POST", "/", content=bodies[content]) as response:
                        assert await response.read() == b"hello"
                nursery.cancel_scope.cancel()
            assert http.phase in (Phase.OPEN, Phase.CLOSED)
            assert http.blockers == ()
            assert http._reuse.reusable or http.phase is Phase.CLOSED
            outcomes.add(http.phase)

    assert await at_every_checkpoint(scenario) >= 2
    assert outcomes == {Phase.OPEN, Phase.CLOSED}


async def serve_pieces(server):
    with trio.CancelScope(shield=False):
        await read_request(server)
        for part in (HELLO[:10], HELLO[10:-2], HELLO[-2:]):
            await wait_all_tasks_blocked()
            await server.send_all(part)


async def test_a_reset_that_the_upload_has_met_does_not_look_like_the_end_of_the_response():
    """The kernel reports a reset once, to the send here; behind it a receive finds EOF, which would end this body."""
    go_on = trio.Event()

    async def body():
        yield b"x"
        await go_on.wait()
        while True:
            yield b"y"

    async with trionet.open_scope() as scope:
        http, other = await http_pair(scope)
        await other.send_all(b"HTTP/1.1 200 OK\r\n\r\npart")
        with pytest.raises((trionet.HandleBrokenError, trionet.RemoteProtocolError)):
            async with http.request("POST", "/", content=body()) as response:
                assert await anext(response) == b"part"
                await other.receive_some()
                vanish(other)
                go_on.set()
                await wait_all_tasks_blocked()
                rest = await response.read()
                pytest.fail(f"the response ended with {rest!r}")
        assert http.end.reason is Reason.PEER_RESET


async def test_what_a_body_s_producer_raises_is_not_judged_as_the_connection_s():
    """A producer may read from another connection: that one has failed, and nothing is known of a retry here."""

    async def body():
        yield b"x"
        raise error

    error = trionet.RemoteProtocolError("the other one")
    async with trionet.open_scope() as scope:
        http, _ = await http_pair(scope)
        with pytest.raises(trionet.RemoteProtocolError) as caught:
            async with http.request("PUT", "/", content=body()):
                pass
        assert caught.value is error
        assert str(error) == "the other one"
        assert error.retry_safe is None
        assert not isinstance(error, trionet.HTTPClientError)
