"""Listening: what is refused before anything is open, socket files, and that nothing is left open by an error."""

import errno
import os
import socket

import pytest
import trio

import trionet
from trionet.transport.listening import Acceptor, close_listener, tcp_listeners
from trionet.transport.unix_listening import unix_listener

from ..helpers.pairs import open_descriptors


async def nobody(connection):
    """A handler that is never called."""


# --- TCP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "http://localhost", "[::1]", "local host", "x" * 256, b""])
async def test_a_host_that_cannot_be_right_is_named_before_any_lookup(host):
    with pytest.raises(ValueError, match="host must"):
        await trionet.serve_tcp(nobody, 0, host=host)


@pytest.mark.parametrize("host", [8080, True])
async def test_a_host_of_the_wrong_type_is_named(host):
    with pytest.raises(TypeError, match=f"host must be a str or bytes, not {host!r}"):
        await trionet.serve_tcp(nobody, 0, host=host)


@pytest.mark.parametrize("port", ["8080", None, 80.5])
async def test_a_port_of_the_wrong_type_is_named(port):
    with pytest.raises(TypeError, match=f"port must be an int, not {port!r}"):
        await trionet.serve_tcp(nobody, port)


async def test_an_address_of_another_machine_is_named():
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: ") as caught:
        await tcp_listeners(0, "192.0.2.1", None)
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("host", ["127.0.0.1", b"127.0.0.1", "::1"])
async def test_a_single_family(host):
    (listener,) = await tcp_listeners(0, host, None)
    assert listener.getsockname()[0] == (host.decode() if isinstance(host, bytes) else host)
    close_listener(listener)


async def test_a_port_that_is_taken_on_one_address_leaves_none_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = open_descriptors()
        with pytest.raises(OSError, match="in use"):
            await tcp_listeners(taken.getsockname()[1], None, None)
        assert open_descriptors() == before


async def test_a_port_that_is_free_on_one_address_only_is_given_up(monkeypatch):
    """Port 0 gave two addresses a port each; the first one's is taken on the other: all is closed, and tried again."""
    real = trio.open_tcp_listeners
    asked = []

    async def open_tcp_listeners(port, *, host, backlog):
        asked.append(port)
        if len(asked) == 2:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if len(asked) == 3:
            return await real(0, host="127.0.0.1", backlog=backlog)
        return [*await real(0, host="127.0.0.1", backlog=backlog), *await real(0, host="127.0.0.1", backlog=backlog)]

    monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)
    before = open_descriptors()
    (listener,) = await tcp_listeners(0, None, None)
    assert asked[0] == asked[2] == 0
    assert asked[1] != 0
    close_listener(listener)
    assert open_descriptors() == before


# --- Unix -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "0600"}, TypeError, "mode must be an int"),
        ({"backlog": "many"}, TypeError, "backlog must be an int"),
        ({"backlog": 1.5}, TypeError, "backlog must be an int"),
    ],
)
async def test_arguments_that_cannot_be_right_leave_nothing_behind(tmp_path, options, error, message):
    before = open_descriptors()
    with pytest.raises(error, match=message):
        unix_listener(tmp_path / "sock", **{"backlog": None, **options})
    assert os.listdir(tmp_path) == []
    assert open_descriptors() == before


def test_a_path_that_is_too_long_is_told_its_limit(tmp_path):
    path = tmp_path / ("x" * 120)
    with pytest.raises(OSError, match=f"{path}: .*at most 107 bytes, not {len(bytes(path))}") as caught:
        unix_listener(path, None)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert "None" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "in\0side"])
def test_a_path_that_cannot_be_right_is_refused(path):
    with pytest.raises(ValueError, match="path must"):
        unix_listener(path, None)


async def test_a_path_may_be_bytes(tmp_path):
    path = os.fsencode(tmp_path / "sock")
    listener = unix_listener(path, None)
    async with trionet.open_unix(path) as client:
        assert client.phase is trionet.Phase.OPEN
    close_listener(listener)
    assert os.listdir(tmp_path) == []


