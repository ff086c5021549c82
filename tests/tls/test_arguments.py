"""What a program gives to the recipes for TLS."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

from trionet import (
    LocalProtocolError,
    Phase,
    UpgradeFailedError,
    to_plaintext,
    to_tls_client,
    to_tls_server,
)
from trionet.tls import arguments

from ..helpers.tls import two_handles

if TYPE_CHECKING:
    pass


async def test_client_needs_a_name_to_verify() -> None:
    with pytest.raises(ValueError, match=r"server_hostname is missing.*server_hostname='host.example'.*check_hostname"):
        to_tls_client()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        ".example",
        "a..b",
        "http://a",
        "a:443",
        "[::1]",
        "a b",
        "user@a",
        "x" * 64 + ".a",
        "a\0b",
        "ü\x00",
        "a%eth0",
        "127.0.0.1%eth0",
        "fe80::1%",
        "fe80::1%a/b",
        "1:2:3",
    ],
)
async def test_impossible_names_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an IP address") as info:
        to_tls_client(name)
    assert repr(name) in str(info.value)


async def test_wrong_arguments_are_named(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    with pytest.raises(TypeError, match=r"must be a str.*b'localhost'"):
        to_tls_client(b"localhost")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"for the server side.*create_default_context\(\)"):
        to_tls_client("localhost", server_context)
    with pytest.raises(ValueError, match=r"for the client side.*CLIENT_AUTH"):
        to_tls_server(client_context)
    with pytest.raises(TypeError, match=r"must be an ssl.SSLContext.*'cert.pem'"):
        to_tls_server("cert.pem")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be an ssl.SSLContext.*42"):
        to_tls_client("localhost", 42)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"not 'h2'; write alpn=\['h2'\]"):
        to_tls_client("localhost", alpn="h2")
    for wrong in ("", "x" * 256, "ü", b"h2"):
        with pytest.raises(ValueError, match="1 to 255 ASCII"):
            to_tls_client("localhost", alpn=[wrong])  # type: ignore[list-item]
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="handshake_timeout must be more than 0"):
            to_tls_server(server_context, handshake_timeout=seconds)
        with pytest.raises(ValueError, match="handshake_timeout must be more than 0"):
            to_plaintext(handshake_timeout=seconds)


async def test_a_recipe_is_used_once(secure: Any, client_context: ssl.SSLContext) -> None:
    recipe = to_tls_client("localhost", client_context)
    async with two_handles() as (one, two):
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.upgrade(recipe)
        assert one.phase is Phase.OPEN
        await two.aclose()
        with pytest.raises(UpgradeFailedError):
            await one.upgrade(recipe)
    async with two_handles() as (one, _):
        with pytest.raises(LocalProtocolError, match="this to_tls_client recipe was used before; make one per upgrade"):
            await one.upgrade(recipe)
        assert one.phase is Phase.OPEN


async def test_only_connections_can_be_upgraded(server_context: ssl.SSLContext) -> None:
    recipe = to_tls_server(server_context)
    with pytest.raises(LocalProtocolError, match=r"works on a Connection, not on 'exchange'"):
        recipe.prepare("exchange")


async def test_default_context_verifies_and_is_kept() -> None:
    context = arguments.default_context(())
    assert context is arguments.default_context(())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert arguments.default_context(("h2",)) is not context


async def test_systems_with_their_own_trust_store_use_truststore(monkeypatch: pytest.MonkeyPatch) -> None:
    import truststore

    monkeypatch.setattr(sys, "platform", "darwin")
    assert type(arguments.system_trust()).__mro__[0] is truststore.SSLContext
