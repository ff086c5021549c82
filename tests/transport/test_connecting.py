"""Connecting: what is refused before any look-up, and errors that name what could not be reached."""

import errno
import socket

import pytest
import trio

import trionet

from ..helpers.pairs import open_descriptors


@pytest.mark.parametrize(
    "host", ["", "http://localhost", "[::1]", "localhost:80", "local host", "a\0b", "x" * 256, b""]
)
async def test_a_host_that_cannot_be_right_is_refused_before_any_lookup(host):
    async with trionet.open_scope() as scope:
        with pytest.raises(ValueError, match="host must"):
            await scope.connect_tcp(host, 80)


@pytest.mark.parametrize(("host", "port"), [(8080, "localhost"), (None, 80)])
async def test_a_host_of_the_wrong_type_is_named(host, port):
    async with trionet.open_scope() as scope:
        with pytest.raises(TypeError, match=f"host must be a str or bytes, not {host!r}"):
            await scope.connect_tcp(host, port)


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_a_port_out_of_range_is_named(port):
    async with trionet.open_scope() as scope:
        with pytest.raises(ValueError, match=f"port must be 1 to 65535, not {port}"):
            await scope.connect_tcp("localhost", port)


async def test_every_reason_is_in_the_message():
    """A name with two addresses that both refuse: one error, of the kind that both are, with host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with trionet.open_scope() as scope:
        with pytest.raises(ConnectionRefusedError, match=f"cannot connect to localhost:{port}: .*refused") as caught:
            await scope.connect_tcp("localhost", port)
        assert caught.value.errno == errno.ECONNREFUSED
        assert "a retry is safe" in str(caught.value)


async def test_several_reasons_are_all_named(monkeypatch):
    async def open_tcp_stream(host, port, **options):
        causes = [OSError(errno.ENETUNREACH, "no route"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")]
        raise OSError("all attempts failed") from ExceptionGroup("attempts", [*causes, ValueError("not one of them")])

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    async with trionet.open_scope() as scope:
        with pytest.raises(OSError, match=r"cannot connect to b\.example:80: no route; refused") as caught:
            await scope.connect_tcp(b"b.example", 80)
    assert type(caught.value) is OSError


async def test_an_unknown_name_is_an_error_of_the_lookup(monkeypatch):
    async def getaddrinfo(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    async with trionet.open_scope() as scope:
        with pytest.raises(socket.gaierror, match=r"cannot connect to nobody\.example:80: Name or service not known"):
            await scope.connect_tcp("nobody.example", 80)


@pytest.mark.parametrize("host", ["x" * 64 + ".example", ".example", "a..b"])
async def test_a_name_that_no_lookup_takes_is_an_error_that_names_it(host):
    """The idna codec raises UnicodeError on labels that are empty or too long."""
    async with trionet.open_scope() as scope:
        with pytest.raises(OSError, match=rf"cannot connect to {host}:80: "):
            await scope.connect_tcp(host, 80)


async def test_a_cancelled_connect_leaves_nothing_open():
    before = open_descriptors()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        async with trionet.open_scope() as scope:
            with trio.CancelScope() as cancel:
                cancel.cancel()
                await scope.connect_tcp("127.0.0.1", listener.getsockname()[1])
            assert cancel.cancelled_caught
            assert not scope.handles
    assert open_descriptors() == before


# --- Unix -----------------------------------------------------------------------------------------------------------


async def test_a_unix_socket_that_nobody_listens_on_is_named(tmp_path):
    before = open_descriptors()
    async with trionet.open_scope() as scope:
        with pytest.raises(FileNotFoundError, match=f"cannot connect to {tmp_path}/sock: No such file"):
            await scope.connect_unix(tmp_path / "sock")
        with pytest.raises(ValueError, match="path must not be empty"):
            await scope.connect_unix("")
        with pytest.raises(OSError, match=f"{tmp_path}/x+: .*at most 107 bytes, not") as caught:
            await scope.connect_unix(tmp_path / ("x" * 120))
        assert caught.value.errno == errno.ENAMETOOLONG
        with pytest.raises(ValueError, match="path must"):
            await scope.connect_unix("in\0side")
        with pytest.raises(TypeError):
            await scope.connect_unix(8080)
    assert open_descriptors() == before


async def test_a_cancelled_connect_to_a_unix_socket_leaves_nothing_open(tmp_path):
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        async with trionet.open_scope() as scope:
            with trio.CancelScope() as cancel:
                cancel.cancel()
                await scope.connect_unix(tmp_path / "sock")
            assert cancel.cancelled_caught
    assert open_descriptors() == before


@pytest.mark.parametrize("opening", ["connect_tcp", "connect_unix"])
async def test_a_scope_that_shuts_while_it_connects_gets_nothing(opening, tmp_path, monkeypatch):
    """The connection is made in the moment in which the scope closes: it is closed, and the error says why."""
    before = open_descriptors()
    one, other = socket.socketpair()
    with other:

        async def made(*args):
            scope._owner.shut_door()
            return one

        monkeypatch.setattr("trionet.transport.connecting.tcp_socket", made)
        monkeypatch.setattr("trionet.transport.connecting.unix_socket", made)
        async with trionet.open_scope() as scope:
            with pytest.raises(trionet.ScopeClosedError, match=f"{opening} refused: .*is closing"):
                await (scope.connect_tcp("localhost", 80) if opening == "connect_tcp" else scope.connect_unix("sock"))
        assert one.fileno() == -1
    assert open_descriptors() == before
