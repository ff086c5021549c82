"""What a program gives to a server: checked before anything is taken over."""

import socket
import ssl

import pytest
import trio

import trionet

from ..helpers.pairs import open_descriptors, tcp_sockets
from ..helpers.served import echo


async def test_serve_names_what_does_not_listen():
    with pytest.raises(ValueError, match="at least one listener"):
        await trionet.serve(echo, [])
    with pytest.raises(TypeError, match="must be a listening socket, not 8080"):
        await trionet.serve(echo, [8080])
    one, other = tcp_sockets()
    with one, other, pytest.raises(ValueError, match="does not listen"):
        await trionet.serve(echo, [one])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": 5}, "limits must be a trionet.Limits, not 5"),
        ({"ssl_context": True}, "ssl_context.*True"),
        ({"ssl_context": ssl.create_default_context()}, "PROTOCOL_TLS_CLIENT|client"),
    ],
)
async def test_serve_checks_its_arguments_before_it_takes_the_listeners(options, message):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises((TypeError, ValueError), match=message):
            await trionet.serve(echo, [listener], **options)
        assert listener.fileno() >= 0
    before = open_descriptors()
    with pytest.raises((TypeError, ValueError), match=message):
        await trionet.serve_tcp(echo, 0, **options)
    assert open_descriptors() == before


async def test_a_listener_that_does_not_listen_leaves_the_others_alone():
    (good,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    one, other = tcp_sockets()
    with one, other, pytest.raises(ValueError, match="does not listen"):
        await trionet.serve(echo, [good, one])
    assert good.socket.fileno() >= 0
    await good.aclose()
    with pytest.raises(ValueError, match="is closed"):
        await trionet.serve(echo, [good])


async def test_a_handler_that_was_called_too_early_is_refused():
    coroutine = echo(None)
    with pytest.raises(TypeError, match="pass the function itself, without calling it"):
        await trionet.serve_tcp(coroutine, 0)
    coroutine.close()
    with pytest.raises(TypeError, match="handler must be an async function, not 8080"):
        await trionet.serve_tcp(8080, echo)
