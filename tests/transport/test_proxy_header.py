"""Headers of the PROXY protocol as values: what is sent, and what cannot be."""

import pytest

from trionet import ProxyHeader, ProxyTLS
from trionet.server.proxy_protocol_parser import parse_header

from ..helpers.proxy_headers import CLIENT, LINE, TARGET, binary, tlv

FOUR = {"source": CLIENT, "destination": TARGET}
SIX = {"source": ("::1", 1, 0, 0), "destination": ("2001:db8::2", 2, 0, 0)}


def test_the_bytes_are_those_of_the_specification():
    assert ProxyHeader(version=1, **FOUR).to_bytes() == LINE
    assert ProxyHeader(version=1, **SIX).to_bytes() == b"PROXY TCP6 ::1 2001:db8::2 1 2\r\n"
    assert ProxyHeader(version=1, source="/a", destination="/b").to_bytes() == b"PROXY UNKNOWN\r\n"
    assert ProxyHeader(version=1, local=True).to_bytes() == b"PROXY UNKNOWN\r\n"
    assert ProxyHeader(**FOUR).to_bytes() == binary()
    assert ProxyHeader(local=True).to_bytes() == binary(b"", first=0x20, family=0)
    assert ProxyHeader(authority="a", others=((0xEA, b"x"),)).to_bytes() == binary(
        tlv(2, b"a") + tlv(0xEA, b"x"), family=0
    )


@pytest.mark.parametrize(
    "header",
    [
        ProxyHeader(**FOUR),
        ProxyHeader(
            **SIX, alpn="http/1.1", authority="b\xfccher.example", unique_id=b"", tls=ProxyTLS(version="TLSv1.3")
        ),
        ProxyHeader(source="/a", destination="", others=((224, bytes(300)),)),
        ProxyHeader(
            **FOUR,
            tls=ProxyTLS(
                certificate=True,
                verified=True,
                cipher="x",
                common_name="\u00fc",
                signature_algorithm="SHA256",
                key_algorithm="EC256",
            ),
        ),
        ProxyHeader(**FOUR, tls=ProxyTLS(secure=False)),
        ProxyHeader(local=True),
        ProxyHeader(version=1, **SIX),
        ProxyHeader(version=1),
    ],
)
def test_what_is_sent_is_read_as_it_was(header):
    data = header.to_bytes()
    assert parse_header(data, 65551) == (header, len(data))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"version": 3}, "version must be 1 to 2, not 3"),
        ({"source": CLIENT}, "both source and destination, or neither"),
        ({"source": CLIENT, "destination": ("::1", 1)}, "two families"),
        ({"source": ("host", 1), "destination": TARGET}, "'host' is no IP address"),
        ({"source": ("a\0", 1), "destination": TARGET}, "no IP address"),
        ({"source": ("::1", 70000), "destination": ("::1", 1)}, "a port must be 0 to 65535, not 70000"),
        ({"source": "/" * 109, "destination": ""}, "at most 108 bytes, not 109"),
        ({"local": True, **FOUR}, "tells of nobody"),
        ({"local": True, "alpn": "h2"}, "tells of nobody"),
        ({"unique_id": bytes(129)}, "at most 128 bytes, not 129"),
        ({"version": 1, "alpn": "h2"}, "use version=2"),
        ({"others": ((256, b""),)}, "a TLV's type must be 0 to 255, not 256"),
        ({"others": ((9, bytes(65536)),)}, "the TLV 0x09 has at most 65535 bytes, not 65536"),
        ({"others": ((9, bytes(65535)),)}, "at most 65535 bytes behind its first 16, not 65538"),
    ],
)
def test_what_cannot_be_sent_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        ProxyHeader(**arguments)


def test_an_address_is_a_pair_or_a_path():
    with pytest.raises(TypeError, match=r"must be \(host, port\), or the path of a Unix socket, not 5"):
        ProxyHeader(source=5, destination=TARGET)
