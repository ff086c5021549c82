"""RFC 7692 rule by rule: what can be offered, accepted and refused of permessage-deflate (§5, §7.1; RFC 6455 §9.1).

The peer writes its part of the handshake by hand, also what no library would write.
"""

from __future__ import annotations

import pytest

import trionet
from trionet import (
    Phase,
    Reason,
    UpgradeFailedError,
    UpgradeRefusedError,
    to_websocket_client,
    to_websocket_server,
)
from trionet.http.protocol.head import parse_request, parse_response

from ..helpers.pairs import memory_pair
from ..helpers.websockets_by_hand import REQUEST, answer_by_hand, both
from .test_websocket_rules import F, both_sides, in_one, talk, text

NAME = "permessage-deflate"


def settings(server_bits=12, client_bits=12, server_alone=False, client_alone=False):
    return trionet.PerMessageDeflate(
        server_no_context_takeover=server_alone,
        client_no_context_takeover=client_alone,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )


def agreed(compression):
    """In the order of `settings`."""
    return compression and (
        compression.server_max_window_bits,
        compression.client_max_window_bits,
        compression.server_no_context_takeover,
        compression.client_no_context_takeover,
    )


def fields(values: list[str]) -> bytes:
    return "".join(f"Sec-WebSocket-Extensions: {value}\r\n" for value in values).encode()


def parameters(value: str) -> dict[str, str | None]:
    """Those of the only extension in this field value."""
    name, *given = (part.strip() for part in value.split(";"))
    assert name == NAME
    assert "," not in value
    pairs = [(name, number if equals else None) for name, equals, number in (item.partition("=") for item in given)]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


# --- the server's side --------------------------------------------------------------------------------------------


