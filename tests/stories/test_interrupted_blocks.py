"""Ctrl-C and the user's own exceptions leave `open_tcp` and its kin as they are, wherever they strike: in no group.

The interrupt is a real SIGINT, raised when the main task waits, so that Trio delivers it to that task.
"""

from __future__ import annotations

import signal
import socket
from contextlib import AbstractAsyncContextManager, closing
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet.handle import guards

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def interrupted(scenario: Callable[[Callable[[], None]], Awaitable[None]]) -> BaseException | None:
    """What leaves `scenario`, which calls its argument where Ctrl-C is to strike next."""
    left: list[BaseException] = []

    async def main() -> None:
        def strike_soon() -> None:
            trio.lowlevel.spawn_system_task(strike)

        async def strike() -> None:
            await wait_all_tasks_blocked(0.01)
            signal.raise_signal(signal.SIGINT)

        with trio.fail_after(10):
            try:
                await scenario(strike_soon)
            except BaseException as exc:  # noqa: BLE001, ASYNC103 - the test looks at it
                left.append(exc)

    trio.run(main)
    return left[0] if left else None


@pytest.fixture
def silent() -> Iterator[tuple[int, str]]:
    """The port and the Unix path of listeners that let everybody connect, and never say anything."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0trionet-silent-{tcp.getsockname()[1]}")
        unix.listen(50)
        yield tcp.getsockname()[1], unix.getsockname().decode()


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a listener whose backlog is full: whoever connects waits."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[1]
        for filler in fillers:
            filler.close()


async def _connect(port: int) -> None:
    async with trionet.open_tcp("127.0.0.1", port):
        raise AssertionError("connected")


async def _request(port: int, scheme: str = "http") -> None:
    async with trionet.open_http_client() as client, client.request("GET", f"{scheme}://127.0.0.1:{port}/"):
        raise AssertionError("answered")


async def _websocket(port: int, scheme: str = "ws") -> None:
    async with trionet.open_websocket(f"{scheme}://127.0.0.1:{port}/"):
        raise AssertionError("opened")


@pytest.mark.parametrize("way", [_connect, _request, _websocket])
def test_ctrl_c_while_it_connects(way: Any, full: int) -> None:
    async def scenario(strike_soon: Callable[[], None]) -> None:
        strike_soon()
        await way(full)

    assert type(interrupted(scenario)) is KeyboardInterrupt


@pytest.mark.parametrize("way", [_connect, _request, _websocket])
def test_ctrl_c_while_a_name_is_looked_up(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*args: Any, **kwargs: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", never)
    monkeypatch.setattr(trio._highlevel_open_tcp_stream, "getaddrinfo", never)

    async def scenario(strike_soon: Callable[[], None]) -> None:
        strike_soon()
        await way(80)

    assert type(interrupted(scenario)) is KeyboardInterrupt


@pytest.mark.parametrize("way", [_request, _websocket])
@pytest.mark.parametrize("secure", [False, True])
def test_ctrl_c_while_the_server_is_waited_for(way: Any, secure: bool, silent: tuple[int, str]) -> None:
    """In the TLS handshake, or in that of WebSocket, or for the head of a response."""

    async def scenario(strike_soon: Callable[[], None]) -> None:
        strike_soon()
        await way(silent[0], {_request: "http", _websocket: "ws"}[way] + "s" * secure)

    assert type(interrupted(scenario)) is KeyboardInterrupt


BLOCKS: dict[str, Callable[[tuple[int, str]], AbstractAsyncContextManager[Any]]] = {
    "tcp": lambda silent: trionet.open_tcp("127.0.0.1", silent[0]),
    "unix": lambda silent: trionet.open_unix(silent[1]),
    "http": lambda silent: trionet.open_http_client(),
}
every_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


@every_block
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), BaseExceptionGroup("mine", [SystemExit()])])
def test_what_the_body_raises_leaves_as_it_is(block: Any, error: BaseException, silent: tuple[int, str]) -> None:
    async def scenario(strike_soon: Callable[[], None]) -> None:
        async with block(silent):
            raise error

    assert interrupted(scenario) is error


@every_block
def test_ctrl_c_in_the_body(block: Any, silent: tuple[int, str]) -> None:
    async def scenario(strike_soon: Callable[[], None]) -> None:
        async with block(silent):
            strike_soon()
            await trio.sleep_forever()

    assert type(interrupted(scenario)) is KeyboardInterrupt


@every_block
@pytest.mark.parametrize("when", ["body", "leaving"])
def test_ctrl_c_that_strikes_a_service_task(block: Any, when: str, silent: tuple[int, str]) -> None:
    """Trio raises it in whatever code it hits that is not protected: here, in what goes on behind the block."""

    async def struck() -> None:
        if when == "body":
            raise KeyboardInterrupt
        try:
            await trio.sleep_forever()
        finally:
            raise KeyboardInterrupt

    async def scenario(strike_soon: Callable[[], None]) -> None:
        async with block(silent) as opened:
            opened._owner.start_service(struck)
            await wait_all_tasks_blocked()
            if when == "body":
                await trio.sleep_forever()

    assert type(interrupted(scenario)) is KeyboardInterrupt


@pytest.mark.parametrize("kind", ["tcp", "unix", "http", "websocket"])
def test_ctrl_c_while_its_handles_drain(kind: str, silent: tuple[int, str]) -> None:
    """Work is in progress when the block is left, so that its end waits for it."""

    async def serve(connection: trionet.Connection) -> None:
        await connection.upgrade(trionet.to_websocket_server())
        await trio.sleep_forever()

    async def scenario(strike_soon: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trionet.serve_tcp, serve, 0)
            try:
                if kind == "websocket":
                    async with trionet.open_websocket(f"ws://127.0.0.1:{server.port}/") as opened:
                        lease = guards.grant_lease(opened, "work")
                        strike_soon()
                elif kind == "http":
                    async with trionet.open_http_client() as client:
                        nursery.start_soon(_asked, client, silent[0])
                        await wait_all_tasks_blocked(0.01)
                        strike_soon()
                else:
                    async with BLOCKS[kind](silent) as opened:
                        lease = guards.grant_lease(opened, "work")
                        strike_soon()
            except BaseException as exc:  # noqa: BLE001, ASYNC103 - the test looks at it
                raised.append(exc)
            nursery.cancel_scope.cancel()
        del lease

    async def _asked(client: Any, port: int) -> None:
        with pytest.raises(trio.ClosedResourceError):
            async with client.request("GET", f"http://127.0.0.1:{port}/"):
                raise AssertionError("answered")

    raised: list[BaseException] = []
    interrupted(scenario)
    assert [type(exc) for exc in raised] == [KeyboardInterrupt]
