"""What TLS tells beyond the handshake: the name that a client asked for, sessions to resume, channel bindings."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess

import pytest
import trio

import trionet
from trionet import to_tls_client, to_tls_server
from trionet.tls.client_hello import server_name_of
from trionet.transport.channel_binding import server_end_point

from ..helpers.pairs import tcp_pair

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


async def secured(scope, server_context, client_context, name="localhost", **options):
    """Both sides of a connection, with TLS on it."""
    one, other = tcp_pair(scope)
    ends = {}

    async def serve():
        ends["server"] = await other.upgrade(to_tls_server(server_context))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = await one.upgrade(to_tls_client(name, client_context, **options))
    return client, ends["server"]


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


# --- the name that the client asks for ---------------------------------------------------------------------------


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


# --- sessions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_resumed(server_context, client_context, version):
    client_context.maximum_version = version
    async with trionet.open_scope() as scope:
        client, server = await secured(scope, server_context, client_context)
        await server.send_all(b"x")
        await client.receive_some()  # TLS 1.3 brings the ticket along
        assert not client.tls.session_reused
        assert server.tls.session is None
        session = client.tls.session
        client, server = await secured(scope, server_context, client_context, session=session)
        assert client.tls.session_reused
        assert server.tls.session_reused
        scope.cancel()


async def test_a_session_of_another_context_is_refused(server_context, client_context, ca):
    async with trionet.open_scope() as scope:
        client, _ = await secured(scope, server_context, client_context)
        other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(ValueError, match="session cannot be resumed with this ssl_context.*give the one"):
            to_tls_client("localhost", other, session=client.tls.session)
        with pytest.raises(TypeError, match="session must be an ssl.SSLSession"):
            to_tls_client("localhost", client_context, session=b"session")
        scope.cancel()


# --- channel bindings --------------------------------------------------------------------------------------------


async def test_bindings_are_the_same_on_both_sides(server_context, client_context):
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with trionet.open_scope() as scope:
        client, server = await secured(scope, server_context, client_context)
        assert client.tls.channel_binding() == server.tls.channel_binding("tls-unique")
        assert len(client.tls.channel_binding()) >= 12
        scope.cancel()


async def test_the_end_point_is_the_hash_of_the_servers_certificate(server_context, client_context):
    async with trionet.open_scope() as scope:
        client, server = await secured(scope, server_context, client_context)
        certificate = client.tls.peer_certificate_der
        assert client.tls.channel_binding("tls-server-end-point") == hashlib.sha256(certificate).digest()
        assert server.tls.channel_binding("tls-server-end-point") is None
        assert client.tls.channel_binding("tls-unique") is None  # TLS 1.3 has none (RFC 8446 §C.5)
        with pytest.raises(ValueError, match="kind must be 'tls-unique' or 'tls-server-end-point', not 'tls'"):
            client.tls.channel_binding("tls")
        scope.cancel()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command (apt-get install openssl)")
@pytest.mark.parametrize(
    ("key", "digest", "name"),
    [("rsa:2048", "sha256", "sha256"), ("rsa:2048", "sha384", "sha384"), ("rsa:2048", "sha1", "sha256"),
     ("ec", "sha512", "sha512"), ("ed25519", None, None)],
)  # fmt: skip
def test_the_hash_is_that_of_the_certificates_signature(key, digest, name, tmp_path):

    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["-newkey", key]
    how = [f"-{digest}"] if digest else []
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *how, "-nodes", "-subj", "/CN=a", "-keyout", "key.pem",
         "-outform", "DER", "-out", "cert.der"],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    certificate = (tmp_path / "cert.der").read_bytes()
    assert server_end_point(certificate) == (name and hashlib.new(name, certificate).digest())