async def offered(values: list[str], compression) -> tuple[trionet.WebSocket, list[str]]:
    """What a server makes of these fields: the WebSocket, and the fields of its answer."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        await other.send_all(REQUEST[:-2] + fields(values) + b"\r\n")
        websocket = await one.upgrade(to_websocket_server(compression=compression))
        head = parse_response(await other.receive_until(b"\r\n\r\n", max_bytes=2000))
        assert head.status == 101
        return websocket, head.headers.get_list("Sec-WebSocket-Extensions")


SERVER = "server_max_window_bits"
CLIENT = "client_max_window_bits"
SERVER_ALONE = "server_no_context_takeover"
CLIENT_ALONE = "client_no_context_takeover"

# What is offered, what the server would have, what is agreed on, and which parameters the answer must have.
ACCEPTED = {
    "nothing but the name": (f"{NAME}", settings(15, 15), (15, 15, False, False), {}),
    "a smaller window of the server's own accord": (f"{NAME}", settings(10), (10, 15, False, False), {SERVER: "10"}),
    "a client that cannot be told keeps its window": (f"{NAME}", settings(15, 9), (15, 15, False, False), {}),
    "a client that can be told": (f"{NAME}; {CLIENT}", settings(15, 9), (15, 9, False, False), {CLIENT: "9"}),
    "a client that says its size": (f"{NAME}; {CLIENT}=10", settings(15, 12), (15, 10, False, False), {CLIENT: "10"}),
    "a smaller one than the client's": (f"{NAME}; {CLIENT}=13", settings(15, 9), (15, 9, False, False), {CLIENT: "9"}),
    "the server's size": (f"{NAME}; {SERVER}=9", settings(15, 15), (9, 15, False, False), {SERVER: "9"}),
    "a smaller one than was asked for": (f"{NAME}; {SERVER}=13", settings(11), (11, 15, False, False), {SERVER: "11"}),
    "the largest": (f"{NAME}; {SERVER}=15", settings(15, 15), (15, 15, False, False), {SERVER: "15"}),
    "the smallest": (f"{NAME}; {SERVER}=8; {CLIENT}=8", settings(), (8, 8, False, False), {SERVER: "8", CLIENT: "8"}),
    "no takeover by the server": (f"{NAME}; {SERVER_ALONE}", settings(15), (15, 15, True, False), {SERVER_ALONE: None}),
    "no takeover by the client": (f"{NAME}; {CLIENT_ALONE}", settings(15), (15, 15, False, True), {}),
    "no takeover of the server's own accord": (
        f"{NAME}", settings(15, 15, True, True), (15, 15, True, True), {SERVER_ALONE: None, CLIENT_ALONE: None}),
    "everything": (
        f"{NAME}; {SERVER_ALONE}; {CLIENT_ALONE}; {SERVER}=9; {CLIENT}=10", settings(), (9, 10, True, True),
        {SERVER_ALONE: None, SERVER: "9", CLIENT: "10"}),
    "everything in another order": (
        f"{NAME}; {CLIENT}=10; {SERVER}=9; {CLIENT_ALONE}; {SERVER_ALONE}", settings(), (9, 10, True, True),
        {SERVER_ALONE: None, SERVER: "9", CLIENT: "10"}),
    "numbers in quotes": (
        f'{NAME}; {SERVER}="9"; {CLIENT}="1\\0"', settings(), (9, 10, False, False), {SERVER: "9", CLIENT: "10"}),
    "much white space": (f" {NAME} ; {SERVER} = 9\t; {CLIENT} ", settings(), (9, 12, False, False), {SERVER: "9"}),
    "no white space": (f"{NAME};{SERVER}=9;{CLIENT}", settings(), (9, 12, False, False), {SERVER: "9"}),
    "empty elements of the list": (f", ,{NAME},,", settings(15, 15), (15, 15, False, False), {}),
}  # fmt: skip


@pytest.mark.parametrize(("offer", "wanted", "result", "answer"), ACCEPTED.values(), ids=ACCEPTED)
async def test_an_offer_is_accepted(offer, wanted, result, answer):
    websocket, (value,) = await offered([offer], wanted)
    assert agreed(websocket.compression) == result
    given = parameters(value)
    assert given.items() >= answer.items()
    # What the answer says, and what it may not say, is what was agreed on.
    assert int(given.get(SERVER) or 15) == result[0]
    assert int(given.get(CLIENT) or 15) >= result[1]
    assert CLIENT not in given or CLIENT in offer
    assert (SERVER_ALONE in given) == result[2]
    assert given.get(SERVER_ALONE) is given.get(CLIENT_ALONE) is None
    assert set(given) <= {SERVER, CLIENT, SERVER_ALONE, CLIENT_ALONE}


@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("parameter", [SERVER, CLIENT])
@pytest.mark.parametrize("own", [8, 11, 15])
async def test_no_window_is_larger_than_was_offered(own, parameter, bits):
    websocket, (value,) = await offered([f"{NAME}; {parameter}={bits}"], settings(own, own))
    assert int(parameters(value)[parameter]) == min(bits, own)
    assert getattr(websocket.compression, parameter) == min(bits, own)


BAD_PARAMETERS = {
    **{f"{name} is {value}": f"{name}={value}" for name in (SERVER, CLIENT)
       for value in ("7", "16", "0", "-9", "+9", "08", "009", "8.0", "0x9", "9a", "x", "150", "9" * 30)},
    "the server's window without a number": SERVER,
    "server_no_context_takeover with a value": f"{SERVER_ALONE}=1",
    "client_no_context_takeover with a value": f"{CLIENT_ALONE}=true",
    "server_no_context_takeover with a number in quotes": f'{SERVER_ALONE}="9"',
    "an unknown one": "foo",
    "an unknown one with a value": "foo=9",
    "one in capitals": SERVER_ALONE.upper(),
    "a good one and an unknown one": f"{CLIENT}=10; x",
    "server_no_context_takeover twice": f"{SERVER_ALONE}; {SERVER_ALONE}",
    "client_no_context_takeover twice": f"{CLIENT_ALONE}; {SERVER_ALONE}; {CLIENT_ALONE}",
    "the server's window twice": f"{SERVER}=10; {SERVER}=10",
    "the server's window twice, differently": f"{SERVER}=10; {SERVER}=11",
    "the client's window twice": f"{CLIENT}; {CLIENT}",
    "the client's window twice, with a number": f"{CLIENT}; {CLIENT}=10",
}  # fmt: skip

UNKNOWN = ["x-webkit-deflate-frame", "permessage-bzip2", "permessage-deflate2", "deflate-frame; no_context_takeover"]


@pytest.mark.parametrize("bad", BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
async def test_an_offer_with_a_bad_parameter_is_declined(bad):
    """§5.1, §7.1: the connection is made all the same, without compression."""
    assert_declined(*await offered([f"{NAME}; {bad}"], settings()))


@pytest.mark.parametrize("unknown", UNKNOWN)
async def test_an_unknown_extension_is_declined(unknown):
    """RFC 6455 §9.1."""
    assert_declined(*await offered([unknown], settings()))


async def test_what_nobody_wants_is_not_accepted():
    assert_declined(*await offered([NAME], None))
    assert_declined(*await offered([], settings()))
    assert_declined(*await offered(["foo; bar=1, baz", f"{NAME}; {CLIENT}"], None))


def assert_declined(websocket, values):
    assert values == []
    assert websocket.compression is None


@pytest.mark.parametrize("bad", [*BAD_PARAMETERS.values(), None], ids=[*BAD_PARAMETERS, "another extension"])
@pytest.mark.parametrize("in_one_field", [True, False])
async def test_the_next_offer_is_a_fallback(in_one_field, bad):
    """§5: several offers in the client's order of preference; the first that can be accepted is."""
    offers = [f"{NAME}; {bad}" if bad else "foo; bar", f"{NAME}; {CLIENT}=9", f"{NAME}; {CLIENT}=8"]
    websocket, (value,) = await offered([", ".join(offers)] if in_one_field else offers, settings(15))
    assert parameters(value) == {CLIENT: "9"}
    assert agreed(websocket.compression) == (15, 9, False, False)


