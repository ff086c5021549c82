"""Reading headers of the PROXY protocol: version 1 and 2, at every split, and what is no good header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import ProxyHeader, ProxyTLS, RemoteProtocolError
from trionet.server.proxy_protocol_parser import parse_header
from trionet.transport.proxy_tlvs import checksum

from ..helpers.proxy_headers import CLIENT, HOSTS, LINE, SIGNATURE, TARGET, binary, tlv

MOST = 4096

# What a balancer in front of TLS says, as HAProxy's send-proxy-v2-ssl-cn does: recorded in its form, by hand.
FROM_TLS = tlv(0x20, b"\x07\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"somebody") + tlv(0x23, b"TLS_AES_128_GCM"))
SIX = bytes(15) + b"\1" + bytes.fromhex("20010db8000000000000000000000002") + b"\x13\x88\x01\xbb"
PATHS = b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")

GOOD = {
    LINE: ProxyHeader(version=1, source=CLIENT, destination=TARGET),
    b"PROXY TCP6 ::1 2001:DB8::2 0 65535\r\n": ProxyHeader(
        version=1, source=("::1", 0, 0, 0), destination=("2001:db8::2", 65535, 0, 0)
    ),
    b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n": ProxyHeader(
        version=1, source=("ffff:" * 7 + "ffff", 65535, 0, 0), destination=("ffff:" * 7 + "ffff", 65535, 0, 0)
    ),
    b"PROXY UNKNOWN\r\n": ProxyHeader(version=1),
    b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n": ProxyHeader(version=1),
    binary(): ProxyHeader(source=CLIENT, destination=TARGET),
    binary(family=0x12): ProxyHeader(source=CLIENT, destination=TARGET),
    binary(SIX, family=0x21): ProxyHeader(source=("::1", 5000, 0, 0), destination=("2001:db8::2", 443, 0, 0)),
    binary(PATHS, family=0x31): ProxyHeader(source="/client", destination="/server"),
    binary(b"", family=0x00): ProxyHeader(),
    binary(b"", first=0x20, family=0x00): ProxyHeader(local=True),
    binary(b"anything", first=0x20, family=0x99): ProxyHeader(local=True),
    binary(HOSTS + tlv(1, b"h2") + tlv(2, b"host.example") + tlv(5, b"\0id")): ProxyHeader(
        source=CLIENT, destination=TARGET, alpn="h2", authority="host.example", unique_id=b"\0id"
    ),
    binary(HOSTS + tlv(4, bytes(9)) + tlv(0xEA, b"\1vpce-1") + tlv(0x30, b"blue")): ProxyHeader(
        source=CLIENT, destination=TARGET, others=((0xEA, b"\1vpce-1"), (0x30, b"blue"))
    ),
    binary(HOSTS + FROM_TLS): ProxyHeader(
        source=CLIENT,
        destination=TARGET,
        tls=ProxyTLS(
            certificate=True, verified=True, version="TLSv1.3", cipher="TLS_AES_128_GCM", common_name="somebody"
        ),
    ),
    binary(HOSTS + tlv(0x20, b"\1\0\0\0\1")): ProxyHeader(source=CLIENT, destination=TARGET, tls=ProxyTLS()),
    # No certificate was shown, so none was verified, whatever the result of the check is said to be.
    binary(HOSTS + tlv(0x20, b"\1\0\0\0\0")): ProxyHeader(source=CLIENT, destination=TARGET, tls=ProxyTLS()),
}

BAD = {
    b"GET / HTTP/1.1\r\n": "no PROXY header",
    b"\x16\x03\x01": "no PROXY header",
    b"\0": "no PROXY header",
    b"proxy TCP4": "no PROXY header",
    b"\r\n\r\n\0\r\nQUITE": "no PROXY header",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 5000 443\n": "malformed",
    b"PROXY  TCP4 192.0.2.1 198.51.100.7 5000 443\r\n": "malformed",
    b"PROXY TCP4 192.0.2.1 198.51.100.7  5000 443\r\n": "malformed",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 5000\r\n": "malformed",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 5000 443 \r\n": "malformed",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 05 443\r\n": "malformed",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n": "malformed",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 -1 443\r\n": "malformed",
    b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n": "malformed",
    b"PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n": "malformed",
    b"PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n": "malformed",
    b"PROXY TCP4 ::1 ::1 1 2\r\n": "malformed",
    b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n": "malformed",
    b"PROXY TCP6 :::1 ::1 1 2\r\n": "malformed",
    b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n": "malformed",
    b"PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n": "malformed",
    b"PROXY TCP4 \xd9\xa1.0.2.1 198.51.100.7 1 2\r\n": "malformed",
    b"PROXY UNKNOWN\n": "malformed",
    b"PROXY UNKNOWNING\r\n": "malformed",
    b"PROXY UNKNOWN a\rb\r\n": "malformed",
    b"PROXY \r\n": "malformed",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n": "longer than 107",
    b"PROXY " + b"x" * 101: "longer than 107",
    binary(first=0x11): "version and command 0x11",
    binary(first=0x22): "version and command 0x22",
    binary(family=0x41): "family and protocol 0x41",
    binary(family=0x13): "family and protocol 0x13",
    binary(HOSTS[:-1]): "11 bytes of addresses, which have 12",
    binary(b""): "0 bytes of addresses, which have 12",
    binary(HOSTS, family=0x21): "12 bytes of addresses, which have 36",
    binary(PATHS[:-1], family=0x31): "215 bytes of addresses, which have 216",
    binary(size=MOST - 15): "4097 bytes is longer than 4096",
    binary(size=65535): "65551 bytes is longer than 4096",
    binary(first=0x20, size=65535): "65551 bytes is longer than 4096",
    binary(HOSTS + b"\1"): "longer than the header",
    binary(HOSTS + b"\1\0"): "longer than the header",
    binary(HOSTS + b"\1\0\4abc"): "longer than the header",
    binary(HOSTS + tlv(1, b"h2") * 2): "two TLVs 0x01",
    binary(HOSTS + tlv(2, b"\xff")): "malformed",
    binary(HOSTS + tlv(5, bytes(129))): "at most 128 bytes, not 129",
    binary(HOSTS + tlv(0x20, b"\1\0\0\0")): "at least 5 bytes, not 4",
    binary(HOSTS + tlv(0x20, b"\1\0\0\0\0" + b"\x21\0\7TLS")): "longer than the header",
    binary(HOSTS + tlv(0x20, b"\1\0\0\0\0" + tlv(0x22, b"\xff"))): "malformed",
    binary(HOSTS + tlv(3, b"\0\0\0\0")): "checksum is wrong",
    binary(HOSTS + tlv(3, b"\0\0\0")): "checksum is wrong",
}


@pytest.mark.parametrize(("data", "header"), GOOD.items())
def test_a_header_is_read_at_every_split_and_what_follows_is_left(data, header):
    for end in range(len(data)):
        assert parse_header(data[:end], MOST) is None
    assert parse_header(data, MOST) == (header, len(data))
    assert parse_header(bytearray(data + b"GET / HTTP/1.1\r\n"), MOST) == (header, len(data))


@pytest.mark.parametrize(("data", "said"), BAD.items())
def test_what_is_no_good_header_is_refused(data, said):
    with pytest.raises(RemoteProtocolError, match=said):
        parse_header(data, MOST)


def test_what_cannot_become_a_header_is_refused_at_once():
    for good in (SIGNATURE, b"PROXY "):
        for at in range(len(good)):
            assert parse_header(good[:at], MOST) is None
            with pytest.raises(RemoteProtocolError):
                parse_header(good[:at] + b"~", MOST)
    with pytest.raises(RemoteProtocolError, match="longer than 4096"):
        parse_header(binary(size=65535)[:16], MOST)


def test_the_checksum_is_that_of_the_header_with_zeros_in_its_place():
    assert checksum(b"123456789") == 0xE3069283  # the check value of CRC-32C
    before = binary(HOSTS + tlv(3, bytes(4)) + tlv(1, b"h2"))
    whole = before.replace(tlv(3, bytes(4)), tlv(3, checksum(before).to_bytes(4, "big")))
    assert parse_header(whole, MOST) == (ProxyHeader(source=CLIENT, destination=TARGET, alpn="h2"), len(whole))
    with pytest.raises(RemoteProtocolError, match="checksum"):
        parse_header(whole.replace(b"h2", b"h3"), MOST)


@given(
    st.binary(max_size=80), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x20"])
)
def test_whatever_comes_is_a_header_or_refused_or_not_complete(data, begin):
    try:
        found = parse_header(begin + data, MOST)
    except RemoteProtocolError:
        return
    if found is not None and found[0].version == 2 and not found[0].local:
        header, size = found
        assert parse_header(header.to_bytes(), MOST)[0] == header
        assert size <= len(begin + data)
