"""What a request says, beyond its line and its fields as they are: query, cookies, the client's address."""

import pytest

from trionet import MultiMapping

from ...helpers.http_served import ask, get, served


async def asked(request, look):
    """What `look` finds in the exchange of this request."""
    found = []

    async def handler(exchange):
        found.append(look(exchange))
        await exchange.respond(200)

    async with served(handler) as it:
        assert (await ask(it.client, request)).status == 200
    return found[0]


@pytest.mark.parametrize(
    ("target", "pairs"),
    [
        ("/", []),
        ("/?", []),
        ("/?a=1&b=&c&a=2", [("a", "1"), ("b", ""), ("c", ""), ("a", "2")]),
        ("/?q=a+b%20c%2B&%C3%A4=%ff", [("q", "a b c+"), ("ä", "\ufffd")]),
        ("/?a=1;b=2", [("a", "1;b=2")]),
        ("/?a=b=c&&=d", [("a", "b=c"), ("", "d")]),
        ("http://a/x?y=z", [("y", "z")]),
    ],
)
async def test_the_query_as_names_and_values(target, pairs):
    assert await asked(get(target), lambda exchange: exchange.query_params) == MultiMapping(pairs)


async def test_the_query_of_a_target_without_one():
    request = get("*", method="OPTIONS")
    assert not await asked(request, lambda exchange: exchange.query_params)


async def test_cookies_by_name():
    request = get("/", "Cookie: a=b; c=d", "Cookie: a=other")
    assert await asked(request, lambda exchange: exchange.cookies) == {"a": "b", "c": "d"}
    assert await asked(get("/"), lambda exchange: exchange.cookies) == {}


async def test_the_address_of_the_client():
    host, port = await asked(get("/"), lambda exchange: exchange.remote_address)
    assert host == "127.0.0.1"
    assert port > 0