@pytest.mark.parametrize("server_bits", [15, 10])
async def test_of_two_good_offers_the_first_is_accepted(server_bits):
    """13.7 of the testsuite."""
    offers = f"{NAME}; {SERVER_ALONE}; {SERVER}=8, {NAME}; {SERVER_ALONE}, {NAME}"
    websocket, (value,) = await offered([offers], settings(server_bits, 15))
    assert parameters(value) == {SERVER_ALONE: None, SERVER: "8"}
    assert agreed(websocket.compression) == (8, 15, True, False)


MALFORMED = [
    f"{NAME};",
    ";",
    f"{NAME}; =10",
    f"{NAME}; {CLIENT}=",
    f'{NAME}; {CLIENT}="',
    f'{NAME}; {CLIENT}="1 0"',
    f'{NAME}; {CLIENT}=""',
    f"{NAME} {CLIENT}",
    "permessage deflate",
    f"{NAME}; {CLIENT}=10=11",
    f"{NAME}; ; {CLIENT}",
    f"{NAME}; {CLIENT}=(10)",
    f"{NAME}, @",
    f"{NAME}; f\xf6\xf6",
]


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "not wanted"])
async def test_a_field_that_is_none_fails_the_handshake(wanted, value):
    """RFC 6455 §9.1: whoever gets what is not of that form MUST fail the connection."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        await other.send_all(
            REQUEST[:-2] + b"Sec-WebSocket-Extensions: " + value.encode("latin-1") + b"\r\n\r\nnext"
        )  # fmt: skip
        with pytest.raises(UpgradeRefusedError, match="Sec-WebSocket-Extensions") as caught:
            await one.upgrade(to_websocket_server(compression=settings() if wanted else None))
        assert caught.value.response.status == 400
        assert (await other.receive_until(b"\r\n", max_bytes=100)).startswith(b"HTTP/1.1 400 ")
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(4) == b"next"


# --- the client's side --------------------------------------------------------------------------------------------


async def answered(values: list[str], compression):
    """A client that gets this answer: what came of its upgrade, and what it had offered."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)

        async def client():
            try:
                return await one.upgrade(to_websocket_client("ws://example/chat", compression=compression))
            except UpgradeFailedError as exc:
                assert one.end.reason is Reason.UPGRADE_FAILED
                return exc

        result, request = await both(client, lambda: answer_by_hand(other, extra=fields(values)))
        if isinstance(result, UpgradeFailedError):
            assert await other.receive_some() == b""  # nothing was sent behind the request
        return result, request.headers.get_list("Sec-WebSocket-Extensions")