async def test_an_abstract_address_has_no_file(nursery):
    name = f"\0trionet test {os.getpid()}"
    async with trio.open_nursery() as inner:
        server = await inner.start(trionet.serve_unix, nobody, name)
        async with trionet.open_unix(name) as client:
            assert await client.receive_some() == b""
        with pytest.raises(OSError, match="cannot listen on @trionet test.*in use"):
            await trionet.serve_unix(nobody, name)
        with pytest.raises(ValueError, match="mode"):
            await trionet.serve_unix(nobody, name, mode=0o600)
        await server.drain(1)
    with pytest.raises(OSError, match="cannot connect"):
        async with trionet.open_unix(name):
            pass


async def test_a_relative_path_is_removed_where_it_was_made(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "sock").write_text("precious")
    monkeypatch.chdir(tmp_path / "one")
    listener = unix_listener("sock", None)
    monkeypatch.chdir(tmp_path / "two")
    close_listener(listener)
    assert (tmp_path / "two" / "sock").read_text() == "precious"
    assert os.listdir(tmp_path / "one") == []


async def test_a_file_that_took_the_place_of_the_socket_file_stays(tmp_path):
    """A new server moved its own socket file over the old one's, for a restart without a gap; then the old one ends."""
    old = unix_listener(tmp_path / "sock", None)
    new = unix_listener(tmp_path / "new", None)
    (tmp_path / "new").rename(tmp_path / "sock")
    close_listener(old)
    assert (tmp_path / "sock").exists()
    close_listener(new)  # its file has another name now, so nobody knows that it is this one's
    assert (tmp_path / "sock").exists()


async def test_the_socket_file_of_a_listener_that_was_made_elsewhere_stays(tmp_path, nursery):
    """A supervisor passes a listening socket, and will pass it to the next server: the file is not ours to remove."""
    path = tmp_path / "sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = await nursery.start(trionet.serve, nobody, [listener])
    await server.drain(1)
    assert listener.fileno() == -1
    assert path.exists()


def test_a_server_with_a_full_backlog_is_no_stale_one(tmp_path):
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        with pytest.raises(OSError, match="another process listens there"):  # and this does not wait for it
            unix_listener(path, None)
    assert path.exists()


def test_a_datagram_socket_is_in_the_way(tmp_path):
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(OSError, match=f"cannot listen on {path}: "):
            unix_listener(path, None)
    assert path.exists()


async def test_closing_a_listener_twice_does_nothing(tmp_path):
    listener = unix_listener(tmp_path / "sock", None)
    close_listener(listener)
    (tmp_path / "sock").write_text("precious")
    close_listener(listener)
    assert (tmp_path / "sock").exists()


# --- accepting ------------------------------------------------------------------------------------------------------


def test_what_is_accepted_is_the_listeners_kind_of_socket_and_needs_no_asking():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        acceptor = Acceptor(listener)
        with pytest.raises(BlockingIOError):
            acceptor.accept()
        with socket.create_connection(listener.getsockname()) as client:
            transport = acceptor.accept()
            sock = transport.socket
            assert (sock.family, sock.type, sock.proto) == (listener.family, listener.type, listener.proto)
            assert (transport.local_address, transport.remote_address) == (client.getpeername(), client.getsockname())
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not sock.get_inheritable()
            assert not sock.getblocking()
            transport.close()


def test_a_listener_of_a_class_of_ones_own_accepts_in_its_own_way():
    class Counting(socket.socket):
        accepted = 0

        def accept(self):
            self.accepted += 1
            return super().accept()

    with Counting(fileno=socket.create_server(("127.0.0.1", 0)).detach()) as listener:
        with socket.create_connection(listener.getsockname()):
            Acceptor(listener).accept().close()
        assert listener.accepted == 1
