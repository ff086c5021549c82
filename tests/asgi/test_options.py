"""What `serve_asgi` and `open_asgi` refuse, before anything is opened."""

import pytest

from trionet.asgi.options import AppOptions


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"lifespan": "maybe"}, ValueError, "lifespan must be 'auto', 'on' or 'off', not 'maybe'"),
        ({"root_path": "api"}, ValueError, "root_path must begin with a slash; write '/api', not 'api'"),
        ({"root_path": "/a b"}, ValueError, "root_path must be plain path characters, not '/a b'"),
        ({"root_path": b"/api"}, TypeError, "root_path must be a str such as '/api', not b'/api'"),
        ({"server_header": "yes"}, TypeError, "server_header"),
        ({"limit_concurrency": 0}, ValueError, "limit_concurrency"),
        ({"limit_max_requests": 1.5}, TypeError, "limit_max_requests"),
        ({"headers": [("a b", "c")]}, ValueError, "'a b' is not a token"),
        ({"headers": [("a", "b\r\nc: d")]}, ValueError, "control character"),
        ({"ws_drain_code": 1000}, ValueError, "ws_drain_code"),
        ({"ws_max_size": 0}, ValueError, "ws_max_size"),
        ({"ws_ping_interval": 0}, ValueError, "ws_ping_interval must be more than 0 seconds"),
        ({"forwarded_allow_ips": "proxy"}, ValueError, "'proxy', which is not an address"),
    ],
)
def test_mistakes(options, error, text):
    with pytest.raises(error, match=text):
        AppOptions(**options)


def test_a_server_field_of_ones_own_takes_the_place_of_trionets():
    assert AppOptions(headers={"Server": "mine"}).default_fields.pairs == ((b"Server", b"mine"),)
    assert AppOptions(headers={"X-A": "1"}).default_fields.lines == b"server: trionet\r\nX-A: 1\r\n"


def test_without_pings_there_is_no_timeout_of_pings():
    options = AppOptions(ws_ping_interval=None, ws_max_size=None, ws_per_message_deflate=False).websocket()
    assert (options["ping_interval"], options["ping_timeout"], options["compression"]) == (None, None, None)
