"""Behind a real HAProxy, which says whose connections it passes on: both versions, TLS on either side, its checks."""

import shutil
import socket
import subprocess
from contextlib import ExitStack

import pytest
import trio

import trionet
from trionet import ProxyTLS, http_handler, serve_tcp

from ..helpers.http_served import GET

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (apt-get install haproxy)")

CONFIGURATION = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 20s
    timeout server 20s
    unique-id-format id-%%cp
listen one
    bind fd@%(one)d
    server s 127.0.0.1:%(plain)d send-proxy
listen two
    bind fd@%(two)d
    server s 127.0.0.1:%(plain)d send-proxy-v2
listen decrypted
    bind fd@%(decrypted)d ssl crt %(folder)s/certificate.pem alpn http/1.1
    server s 127.0.0.1:%(plain)d send-proxy-v2 proxy-v2-options ssl,cert-cn,authority,unique-id,crc32c
listen passed
    bind fd@%(passed)d
    server s 127.0.0.1:%(secure)d send-proxy-v2
listen checked
    bind fd@%(checked)d
    server s 127.0.0.1:%(plain)d send-proxy-v2 check inter 20ms
"""
FRONTS = ("one", "two", "decrypted", "passed", "checked")


class Behind:
    """What is served behind the proxy, and the ports in front of it."""

    def __init__(self):
        self.ports = {}
        self.headers = []
        self.checked = trio.Event()

    async def serve(self, connection):
        """HTTP, but for checks, which end before they have said a word."""
        if connection.proxy_header.local:
            self.checked.set()
        await http_handler(self.answer)(connection)

    async def answer(self, exchange):
        self.headers.append(exchange.connection.proxy_header)
        await exchange.respond(200, f"{exchange.remote_address} {exchange.connection.tls is not None}")


@pytest.fixture
async def behind(nursery, tmp_path, ca, server_context):
    """A server, and HAProxy in front of it."""
    found = Behind()
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "certificate.pem")
    ports = {}
    for name, context in (("plain", None), ("secure", server_context)):

        async def run(task_status, context=context):
            await serve_tcp(
                found.serve, 0, host="127.0.0.1", ssl_context=context, proxy_protocol=["127.0.0.1"],
                task_status=task_status,
            )  # fmt: skip

        ports[name] = (await nursery.start(run)).port
    with ExitStack() as stack:
        found.ports = start_haproxy(stack, tmp_path, ports)
        yield found


def start_haproxy(stack, folder, ports):
    """The ports in front, by name. Each is a socket of this process, so that nobody else can take it meanwhile."""
    fronts = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in FRONTS}
    numbers = {name: listener.fileno() for name, listener in fronts.items()}
    (folder / "conf").write_text(CONFIGURATION % {"folder": folder, **ports, **numbers})
    command = [HAPROXY, "-q", "-db", "-f", folder / "conf"]
    process = stack.enter_context(subprocess.Popen(command, pass_fds=numbers.values()))
    stack.callback(process.kill)
    return {name: listener.getsockname()[1] for name, listener in fronts.items()}


@pytest.mark.parametrize("front", ["one", "two", "decrypted", "passed"])
async def test_a_client_in_front_is_the_client_behind(behind, front, client_context):
    async with trionet.open_scope() as scope:
        client = await scope.connect_tcp("127.0.0.1", behind.ports[front])
        here = client.local_address
        if front in ("decrypted", "passed"):
            client = await client.upgrade(trionet.to_tls_client("localhost", client_context, alpn=["http/1.1"]))
        await client.send_all(GET)
        answer = await client.receive_until(str(front == "passed").encode(), max_bytes=1000)
        assert answer.endswith(f"{here} {front == 'passed'}".encode())
    [header] = behind.headers
    assert (header.version, header.local) == (1 if front == "one" else 2, False)
    assert header.source == here
    assert header.destination == ("127.0.0.1", behind.ports[front])
    if front == "decrypted":
        assert (header.alpn, header.authority) == ("http/1.1", "localhost")
        assert header.unique_id == f"id-{here[1]}".encode()
        assert header.tls == ProxyTLS(version=header.tls.version)
        assert header.tls.version.startswith("TLSv1.")
    else:
        assert header.tls is None


async def test_its_checks_are_its_own(behind):
    with trio.fail_after(20):
        await behind.checked.wait()
