"""Headers of the PROXY protocol, put together by hand."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HOSTS = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + (5000).to_bytes(2, "big") + (443).to_bytes(2, "big")
CLIENT, TARGET = ("192.0.2.1", 5000), ("198.51.100.7", 443)
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 5000 443\r\n"


def binary(block=HOSTS, *, first=0x21, family=0x11, size=None):
    """A header of version 2: `block` behind the first 16 bytes."""
    return SIGNATURE + bytes([first, family]) + (len(block) if size is None else size).to_bytes(2, "big") + block


def tlv(kind, value):
    return bytes([kind]) + len(value).to_bytes(2, "big") + value
