"""The name that a client asks for, read out of its ClientHello."""

from __future__ import annotations

import ssl

import pytest

import trionet
from trionet.tls.client_hello import server_name_of

from ..helpers.tls import secured

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def hello_for(name, **settings):
    """The first flight of a client that asks for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for setting, value in settings.items():
        setattr(context, setting, value)
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def test_a_server_is_told_the_name(server_context, client_context):
    async with trionet.open_scope() as scope:
        client, server = await secured(scope, server_context, client_context)
        assert (client.tls.server_hostname, server.tls.server_hostname) == ("localhost", "localhost")
        client, server = await secured(scope, server_context, client_context, "bücher.example")
        assert server.tls.server_hostname == "xn--bcher-kva.example"
        scope.cancel()


async def test_an_address_is_not_a_name_that_is_asked_for(server_context, client_context):
    async with trionet.open_scope() as scope:
        _, server = await secured(scope, server_context, client_context, "127.0.0.1")
        assert server.tls.server_hostname is None
        scope.cancel()


async def test_the_context_keeps_its_own_callback(server_context, client_context, ca):
    asked = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    context.sni_callback = lambda tls, name, context: asked.append(name)
    async with trionet.open_scope() as scope:
        _, server = await secured(scope, context, client_context)
        assert server.tls.server_hostname == "localhost"
        scope.cancel()
    assert asked == ["localhost"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_name_is_there_with_the_last_byte_of_the_hello_and_not_before(version):
    flight = hello_for("host.example", maximum_version=version)
    assert server_name_of(flight) == "host.example"
    assert {server_name_of(flight[:size]) for size in range(len(flight))} == {None}
    assert server_name_of(flight + b"more") == "host.example"


def test_a_hello_in_several_records_is_read():
    flight = hello_for("host.example")
    message = flight[5:]
    pieces = [message[at : at + 50] for at in range(0, len(message), 50)]
    records = b"".join(flight[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert server_name_of(records) == "host.example"


def test_what_is_no_hello_has_no_name():
    flight = bytearray(hello_for("host.example"))
    assert server_name_of(hello_for(None)) is None
    for at in range(len(flight)):
        for value in (0, 0xFF):
            broken = flight.copy()
            broken[at] = value
            assert isinstance(server_name_of(bytes(broken)), str | None)
    assert server_name_of(b"GET / HTTP/1.1\r\n\r\n") is None
    assert server_name_of(bytes(1000)) is None
