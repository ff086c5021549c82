"""A client's HTTP connection: one request at a time, and the verbs of its handle."""

import gzip

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.http.client.recipe import to_http_client

from ...helpers.http_by_hand import HELLO, http_pair, read_request
from ...helpers.http_client_connections import HEAD, Chat, answer, exchange, pieces, wait_readable
from ...helpers.http_served import vanish
from ...helpers.pairs import memory_pair
from ...stories.test_cancel_everywhere import at_every_checkpoint

# --- one request after another ------------------------------------------------------------------------------------


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


# --- the verbs ----------------------------------------------------------------------------------------------------


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


async def test_a_connection_that_has_switched_stays_switched_when_its_upgrade_fails():
    """The machine was made anew then, and the next request went out to a server that speaks another protocol."""
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, switching + b"WHAT\n")
            async with http.request("GET", "/", headers={"Connection": "upgrade", "Upgrade": "chat"}) as response:
                assert response.status == 101
        with pytest.raises(trionet.UpgradeFailedError, match="expected HELLO"):
            await http.upgrade(Chat(say=b""))  # nothing was sent: the handle is open again
        assert http.phase is Phase.OPEN
        with pytest.raises(trionet.LocalProtocolError, match="has switched protocols"):
            await exchange(http)
        assert await scope.adopt(http.detach()).receive_exactly(5) == b"WHAT\n"


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
