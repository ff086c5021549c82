"""What docs/seeing.md shows runs, and does what the page says."""

import json
import logging
import re
from pathlib import Path

import pytest
import trio

import trionet

PAGE = Path(__file__).parents[2] / "docs" / "seeing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def names_of(*parts: str) -> dict:
    """What is defined by the blocks that have these words."""
    names = {"trionet": trionet}
    for part in parts:
        (block,) = [block for block in BLOCKS if part in block]
        exec(compile("from __future__ import annotations\n" + block, PAGE, "exec"), names)
    return names


async def ask(client, url):
    async with client.request("GET", url) as response:
        return response.status, (await response.read()).decode()


async def test_metrics(monkeypatch, nursery):
    names = names_of("metrics_handler()")
    began = []
    real = trionet.serve_http

    async def serve_http(handler, port, *, task_status, **options):
        async with trio.open_nursery() as inner:
            began.append(await inner.start(lambda task_status: real(handler, 0, task_status=task_status, **options)))
            task_status.started(began[-1])

    monkeypatch.setattr(trionet, "serve_http", serve_http)
    nursery.start_soon(names["main"])
    async with trionet.open_http_client() as client:
        while len(began) < 2:
            await trio.sleep(0.001)
        front, shown = (f"http://127.0.0.1:{server.port}/" for server in began)
        assert await ask(client, front) == (200, "hello\n")
        status, text = await ask(client, shown)
    assert status == 200
    assert 'trionet_requests_total{method="GET",status="2xx"} 1.0' in text
    for name in re.findall(r"`(trionet_\w+)", PAGE.read_text(encoding="utf-8")):
        assert name.startswith("trionet_client") or f"# TYPE {name}" in text, name


async def test_health(nursery):
    names = names_of("metrics_handler()", "with_health")
    there = []

    async def handler(exchange):
        await names["with_health"](exchange, there[0])

    there.append(await nursery.start(trionet.serve_http, handler, 0))
    async with trionet.open_http_client() as client, trionet.open_tcp("localhost", there[0].port) as conn:
        url = f"http://localhost:{there[0].port}"
        assert await ask(client, f"{url}/health") == (200, "")
        assert await ask(client, f"{url}/") == (200, "hello\n")
        nursery.start_soon(there[0].drain, 5)
        while not there[0].draining:
            await trio.lowlevel.checkpoint()
        await conn.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await conn.receive_until(b"\r\n", max_bytes=100)) == b"HTTP/1.1 503 Service Unavailable\r\n"


async def test_logs(nursery, caplog):
    formatter = names_of("class JSONLines")["JSONLines"]()

    async def handler(exchange):
        await exchange.respond(200)

    caplog.set_level(logging.INFO, "trionet.access")
    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_http_client() as client:
        await ask(client, f'http://localhost:{server.port}/a?b="c"')
    line = json.loads(formatter.format(next(it for it in caplog.records if it.name == "trionet.access")))
    assert (line["method"], line["target"], line["status"], line["level"]) == ("GET", "/a?b=%22c%22", 200, "INFO")
    assert line["client"][0] in ("127.0.0.1", "::1")
    try:
        raise KeyError("a\nb")
    except KeyError:
        record = logging.getLogger("any").makeRecord("any", logging.ERROR, "", 1, "two\nlines", (), True)
        record.exc_info = __import__("sys").exc_info()
    text = formatter.format(record)
    assert "\n" not in text
    assert "KeyError" in json.loads(text)["traceback"]


async def test_spans(nursery):
    """A request that is answered with the help of another server: one trace, and the spans in each other."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    names = names_of("def traced")
    names["tracer"] = provider.get_tracer("test")

    async def back(exchange):
        await exchange.respond(200)

    async with trionet.open_http_client(**names["client_options"]) as client:

        async def front(exchange):
            await ask(client, f"http://localhost:{behind.port}/behind")
            await exchange.respond(201)

        behind = await nursery.start(trionet.serve_http, names["traced"](back), 0)
        server = await nursery.start(trionet.serve_http, names["traced"](front), 0)
        async with trionet.open_http_client() as other:
            await ask(other, f"http://localhost:{server.port}/")
    inner, outer = exporter.get_finished_spans()
    assert inner.parent.span_id == outer.context.span_id
    assert inner.context.trace_id == outer.context.trace_id
    assert (outer.attributes["http.response.status_code"], inner.attributes["url.path"]) == (201, "/behind")
