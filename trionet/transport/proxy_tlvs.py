"""The second half of a PROXY header of version 2: types, lengths and values, and the checksum among them.

Source: The PROXY protocol, versions 1 & 2, §2.2 (haproxy.org/download/3.0/doc/proxy-protocol.txt).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALPN", "AUTHORITY", "CHECKSUM", "CIPHER", "COMMON_NAME", "KEY_ALGORITHM", "NETWORK_NAMESPACE", "NOTHING",
           "SIGNATURE_ALGORITHM", "TLS", "TLS_VERSION", "UNIQUE_ID", "checksum", "split_tlvs", "tlv"]  # fmt: skip

ALPN: Final = 0x01
AUTHORITY: Final = 0x02
CHECKSUM: Final = 0x03
NOTHING: Final = 0x04
UNIQUE_ID: Final = 0x05
TLS: Final = 0x20
NETWORK_NAMESPACE: Final = 0x30

TLS_VERSION: Final = 0x21
COMMON_NAME: Final = 0x22
CIPHER: Final = 0x23
SIGNATURE_ALGORITHM: Final = 0x24
KEY_ALGORITHM: Final = 0x25

_POLYNOMIAL: Final = 0x82F63B78


def split_tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each type with its value, in their order.

    Raises:
        ValueError: the last one is not complete.
    """
    at = 0
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 > len(data) or end > len(data):
            raise ValueError(f"the TLV at byte {at} of {len(data)} is longer than the header says it is")
        yield data[at], data[at + 3 : end]
        at = end


def tlv(kind: int, value: bytes) -> bytes:
    """One of them as bytes; `value` has at most 65,535."""
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def checksum(data: bytes) -> int:
    """CRC-32C, as in iSCSI (RFC 3720, appendix B.4); the header is at most a few kilobytes long."""
    value = 0xFFFFFFFF
    table = _table()
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    return tuple(map(_entry, range(256)))


def _entry(index: int) -> int:
    for _ in range(8):
        index = (index >> 1) ^ (_POLYNOMIAL if index & 1 else 0)
    return index
