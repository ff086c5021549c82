"""A context for each name that clients ask for."""

import ssl

import pytest

import trionet
from trionet import UpgradeFailedError, to_tls_client, to_tls_server
from trionet.tls.server_contexts import ContextChoice

from ..helpers.served import echo, serving
from ..helpers.tls import both, client_hello, two_handles

__all__ = ["serving"]

A, B, C = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(3))


@pytest.mark.parametrize(
    ("given", "name", "found"),
    [
        ({"a.example": A}, "a.example", A),
        ({"a.example": A}, "A.Example", A),
        ({"a.example": A}, "a.example.", A),
        ({"a.example": A}, "b.example", None),
        ({"a.example": A}, None, None),
        ({"a.example": A, "*": C}, None, C),
        ({"a.example": A, "*": C}, "example", C),
        ({"a.example": A, "*.example": B, "*": C}, "a.example", A),
        ({"a.example": A, "*.example": B, "*": C}, "b.example", B),
        ({"*.example": B}, "example", None),
        ({"*.example": B}, "a.b.example", None),
        ({"*.example": B}, ".example", None),
        ({"*.example": B}, "*.example", B),
        (lambda name: {"a": A, None: B}.get(name), "a", A),
        (lambda name: {"a": A, None: B}.get(name), None, B),
        (lambda name: None, "b", None),
    ],
)
def test_which_context_a_name_has(given, name, found):
    assert ContextChoice(given).choose(name) is found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "empty mapping"),
        ({"A.example": A}, "in ASCII and lower case"),
        ({"b\xfccher.example": A}, "in ASCII and lower case"),
        ({"a.*.example": A}, "in ASCII and lower case"),
        ({"*a.example": A}, "in ASCII and lower case"),
        ({"": A}, "in ASCII and lower case"),
        ({5: A}, "must be a str"),
        ({"a": None}, "must be an ssl.SSLContext"),
        ({"a": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "for the client side"),
        ("cert.pem", "must be an ssl.SSLContext"),
    ],
)
def test_what_cannot_be_right(given, said):
    with pytest.raises((TypeError, ValueError), match=said):
        to_tls_server(given)


def context_for(ca, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    return context


async def shake_hands(contexts, client_recipe):
    async with two_handles() as (client, server):
        results = await both(lambda: client.upgrade(client_recipe), lambda: server.upgrade(to_tls_server(contexts)))
        names = [isinstance(result, trionet.Connection) and result.tls.server_hostname for result in results]
        for handle in (client, server, *results):
            if isinstance(handle, trionet.Connection):
                handle.abort()
        return results, names


@pytest.mark.parametrize("name", ["a.example", "x.other.example"])
async def test_each_name_has_its_certificate(name, ca, client_context):
    contexts = {n: context_for(ca, n) for n in ("a.example", "*.other.example")}
    _, names = await shake_hands(contexts, to_tls_client(name, client_context))
    assert names == [name, name]  # the client has verified it


async def test_a_name_without_a_context_gets_the_alert(ca, client_context):
    contexts = {"a.example": context_for(ca, "a.example")}
    (client, server), _ = await shake_hands(contexts, to_tls_client("b.example", client_context))
    assert "unrecognized name" in str(client)
    assert isinstance(server, UpgradeFailedError)
    assert "the client asks for the name 'b.example', for which there is no context" in str(server)


async def test_all_of_the_chosen_context_counts(ca, client_context):
    """Also what OpenSSL's own callback would change too late: who has to show a certificate."""
    strict = context_for(ca, "strict.example")
    ca.configure_trust(strict)
    strict.verify_mode = ssl.CERT_REQUIRED
    contexts = {"strict.example": strict, "*": context_for(ca, "a.example")}
    (_, server), _ = await shake_hands(contexts, to_tls_client("strict.example", client_context))
    assert "peer did not return a certificate" in str(server)
    _, names = await shake_hands(contexts, to_tls_client("a.example", client_context))
    assert names == ["a.example"] * 2


async def test_a_hello_in_pieces(ca, client_context):
    asked = []

    def choose(name):
        asked.append(name)

    async with two_handles() as (client, server):
        _, _, outgoing = client_hello(client_context)
        hello = outgoing.read()

        async def send():
            for byte in hello:
                await client.send_all(bytes([byte]))

        async def take():
            await server.upgrade(to_tls_server(choose))

        _, failure = await both(send, take)
        assert isinstance(failure, UpgradeFailedError)
        assert asked == ["localhost"]


async def test_a_new_context_is_used_by_the_next_handshake_and_the_old_connection_goes_on(serving, ca, client_context):
    contexts = {"localhost": context_for(ca, "localhost")}
    server = await serving(echo, ssl_context=contexts)
    serials = []
    async with trionet.open_scope(drain_timeout=0) as scope:
        clients = []
        for _ in range(2):
            client = await scope.connect_tcp("127.0.0.1", server.port)
            clients.append(await client.upgrade(to_tls_client("localhost", client_context)))
            serials.append(clients[-1].tls.peer_certificate["serialNumber"])
            contexts["localhost"] = context_for(ca, "localhost")
        for client in clients:
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
    assert serials[0] != serials[1]
