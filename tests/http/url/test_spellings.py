"""URLs of odd spelling, sent to a server that notes the bytes: as they were given, as curl does it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest
import trio

import trionet
from docs.write_url_spellings import PAGE, page
from tests.helpers.url_spellings import AS_GIVEN, DIFFERENT, Spelling

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed (apt-get install curl)")

ODD = [spelling for difference in DIFFERENT for spelling in difference.spellings]
SENT = {given: given.partition("#")[0] or "/" for given in AS_GIVEN} | {one.given: one.sent for one in ODD}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
FOUND = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"


class Raw:
    """A server that notes the targets that it is asked for. It redirects ``/go`` to `location`."""

    def __init__(self) -> None:
        self.url = ""
        self.locations: dict[bytes, bytes] = {}
        """By the number that the request has in its field X-Case."""
        self.asked: dict[bytes, bytes] = {}
        """The last target of each number."""

    async def handle(self, connection: trionet.Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                line, *fields = (await connection.receive_until(b"\r\n\r\n", max_bytes=65536)).split(b"\r\n")
                case = next((field.partition(b": ")[2] for field in fields if field.startswith(b"X-Case")), b"")
                target = line.removeprefix(b"GET ").removesuffix(b" HTTP/1.1")
                if target == b"/go":
                    await connection.send_all(FOUND % self.locations[case])
                else:
                    self.asked[case] = target
                    await connection.send_all(ANSWER)


@contextlib.asynccontextmanager
async def raw_server() -> AsyncIterator[Raw]:
    server = Raw()
    async with trio.open_nursery() as nursery:
        real = await nursery.start(trionet.serve_tcp, server.handle, 0)
        server.url = f"http://127.0.0.1:{real.port}"
        yield server
        nursery.cancel_scope.cancel()


def test_there_are_a_hundred_of_them() -> None:
    assert len(SENT) == len(AS_GIVEN) + len(ODD) >= 100


async def test_each_arrives_as_it_was_given() -> None:
    async with raw_server() as server, trionet.open_http_client() as client:
        for given, sent in SENT.items():
            async with client.request("GET", server.url + given) as response:
                assert server.asked.pop(b"") == sent.encode(), given
                assert response.target == sent
                assert str(response.url).removeprefix(server.url).partition("#")[0] in (sent, given)


async def test_each_arrives_as_it_was_given_by_redirect() -> None:
    async with raw_server() as server, trionet.open_http_client() as client:
        for given, sent in SENT.items():
            locations = [server.url + given]
            if given.startswith("/") and not given.startswith("//"):
                locations.append(given)  # relative to the host
            for location in locations:
                server.locations[b""] = location.encode()
                async with client.request("GET", f"{server.url}/go") as response:
                    assert server.asked.pop(b"") == sent.encode(), location
                    assert response.target == sent
                    assert [past.target for past in response.history] == ["/go"]


async def test_each_passes_a_hook_that_looks_at_it() -> None:
    seen = []

    def look(request: trionet.HTTPRequest) -> None:
        seen.append(str(request.url))
        request.headers = request.headers

    async with raw_server() as server, trionet.open_http_client(event_hooks={"request": [look]}) as client:
        for given, sent in SENT.items():
            async with client.request("GET", server.url + given):
                assert server.asked.pop(b"") == sent.encode(), given
    assert len(seen) == len(SENT)


async def test_each_arrives_at_a_proxy_in_absolute_form() -> None:
    async with raw_server() as proxy, trionet.open_http_client(proxy=proxy.url) as client:
        for given, sent in SENT.items():
            async with client.request("GET", f"http://host.example:81{given}"):
                assert proxy.asked.pop(b"") == f"http://host.example:81{sent}".encode(), given


async def refused_at(url: str) -> None:
    with pytest.raises(trionet.UpgradeRefusedError):
        async with trionet.open_websocket(url):
            pass


async def test_each_arrives_in_a_websocket_handshake() -> None:
    async with raw_server() as server:
        base = server.url.replace("http", "ws")
        for given, sent in SENT.items():
            if "#" not in given:
                await refused_at(base + given)
                assert server.asked.pop(b"") == sent.encode(), given
            server.locations[b""] = (base + given).encode()
            await refused_at(f"{base}/go")
            assert server.asked.pop(b"") == sent.encode(), given


# --- curl ----------------------------------------------------------------------------------------------------------


async def curl_sends(server: Raw, urls: dict[bytes, str]) -> dict[bytes, bytes]:
    """What arrives when curl is given these URLs; nothing for those that it refuses."""
    config = [
        f'url = "{url.translate(QUOTED)}"\nheader = "X-Case: {case.decode()}"\ngloboff\npath-as-is\nlocation\n'
        f"silent\nmax-time = 20\nnoproxy = *\n"
        for case, url in urls.items()
    ]
    server.asked.clear()
    await trio.run_process([str(CURL), "-K", "-"], stdin="next\n".join(config).encode(), check=False)
    return dict(server.asked)


QUOTED = {ord("\\"): "\\\\", ord('"'): '\\"'}


@needs_curl
async def test_curl_sends_the_same_but_for_what_is_listed() -> None:
    async with raw_server() as server:
        cases = {b"%d" % number: given for number, given in enumerate(SENT)}
        direct = await curl_sends(server, {case: server.url + given for case, given in cases.items()})
        server.locations = {case: (server.url + given).encode() for case, given in cases.items()}
        redirected = await curl_sends(server, dict.fromkeys(cases, f"{server.url}/go"))
        listed = {one.given: one for one in ODD}
        for case, given in cases.items():
            check(listed.get(given), given, direct.get(case), redirected.get(case))


def check(listed: Spelling | None, given: str, direct: bytes | None, redirected: bytes | None) -> None:
    ours = SENT[given].encode()
    if listed is None:
        assert (direct, redirected) == (ours, ours), given
    else:  # another curl than the one that was looked at may do as trionet does
        assert direct in (listed.curl, ours), given
        assert redirected in (listed.redirected, ours), given


def test_what_is_listed_differs() -> None:
    for one in ODD:
        assert not one.sent.encode() == one.curl == one.redirected, one.given


def test_the_documentation_lists_the_differences() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
