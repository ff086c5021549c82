"""Files, ranges and conditions as nginx serves them: the same requests, the same files, the same answers.

Where the two differ on purpose, `DIFFERENCES` says so, with the section of the RFC.
"""

import os
import re
import shutil
import subprocess

import pytest

import trionet

from ..helpers.http_served import ask

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIGURATION = """
daemon off; pid %(folder)s/pid; error_log stderr crit; user root;
events {}
http {
    access_log off; client_body_temp_path %(folder)s/1; proxy_temp_path %(folder)s/2; fastcgi_temp_path %(folder)s/3;
    uwsgi_temp_path %(folder)s/4; scgi_temp_path %(folder)s/5; max_ranges 16; charset utf-8; etag on;
    types { text/plain txt; text/html html; application/json json; } default_type application/octet-stream;
    server { listen unix:%(folder)s/socket; location / { root %(folder)s/files; } }
}
"""

TEXT = bytes(range(48, 123)) * 4
MODIFIED = 784111777
DATE, BEFORE, AFTER = (f"Sun, 06 Nov 1994 08:49:{second} GMT" for second in (37, 36, 38))
SIZE = len(TEXT)

RANGES = [
    "bytes=0-0", "bytes=0-", "bytes=10-19", "bytes=-1", "bytes=-300", "bytes=-301", "bytes=299-", "bytes=299-299",
    "bytes=299-5000", "bytes=300-", "bytes=300-400", "bytes=-0", "bytes=5-4", "bytes=x", "bytes=", "bytes=-",
    "lines=1-2",
    "bytes=0-0,-1", "bytes=0-9,20-29", "bytes=20-29,0-9", "bytes=0-9, 20-29", "bytes=0-9,300-", "bytes=0-9,5-14",
    "bytes=0-,0-,0-", "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 32, 2)),
    "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 34, 2)), "bytes=0-9,x",
]  # fmt: skip
CONDITIONS = [
    ("If-None-Match: ETAG",), ("If-None-Match: W/ETAG",), ('If-None-Match: "x", ETAG',), ("If-None-Match: *",),
    ('If-None-Match: "x"',), ('If-None-Match: "x"', f"If-Modified-Since: {DATE}"),
    ("If-None-Match: ETAG", f"If-Modified-Since: {BEFORE}"), (f"If-Modified-Since: {DATE}",),
    (f"If-Modified-Since: {BEFORE}",), (f"If-Modified-Since: {AFTER}",), ("If-Modified-Since: nonsense",),
    ("If-Match: ETAG",), ('If-Match: "x"',), ("If-Match: *",), ("If-Match: W/ETAG",),
    (f"If-Unmodified-Since: {DATE}",), (f"If-Unmodified-Since: {BEFORE}",), (f"If-Unmodified-Since: {AFTER}",),
    ("Range: bytes=0-9", "If-Range: ETAG"), ("Range: bytes=0-9", 'If-Range: "x"'),
    ("Range: bytes=0-9", "If-Range: W/ETAG"),
    ("Range: bytes=0-9", f"If-Range: {DATE}"), ("Range: bytes=0-9", f"If-Range: {BEFORE}"),
    ("Range: bytes=0-9", "If-None-Match: ETAG"), ("Range: bytes=300-", 'If-Match: "x"'),
]  # fmt: skip
REQUESTS = [
    *(("GET", "/a.txt", (f"Range: {text}",)) for text in RANGES),
    *(("GET", "/a.txt", fields) for fields in CONDITIONS),
    ("GET", "/a.txt", ()), ("HEAD", "/a.txt", ()), ("HEAD", "/a.txt", ("Range: bytes=0-9",)),
    ("HEAD", "/a.txt", ("If-None-Match: ETAG",)), ("GET", "/empty", ()), ("GET", "/empty", ("Range: bytes=0-",)),
    ("GET", "/nothing", ()), ("GET", "/a.txt/x", ()), ("GET", "/%61.txt", ()),
    ("POST", "/a.txt", ("Content-Length: 0",)),
    ("GET", "/sub/b%20c.json", ()), ("GET", "/../a.txt", ()), ("GET", "/..%2fsecret", ()),
]  # fmt: skip