# What is wanted, and which parameters the offers for that must have: where a window is asked for, one does without.
OFFERED = {
    "all that there is": (settings(15, 15), [{CLIENT: None}]),
    "the default": (trionet.PerMessageDeflate(), [{SERVER: "12", CLIENT: "12"}, {CLIENT: "12"}]),
    "the server's window": (settings(10, 15), [{SERVER: "10", CLIENT: None}, {CLIENT: None}]),
    "the client's window": (settings(15, 10), [{CLIENT: "10"}]),
    "no takeover by the server": (settings(15, 15, True), [{SERVER_ALONE: None, CLIENT: None}]),
    "no takeover by the client": (settings(15, 15, False, True), [{CLIENT_ALONE: None, CLIENT: None}]),
    "everything": (
        settings(8, 9, True, True),
        [{SERVER_ALONE: None, CLIENT_ALONE: None, SERVER: "8", CLIENT: "9"},
         {SERVER_ALONE: None, CLIENT_ALONE: None, CLIENT: "9"}]),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "offers"), OFFERED.values(), ids=OFFERED)
async def test_what_the_client_offers(wanted, offers):
    """§7.1.3 shows an offer with a window, and a second one for servers that cannot keep to it."""
    websocket, (value,) = await answered([], wanted)
    assert [parameters(offer.strip()) for offer in value.split(",")] == offers
    assert websocket.compression is None  # the server did not accept it


async def test_a_client_that_wants_no_compression_offers_none():
    websocket, values = await answered([], None)
    assert values == []
    assert websocket.compression is None


# What is wanted, what the server answers, and what is agreed on.
AGREED = {
    "nothing but the name": (settings(15, 15), NAME, (15, 15, False, False)),
    "the client keeps to its own window all the same": (settings(15, 9), NAME, (15, 9, False, False)),
    "the window that was asked for": (settings(10), f"{NAME}; {SERVER}=10", (10, 12, False, False)),
    "a smaller one": (settings(10), f"{NAME}; {SERVER}=8", (8, 12, False, False)),
    "a larger one, to the second offer": (settings(10), f"{NAME}; {SERVER}=11", (11, 12, False, False)),
    "no word of it, to the second offer": (settings(10), NAME, (15, 12, False, False)),
    "what a server says that knows nothing of windows": (
        settings(10), f"{NAME}; {SERVER_ALONE}; {CLIENT_ALONE}", (15, 12, True, True)),
    "of the server's own accord": (settings(15, 15), f"{NAME}; {SERVER}=9", (9, 15, False, False)),
    "the client is told": (settings(15, 15), f"{NAME}; {CLIENT}=9", (15, 9, False, False)),
    "the client is told its own": (settings(15, 12), f"{NAME}; {CLIENT}=12", (15, 12, False, False)),
    "the client is told the smallest": (settings(15, 12), f"{NAME}; {CLIENT}=8", (15, 8, False, False)),
    "no takeover that was asked for": (settings(15, 15, True), f"{NAME}; {SERVER_ALONE}", (15, 15, True, False)),
    "no takeover that was not asked for": (settings(15, 15), f"{NAME}; {SERVER_ALONE}", (15, 15, True, False)),
    "the client's takeover is forbidden": (settings(15, 15), f"{NAME}; {CLIENT_ALONE}", (15, 15, False, True)),
    "the client does without takeover though nobody says so": (
        settings(15, 15, False, True), NAME, (15, 15, False, True)),
    "everything": (
        settings(), f"{NAME}; {CLIENT}=9; {SERVER}=8; {CLIENT_ALONE}; {SERVER_ALONE}", (8, 9, True, True)),
    "numbers in quotes": (settings(), f'{NAME}; {SERVER}="9"; {CLIENT}="10"', (9, 10, False, False)),
    "white space": (settings(), f" {NAME} ;{SERVER}=9 ; {CLIENT}=10 ", (9, 10, False, False)),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "answer", "result"), AGREED.values(), ids=AGREED)
