"""Reading a header of the PROXY protocol, without I/O: from the first bytes of a connection to a `ProxyHeader`.

Nothing is guessed: bytes that cannot become a header are refused at the first that differs, and a header that
contradicts itself is refused as a whole.

Source: The PROXY protocol, versions 1 & 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt).
"""

from __future__ import annotations

import re
import socket
from typing import Any, Final

from ..errors import RemoteProtocolError
from ..support.texts import shown_bytes
from ..transport import proxy_tlvs as tlvs
from ..transport.proxy_header import SIGNATURE, ProxyHeader, ProxyTLS

__all__ = ["MAX_LINE", "parse_header"]

MAX_LINE: Final = 107
"""Bytes of version 1 at most, with its CRLF (§2.1)."""

_HEAD: Final = 16
_PREFIX: Final = b"PROXY "
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_LINE: Final = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]+) ([0-9.]+) %b %b|TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) %b %b|UNKNOWN(?: [^\r\n]*)?)\r\n"
    % (_PORT, _PORT, _PORT, _PORT)
)
_SIZES: Final = {0: 0, 1: 12, 2: 36, 3: 216}
"""Bytes of both addresses, by family."""
_ONCE: Final = frozenset({tlvs.ALPN, tlvs.AUTHORITY, tlvs.CHECKSUM, tlvs.UNIQUE_ID, tlvs.TLS})


def parse_header(data: bytes | bytearray, max_header: int) -> tuple[ProxyHeader, int] | None:
    """The header that these bytes begin with, and its size; None if more of them have to come.

    Args:
        data: From the connection's first byte on.
        max_header: Bytes of a header of version 2 at most.

    Raises:
        RemoteProtocolError: they are no header, or a malformed one, or one that is too long.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_binary(data, max_header)
    if data[: len(_PREFIX)] == _PREFIX[: len(data)]:
        return _parse_line(data)
    raise RemoteProtocolError(f"there is no PROXY header in front of {shown_bytes(data, 8)}")


# --- version 1 ----------------------------------------------------------------------------------------------------


def _parse_line(data: bytes | bytearray) -> tuple[ProxyHeader, int] | None:
    end = data.find(b"\n", 0, MAX_LINE) + 1
    if not end:
        if len(data) >= MAX_LINE:
            raise RemoteProtocolError(f"a PROXY header of version 1 is longer than {MAX_LINE} bytes")
        return None
    line = bytes(data[:end])
    match = _LINE.fullmatch(line)
    if match is None:
        raise _malformed(line)
    found = [group for group in match.groups() if group is not None]
    if not found:
        return ProxyHeader(version=1), end
    family = socket.AF_INET if line[9:10] == b"4" else socket.AF_INET6
    try:
        packed = [socket.inet_pton(family, host.decode()) for host in found[:2]]
    except OSError:
        raise _malformed(line) from None
    source, destination = (_address(family, host, int(port)) for host, port in zip(packed, found[2:], strict=True))
    if source[1] > 65535 or destination[1] > 65535:
        raise _malformed(line)
    return ProxyHeader(version=1, source=source, destination=destination), end


def _malformed(line: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(f"a malformed PROXY header of version 1: {shown_bytes(line, MAX_LINE)}")


# --- version 2 ----------------------------------------------------------------------------------------------------


def _parse_binary(data: bytes | bytearray, max_header: int) -> tuple[ProxyHeader, int] | None:
    if len(data) > 12 and data[12] not in (0x20, 0x21):
        raise RemoteProtocolError(f"a PROXY header with the version and command {data[12]:#04x}, not 0x20 or 0x21")
    if len(data) < _HEAD:
        return None
    local, family, size = data[12] == 0x20, data[13] >> 4, int.from_bytes(data[14:16], "big")
    if not local and (family not in _SIZES or data[13] & 0x0F > 2):
        raise RemoteProtocolError(f"a PROXY header with the family and protocol {data[13]:#04x}, which there is not")
    end = _HEAD + size
    if end > max_header:
        raise RemoteProtocolError(f"a PROXY header of {end} bytes is longer than {max_header} (max_header)")
    if not local and size < _SIZES[family]:
        raise RemoteProtocolError(f"a PROXY header says {size} bytes of addresses, which have {_SIZES[family]}")
    if len(data) < end:
        return None
    if local:
        return ProxyHeader(local=True), end  # all else has to be ignored
    try:
        return _read_block(bytes(data[:end]), family), end
    except ValueError as exc:
        raise RemoteProtocolError(f"a malformed PROXY header of version 2: {exc}") from exc


def _read_block(header: bytes, family: int) -> ProxyHeader:
    """What a whole header says.

    Raises:
        ValueError: it contradicts itself.
    """
    behind = _HEAD + _SIZES[family]
    source, destination = _addresses(family, header[_HEAD:behind])
    known: dict[int, bytes] = {}
    others = []
    at = behind
    for kind, value in tlvs.split_tlvs(header[behind:]):
        at += 3 + len(value)
        if kind in known:
            raise ValueError(f"it has two TLVs {kind:#04x}")
        if kind in _ONCE:
            known[kind] = value
        elif kind != tlvs.NOTHING:
            others.append((kind, value))
        if kind == tlvs.CHECKSUM:
            _check_sum(header, at - len(value), value)
    return ProxyHeader(
        source=source,
        destination=destination,
        alpn=known[tlvs.ALPN].decode("latin-1") if tlvs.ALPN in known else None,
        authority=known[tlvs.AUTHORITY].decode() if tlvs.AUTHORITY in known else None,
        unique_id=known.get(tlvs.UNIQUE_ID),
        tls=ProxyTLS._from_bytes(known[tlvs.TLS]) if tlvs.TLS in known else None,
        others=tuple(others),
    )


def _check_sum(header: bytes, at: int, value: bytes) -> None:
    """The checksum is that of the header with zeros in its own place (§2.2.3)."""
    if len(value) != 4 or tlvs.checksum(header[:at] + bytes(4) + header[at + 4 :]) != int.from_bytes(value, "big"):
        raise ValueError("its checksum is wrong")


def _addresses(family: int, block: bytes) -> tuple[Any, Any]:
    if family == 0:
        return None, None
    if family == 3:
        return _path(block[:108]), _path(block[108:])
    of, size = (socket.AF_INET, 4) if family == 1 else (socket.AF_INET6, 16)
    ports = [int.from_bytes(block[at : at + 2], "big") for at in (2 * size, 2 * size + 2)]
    return _address(of, block[:size], ports[0]), _address(of, block[size : 2 * size], ports[1])


def _path(padded: bytes) -> str:
    return padded.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _address(family: socket.AddressFamily, packed: bytes, port: int) -> Any:
    """As `socket.getpeername` has it."""
    host = socket.inet_ntop(family, packed)
    return (host, port) if family == socket.AF_INET else (host, port, 0, 0)