DIFFERENCES = {
    ("GET", "/a.txt", ("Range: bytes=0-9,5-14",)): (
        (206, 206),
        "RFC 9110 §14.2: a server may join ranges that overlap; nginx sends what they have in common twice",
    ),
    ("GET", "/a.txt", ("If-None-Match: ETAG", f"If-Modified-Since: {BEFORE}")): (
        (200, 304),
        "RFC 9110 §13.2.2: beside If-None-Match, If-Modified-Since is not looked at",
    ),
    ("GET", "/a.txt", (f"If-Modified-Since: {AFTER}",)): (
        (200, 304),
        "RFC 9110 §13.1.3: it has not changed since; nginx wants the very date that it has sent",
    ),
    ("HEAD", "/a.txt", ("Range: bytes=0-9",)): (
        (206, 200),
        "RFC 9110 §14.2: Range is defined for GET alone",
    ),
    ("GET", "/../a.txt", ()): ((400, 404), "RFC 9110 §15.5.5: there is no such file; nginx calls the path malformed"),
    ("GET", "/..%2fsecret", ()): ((400, 404), "RFC 9110 §15.5.5: as before"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "files" / "sub").mkdir(parents=True)
    for name, data in (("a.txt", TEXT), ("empty", b""), ("sub/b c.json", b"{}")):
        (folder / "files" / name).write_bytes(data)
        os.utime(folder / "files" / name, (MODIFIED, MODIFIED))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def nginx(folder):
    """nginx on a Unix socket."""
    if NGINX is None:
        pytest.skip("nginx is not installed (apt-get install nginx)")
    (folder / "conf").write_text(CONFIGURATION % {"folder": folder})
    with subprocess.Popen([NGINX, "-p", folder, "-c", folder / "conf"]) as process:
        while not (folder / "socket").exists():
            assert process.poll() is None
        yield folder / "socket"
        process.terminate()


async def answer_of(connect, request, fields):
    """What a server says to this request about its own file."""
    method, target, _ = request
    client = await connect()
    if any("ETAG" in field for field in fields):
        etag = (await ask(client, b"HEAD /a.txt HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")).fields["etag"]
        fields = tuple(field.replace("ETAG", etag) for field in fields)
    lines = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", "Host: a", *fields, ""))
    answer = await ask(client, lines.encode(), method)
    client.abort()
    body = answer.body if answer.status < 400 else b""
    kind = answer.fields.get("content-type", "")
    if boundary := re.search("boundary=(.*)", kind):
        body = body.replace(boundary[1].encode(), b"BOUNDARY")
        kind = kind.replace(boundary[1], "BOUNDARY")
    seen = {name: answer.fields.get(name) for name in ("content-range", "last-modified")}
    return answer.status, body, *(seen.values() if answer.status < 400 else [seen["content-range"]])


@pytest.mark.parametrize("request_", REQUESTS, ids=[f"{m} {t} {'; '.join(f)}"[:60] for m, t, f in REQUESTS])
async def test_the_same_as_nginx(nginx, folder, request_, nursery):
    async def handler(exchange):
        await exchange.respond_file(exchange.path, root=folder / "files")

    assert len(REQUESTS) >= 60
    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        theirs = await answer_of(lambda: scope.connect_unix(nginx), request_, request_[2])
        ours = await answer_of(lambda: scope.connect_tcp("127.0.0.1", server.port), request_, request_[2])
    if request_ in DIFFERENCES:
        expected, reason = DIFFERENCES[request_]
        assert (theirs[0], ours[0]) == expected, reason
        assert theirs != ours, "they do not differ any more"
    else:
        assert ours == theirs
