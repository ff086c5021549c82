"""Forms as Starlette and aiohttp read them: the same bodies, the same fields and files."""

import asyncio

import aiohttp
import pytest
import trio
from multidict import CIMultiDict
from starlette.datastructures import Headers as StarletteHeaders
from starlette.formparsers import MultiPartException, MultiPartParser

import trionet
from trionet import UploadedFile

from ..helpers.http_served import Unbuffered, ask
from ..helpers.multipart_corpus import BROKEN, CORPUS, GOOD, B

REFUSED = "refused"
KIND = f"multipart/form-data; boundary={B}"

_CUT_OFF = "RFC 2046 §5.1.1: without the last boundary it is not a whole form; Starlette takes what has come"
OF_STARLETTE = {
    "a disposition of another kind": "RFC 7578 §4.2: it is form-data",
    "Latin-1 in a name": "RFC 7578 §5.1.2: names are UTF-8; what is not becomes U+FFFD",
    **{name: _CUT_OFF for name in BROKEN if name.startswith(("nothing", "only", "no end", "an end in"))},
}
_NO_NAME = "RFC 7578 §4.2: a part has a name; aiohttp leaves that to its user"
OF_AIOHTTP = {
    "an absolute file name": "it takes the slash away; here the name is data, and nothing opens it",
    "an extended file name beside a plain one": "RFC 7578 §4.2 forbids the extended one",
    "a preamble": "RFC 2046 §5.1.1 allows one; no browser sends it, and python-multipart refuses it",
    "white space behind a boundary": "RFC 2046 §5.1.1 allows it; no browser sends it, and python-multipart refuses it",
    "a disposition of another kind": "RFC 7578 §4.2: it is form-data",
    "Latin-1 in a name": "RFC 7578 §5.1.2: names are UTF-8; it gives a lone surrogate",
    "a name twice": "python-multipart takes the last one, aiohttp none",
    "a disposition twice": "python-multipart takes the last one, aiohttp the first one",
    "a hundred fields in a part": "more than eight are refused here",
    **dict.fromkeys(("a part without fields", "no disposition", "no name", "a file without a name"), _NO_NAME),
}


async def ours(body, nursery, pieces=65536):
    """What a handler gets, or that it was refused."""

    async def handler(exchange):
        async with exchange.form() as form:
            for name, value in form.items():
                if isinstance(value, UploadedFile):
                    found.append((name, value.filename, value.content_type, await value.read()))
                else:
                    found.append((name, value))
        await exchange.respond(200)

    found = []
    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        client = await scope.connect_tcp("127.0.0.1", server.port)
        head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {KIND}\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await ask(client, head.encode() + body)
    assert answer.status in (200, 400), answer
    return found if answer.status == 200 else REFUSED


async def starlettes(body):
    try:
        form = await MultiPartParser(StarletteHeaders({"content-type": KIND}), Unbuffered(body)).parse()
    except MultiPartException:
        return REFUSED
    found = []
    for name, value in form.multi_items():
        if isinstance(value, str):
            found.append((name, value))
        else:
            found.append((name, value.filename, value.content_type, await value.read()))
            await value.close()
    return found


class Unpaused:
    """The protocol that a stream of aiohttp belongs to."""

    _reading_paused = False

    def pause_reading(self, *_):
        pass

    def resume_reading(self, *_, **__):
        pass


async def read_with_aiohttp(body):
    stream = aiohttp.StreamReader(Unpaused(), limit=2**24, loop=asyncio.get_running_loop())
    stream.feed_data(body)
    stream.feed_eof()
    found = []
    async for part in aiohttp.MultipartReader(CIMultiDict({"Content-Type": KIND}), stream):
        data = bytes(await part.read())
        if part.filename is None:
            found.append((part.name, data.decode("utf-8", "replace")))
        else:
            found.append((part.name, part.filename, part.headers.get("Content-Type"), data))
    return found


def aiohttps(body):
    try:
        return asyncio.run(read_with_aiohttp(body))
    except (ValueError, aiohttp.http_exceptions.HttpProcessingError):
        return REFUSED


@pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader")
@pytest.mark.parametrize("name", CORPUS)
async def test_the_same_form(name, nursery):
    assert len(CORPUS) >= 60
    body = CORPUS[name]
    found = await ours(body, nursery)
    assert found != REFUSED if name in GOOD else True
    assert found == REFUSED if name in BROKEN else True
    for theirs, differences in (
        (await starlettes(body), OF_STARLETTE),
        (await trio.to_thread.run_sync(aiohttps, body), OF_AIOHTTP),
    ):
        if name in differences:
            assert found != theirs, "they do not differ any more"
        else:
            assert found == theirs
