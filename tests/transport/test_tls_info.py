"""What TLS tells beyond the handshake: sessions to resume, channel bindings."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess

import pytest

import trionet
from trionet import to_tls_client
from trionet.transport.channel_binding import server_end_point

from ..helpers.tls import secured

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


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
        with pytest.raises(
            ValueError, match="session cannot be resumed with this ssl_context.*SSLContext; give the context"
        ):
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
