"""Figures for Prometheus: what is counted, and that no client can make up a series."""

import re

import pytest
import trio

import trionet
from trionet.server.http import http_handler

from ..helpers.http_served import WEBSOCKET


def figures(text):
    """The samples of an answer, without those of buckets and of when a figure began."""
    found = dict(re.findall(r"^(trionet_[a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE))
    return {name: float(value) for name, value in found.items() if "_bucket" not in name and "_created" not in name}


async def answers(exchange: trionet.Exchange) -> None:
    if exchange.wants_websocket:
        ws = await exchange.upgrade(trionet.to_websocket_server())
        await ws.send_message("x" * 1000)
    elif exchange.path == "/fails":
        raise KeyError
    elif exchange.path == "/large":
        await exchange.read(max_bytes=10)
        await exchange.respond(200)
    else:
        await exchange.respond(int(exchange.path[1:] or "200"), b"hello")


async def ask(client, url, method="GET"):
    async with client.request(method, url) as response:
        return response.status, response.headers, (await response.read()).decode()


async def scrape(client, port):
    return figures((await ask(client, f"http://localhost:{port}/metrics"))[2])


@pytest.fixture
async def metered(nursery):
    """A counted server, a port for its figures, and a client."""
    metrics = trionet.metrics_handler()
    limits = trionet.HTTPLimits(any_method=True)
    counted = http_handler(metrics.counting(answers), limits=limits, on_error=lambda exchange, error: None)
    server = await nursery.start(trionet.serve_tcp, counted, 0)
    shown = await nursery.start(trionet.serve_http, metrics, 0)
    metrics.watch(server, "front")
    async with trionet.open_http_client() as client:
        yield metrics, server, shown, client


async def test_requests_by_method_and_class_of_the_status(metered):
    _, server, shown, client = metered
    url = f"http://localhost:{server.port}"
    for method, path in [("GET", "/"), ("GET", "/201"), ("POST", "/404"), ("GET", "/fails"), ("HEAD", "/301")]:
        async with client.request(method, url + path, follow_redirects=False) as response:
            await response.read()
    async with client.request("POST", url + "/large", content=b"x" * 100) as response:
        assert response.status == 413
    found = await scrape(client, shown.port)
    assert {name: count for name, count in found.items() if "requests_total" in name and count} == {
        'trionet_requests_total{method="GET",status="2xx"}': 2,
        'trionet_requests_total{method="POST",status="4xx"}': 2,
        'trionet_requests_total{method="GET",status="5xx"}': 1,
        'trionet_requests_total{method="HEAD",status="3xx"}': 1,
    }
    assert found["trionet_request_seconds_count"] == 6
    assert found["trionet_request_seconds_sum"] >= 0


async def test_bytes_and_upgrades(metered):
    _, server, shown, client = metered
    async with trionet.open_tcp("localhost", server.port) as conn:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        await conn.send_all(request)
        answer = await conn.receive_until(b"hello", max_bytes=1000)
    while server.connections:
        await trio.lowlevel.checkpoint()
    found = await scrape(client, shown.port)
    assert (found["trionet_received_bytes_total"], found["trionet_sent_bytes_total"]) == (len(request), len(answer))
    async with trionet.open_websocket(f"ws://localhost:{server.port}/") as ws:
        await ws.get_message()
        with pytest.raises(trionet.ConnectionClosed):
            await ws.get_message()
    while server.connections:
        await trio.lowlevel.checkpoint()
    after = await scrape(client, shown.port)
    assert after['trionet_upgrades_total{to="websocket"}'] == 1
    assert 1000 < after["trionet_sent_bytes_total"] - found["trionet_sent_bytes_total"] < 1500
    assert after["trionet_received_bytes_total"] > found["trionet_received_bytes_total"]


async def test_the_figures_of_a_server_and_of_a_client(metered):
    metrics, server, shown, client = metered
    metrics.watch(client, "to front")
    await ask(client, f"http://localhost:{server.port}/")
    async with trionet.open_tcp("localhost", server.port) as conn:
        await conn.send_all(b"nonsense\r\n\r\n")
        await conn.receive_until(b"\r\n\r\n", max_bytes=1000)
    while len(server.connections) > 1:
        await trio.lowlevel.checkpoint()
    found = await scrape(client, shown.port)
    assert found['trionet_server_connections_open{server="front"}'] == 1
    assert found['trionet_server_connections_total{server="front"}'] == 2
    assert found['trionet_server_peer_faults_total{kind="protocol",server="front"}'] == 1
    assert found['trionet_server_ends_total{reason="PROTOCOL_ERROR",server="front"}'] == 1
    assert found['trionet_server_draining{server="front"}'] == 0
    assert found['trionet_client_opened_total{client="to front"}'] == 2
    assert found['trionet_client_running{client="to front"}'] == 1
    await server.drain(1, idle_grace=0)
    found = await scrape(client, shown.port)
    assert found['trionet_server_draining{server="front"}'] == 1
    assert found['trionet_server_connections_open{server="front"}'] == 0
    assert sum(count for name, count in found.items() if "server_ends" in name) == 2


async def test_no_client_can_make_up_a_series(metered):
    _, server, shown, client = metered
    before = await scrape(client, shown.port)
    for number in range(60):
        method = ["GET", "get", f"M{number}", "X" * 500][number % 4]
        fields = f'Host: h{number}\r\nX-{number}: "}} 1\r\nUser-Agent: {{method="}}\r\n'
        async with trionet.open_tcp("localhost", server.port) as conn:
            await conn.send_all(f'{method} /200?{number}="\\ HTTP/1.1\r\n{fields}\r\n'.encode())
            await conn.receive_until(b"\r\n\r\n", max_bytes=5000)
    async with trionet.open_tcp("localhost", server.port) as conn:
        await conn.send_all(WEBSOCKET.replace(b"websocket", b'ws"}'))
        await conn.receive_until(b"\r\n\r\n", max_bytes=5000)
    found = await scrape(client, shown.port)
    assert {*found} == {*before}
    assert found['trionet_requests_total{method="other",status="2xx"}'] > 0


async def test_who_goes_before_the_answer_is_counted_without_a_status(nursery):
    metrics, begun = trionet.metrics_handler(), trio.Event()

    async def waits(exchange):
        begun.set()
        await exchange.wait_disconnected()

    server = await nursery.start(trionet.serve_http, metrics.counting(waits), 0)
    async with trionet.open_tcp("localhost", server.port) as conn:
        await conn.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.wait()
        conn.abort()
    with trio.fail_after(10):
        while server.connections:
            await trio.sleep(0.001)
    shown = await nursery.start(trionet.serve_http, metrics, 0)
    async with trionet.open_http_client() as client:
        found = await scrape(client, shown.port)
    assert sum(count for name, count in found.items() if "requests_total" in name) == 1


async def test_what_prometheus_gets(metered):
    _, _, shown, client = metered
    url = f"http://localhost:{shown.port}/anything"
    _, headers, _ = await ask(client, url)
    assert headers["content-type"].startswith("text/plain; version=")
    assert headers["cache-control"] == "no-store"
    assert (await ask(client, url, "HEAD"))[0] == 200
    status, headers, _ = await ask(client, url, "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_a_registry_of_ones_own_and_what_is_refused():
    prometheus = pytest.importorskip("prometheus_client")
    registry = prometheus.CollectorRegistry()
    metrics = trionet.metrics_handler(registry=registry)
    assert registry.get_sample_value("trionet_sent_bytes_total") == 0
    with pytest.raises(ValueError, match="trionet_requests"):
        trionet.metrics_handler(registry=registry)
    with pytest.raises(TypeError, match="must be an async function"):
        metrics.counting(print)
    with pytest.raises(TypeError, match="thing must be a Server or an HTTPClient, not 1"):
        metrics.watch(1)


def test_nothing_of_it_is_loaded_in_a_program_that_does_not_ask(testing_modules):
    assert "prometheus_client" not in testing_modules


@pytest.fixture
def testing_modules():
    import subprocess
    import sys

    program = "import sys, trionet; trionet.serve_http; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
