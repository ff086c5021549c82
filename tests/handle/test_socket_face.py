"""The face of a handle's socket: options and addresses as long as the handle lives, and nothing that moves bytes."""

from __future__ import annotations

import os
import socket
import ssl

import pytest
import trio

import trionet
from trionet import PeerCredentials, to_tls_client, to_tls_server

from ..helpers.pairs import memory_pair, tcp_pair, unix_pair


async def test_options_are_read_and_set():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        face = one.socket
        face.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert face.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert len(face.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == 8
        assert (face.getsockname(), face.getpeername()) == (one.local_address, other.local_address)
        assert face.family == socket.AF_INET
        assert os.fstat(face.fileno())


@pytest.mark.parametrize("end", ["abort", "detach"])
async def test_the_face_ends_with_its_handle(end):
    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        face = one.socket
        getattr(one, end)()
        assert face.fileno() == -1
        assert one.socket is None
        with pytest.raises(trionet.HandleClosedError, match="no socket any more"):
            face.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert "fd=-1" in repr(face)


async def test_nothing_on_it_moves_bytes():
    assert {name for name in dir(trionet.HandleSocket) if not name.startswith("_")} == {
        "family", "fileno", "getpeername", "getsockname", "getsockopt", "setsockopt",
    }  # fmt: skip


async def test_who_is_at_the_other_end_of_a_unix_socket():
    async with trionet.open_scope() as scope:
        one, _ = unix_pair(scope)
        assert one.peer_credentials == PeerCredentials(os.getpid(), os.geteuid(), os.getegid())
        assert tcp_pair(scope)[0].peer_credentials is None
        one.abort()
        assert one.peer_credentials is None


async def test_streams_have_a_socket_where_there_is_one(server_context, client_context):
    async with trionet.open_scope() as scope:
        assert memory_pair(scope)[0].socket is None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            plain = await trio.open_tcp_stream(*listener.getsockname())
            wrapped = await trio.open_tcp_stream(*listener.getsockname())
            for stream in (plain, trio.SSLStream(wrapped, ssl.create_default_context(), server_hostname="a")):
                face = scope.adopt(stream).socket
                assert face.getpeername() == listener.getsockname()
        scope.cancel()


async def test_over_tls_the_socket_is_the_one_below(server_context, client_context):
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        number = one.socket.fileno()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.upgrade, to_tls_server(server_context))
            secure = await one.upgrade(to_tls_client("localhost", client_context))
        assert secure.socket.fileno() == number
        scope.cancel()