async def test_an_answer_is_taken(wanted, answer, result):
    websocket, _ = await answered([answer], wanted)
    assert agreed(websocket.compression) == result


# What is wanted, and what the server must not answer to that.
GOOD = f"{NAME}; {SERVER}=12"
REFUSED = {
    **{name: (settings(), [f"{GOOD}; {bad}"]) for name, bad in BAD_PARAMETERS.items() if not bad.startswith(SERVER)},
    **{name: (settings(), [f"{NAME}; {bad}"]) for name, bad in BAD_PARAMETERS.items() if bad.startswith(SERVER)},
    "the client's window without a number": (settings(), [f"{GOOD}; {CLIENT}"]),
    "a larger window of the client": (settings(15, 10), [f"{NAME}; {CLIENT}=11"]),
    "no word of the server's takeover": (settings(15, 15, True), [NAME]),
    "twice in one field": (settings(15), [f"{NAME}, {NAME}"]),
    "twice in two fields": (settings(15), [NAME, NAME]),
    "another extension": (settings(), ["foo"]),
    "another one behind it": (settings(), [f"{GOOD}, foo"]),
    "another one before it": (settings(), ["foo; bar=1", GOOD]),
    "not wanted": (None, [NAME]),
    "another one, and none is wanted": (None, ["foo"]),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "answer"), REFUSED.values(), ids=REFUSED)
async def test_an_answer_that_was_not_offered_fails_the_handshake(wanted, answer):
    """RFC 6455 §4.1, §9.1; RFC 7692 §5.2, §7.1."""
    failure, _ = await answered(answer, wanted)
    assert isinstance(failure, UpgradeFailedError)
    assert "xtension" in str(failure) or "offered" in str(failure)


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "not wanted"])
async def test_an_answer_that_is_malformed_fails_the_handshake(wanted, value):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)

        async def client():
            with pytest.raises(UpgradeFailedError):
                await one.upgrade(to_websocket_client("ws://a", compression=settings(15, 15) if wanted else None))

        field = b"Sec-WebSocket-Extensions: " + value.encode("latin-1") + b"\r\n"
        await both(client, lambda: answer_by_hand(other, extra=field))
        assert one.end.reason is Reason.UPGRADE_FAILED


# --- both sides ---------------------------------------------------------------------------------------------------

HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692 §7.2.3.1


@both_sides
@pytest.mark.parametrize("wanted", [True, False], ids=["declined", "not wanted"])
async def test_without_an_agreement_a_compressed_message_fails(wanted, side):
    """RFC 6455 §5.2: a reserved bit whose meaning was not negotiated."""
    compression = settings() if wanted else None
    seen = await talk(side, in_one([text("good"), F(1, HELLO, rsv=4)], side), compression=compression)
    assert seen.messages == ["good"]
    assert seen.websocket.closed.code == 1002
    assert seen.frames[-1][1][:2] == b"\x03\xea"


@both_sides
async def test_without_an_agreement_nothing_is_compressed(side):
    frames = [text("x" * 10000)]
    seen = await talk(side, [*in_one(frames, side), F(8, b"\x03\xe8").wire(side)], compression=settings())
    assert seen.data_frames == [(0x81, b"x" * 10000)]


@pytest.mark.parametrize("server_bits", [8, 12, 15])
@pytest.mark.parametrize("client_bits", [8, 12, 15])
@pytest.mark.parametrize("alone", [False, True])
async def test_both_sides_agree(alone, client_bits, server_bits):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        server, client = await both(
            lambda: one.upgrade(to_websocket_server(compression=settings(server_bits, 15, alone, False))),
            lambda: other.upgrade(
                to_websocket_client("ws://example/", compression=settings(15, client_bits, False, alone))
            ),
        )
        assert agreed(server.compression) == agreed(client.compression) == (server_bits, client_bits, alone, alone)


def test_the_requests_that_are_written_here_are_good_ones():
    """So what is refused is refused for its extensions."""
    assert parse_request(REQUEST[:-2] + fields([NAME]) + b"\r\n").headers["sec-websocket-extensions"] == NAME
