"""What a proxy says of its client in front of everything else: a header of the PROXY protocol, as a value.

A server reads one with `to_proxied`; a program that is the proxy itself sends one with `ProxyHeader.to_bytes`.

Source: The PROXY protocol, versions 1 & 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final

from ..support.checks import check_count, check_flag
from . import proxy_tlvs as tlvs

__all__ = ["SIGNATURE", "ProxyHeader", "ProxyTLS"]

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""How version 2 begins."""

_UNIX_PATH: Final = 108
_MOST: Final = 65535
_CLIENT_TLS, _CERTIFICATE, _CERTIFICATE_BEFORE = 1, 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTLS:
    """What a proxy says of the TLS between its client and itself."""

    secure: bool = True
    """Whether the client spoke TLS."""
    certificate: bool = False
    """Whether the client has shown a certificate, on this connection or earlier in its TLS session."""
    verified: bool = False
    """Whether it did, and the proxy has found it good."""
    version: str | None = None
    """Such as ``"TLSv1.3"``."""
    cipher: str | None = None
    """OpenSSL's name of the cipher suite."""
    common_name: str | None = None
    """The common name in the client's certificate."""
    signature_algorithm: str | None = None
    """Of the proxy's own certificate, such as ``"SHA256"``."""
    key_algorithm: str | None = None
    """Of the proxy's own certificate, such as ``"RSA2048"``."""

    def _to_bytes(self) -> bytes:
        flags = _CLIENT_TLS * self.secure | (_CERTIFICATE | _CERTIFICATE_BEFORE) * self.certificate
        parts = [bytes([flags]), (0 if self.verified else 1).to_bytes(4, "big")]
        for kind, text in (
            (tlvs.TLS_VERSION, self.version),
            (tlvs.COMMON_NAME, self.common_name),
            (tlvs.CIPHER, self.cipher),
            (tlvs.SIGNATURE_ALGORITHM, self.signature_algorithm),
            (tlvs.KEY_ALGORITHM, self.key_algorithm),
        ):
            if text is not None:
                parts.append(tlvs.tlv(kind, text.encode()))
        return b"".join(parts)

    @staticmethod
    def _from_bytes(data: bytes) -> ProxyTLS:
        """As a TLV has it.

        Raises:
            ValueError: it is malformed.
        """
        if len(data) < 5:
            raise ValueError(f"a TLV of TLS has at least 5 bytes, not {len(data)}")
        flags, found = data[0], dict(tlvs.split_tlvs(data[5:]))
        certificate = bool(flags & (_CERTIFICATE | _CERTIFICATE_BEFORE))

        def text(kind: int) -> str | None:
            return found[kind].decode() if kind in found else None

        return ProxyTLS(
            secure=bool(flags & _CLIENT_TLS),
            certificate=certificate,
            verified=certificate and not any(data[1:5]),
            version=text(tlvs.TLS_VERSION),
            cipher=text(tlvs.CIPHER),
            common_name=text(tlvs.COMMON_NAME),
            signature_algorithm=text(tlvs.SIGNATURE_ALGORITHM),
            key_algorithm=text(tlvs.KEY_ALGORITHM),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """A header of the PROXY protocol: who is at the other end of a proxy.

    Raises:
        ValueError, TypeError: it could not be sent: addresses of two families, a value that is too long, something that
            version 1 has no place for.
    """

    version: int = 2
    """1, a line of text, or 2, binary."""
    local: bool = False
    """Whether the proxy speaks for itself, as it does for health checks: then there are no addresses (version 2)."""
    source: Any = None
    """The client's address: (host, port) for IPv4, (host, port, 0, 0) for IPv6, a path for a Unix socket; None if the
    proxy does not say."""
    destination: Any = None
    """The address that the client has connected to, of the same form."""
    alpn: str | None = None
    """The application protocol that was agreed on in TLS."""
    authority: str | None = None
    """The host name that the client asked for, such as SNI."""
    unique_id: bytes | None = None
    """What the proxy calls the connection, up to 128 bytes."""
    tls: ProxyTLS | None = None
    """What the proxy says of the TLS to its client; None if nothing."""
    others: tuple[tuple[int, bytes], ...] = ()
    """Further TLVs, as type and value: those of a cloud's balancer, for instance."""

    def __post_init__(self) -> None:
        check_count("version", self.version, 1, 2)
        check_flag("local", self.local)
        if (self.source is None) != (self.destination is None):
            raise ValueError("a PROXY header has both source and destination, or neither")
        if self.source is not None and _family(self.source) != _family(self.destination):
            raise ValueError(f"source {self.source!r} and destination {self.destination!r} are of two families")
        if self.local and (self.source is not None or self._tlvs()):
            raise ValueError("a local PROXY header tells of nobody: it has no addresses and no TLVs")
        if self.unique_id is not None and len(self.unique_id) > 128:
            raise ValueError(f"unique_id has at most 128 bytes, not {len(self.unique_id)}")
        if self.version == 1 and self._tlvs():
            raise ValueError("version 1 of the PROXY protocol has addresses only; use version=2")
        if (size := len(self._block())) > _MOST:
            raise ValueError(f"a PROXY header has at most {_MOST} bytes behind its first 16, not {size}")

    def to_bytes(self) -> bytes:
        """As it is sent: the very first bytes of a connection, before TLS too."""
        if self.version == 1:
            return self._line()
        family = 0 if self.source is None else _FAMILIES[_family(self.source)]
        block = self._block()
        return SIGNATURE + bytes([0x20 | (not self.local), family]) + len(block).to_bytes(2, "big") + block

    def _line(self) -> bytes:
        if self.source is None or (family := _family(self.source)) == socket.AF_UNIX:
            return b"PROXY UNKNOWN\r\n"
        name = "TCP4" if family == socket.AF_INET else "TCP6"
        hosts, ports = zip(self.source[:2], self.destination[:2], strict=True)
        return f"PROXY {name} {hosts[0]} {hosts[1]} {ports[0]} {ports[1]}\r\n".encode()

    def _block(self) -> bytes:
        """What stands behind the first 16 bytes of version 2: the addresses, and the TLVs."""
        return (b"" if self.source is None else _packed(self.source, self.destination)) + self._tlvs()

    def _tlvs(self) -> bytes:
        found = [
            (tlvs.ALPN, None if self.alpn is None else self.alpn.encode("latin-1")),
            (tlvs.AUTHORITY, None if self.authority is None else self.authority.encode()),
            (tlvs.UNIQUE_ID, self.unique_id),
            (tlvs.TLS, None if self.tls is None else self.tls._to_bytes()),
            *self.others,
        ]
        for kind, value in found:
            check_count("a TLV's type", kind, 0, 255)
            if value is not None and len(value) > _MOST:
                raise ValueError(f"the TLV {kind:#04x} has at most {_MOST} bytes, not {len(value)}")
        return b"".join(tlvs.tlv(kind, value) for kind, value in found if value is not None)


_FAMILIES: Final = {socket.AF_INET: 0x11, socket.AF_INET6: 0x21, socket.AF_UNIX: 0x31}
"""Family and stream, as the 14th byte of version 2 has it."""


def _family(address: Any) -> socket.AddressFamily:
    if isinstance(address, (str, bytes)):
        return socket.AF_UNIX
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[0], str):
        raise TypeError(f"an address must be (host, port), or the path of a Unix socket, not {address!r}")
    check_count("a port", address[1], 0, 65535)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address[0])
        except (OSError, ValueError):
            continue
        return family
    raise ValueError(f"{address[0]!r} is no IP address, which a PROXY header needs")


def _packed(source: Any, destination: Any) -> bytes:
    """Both addresses, as version 2 has them."""
    family = _family(source)
    if family != socket.AF_UNIX:
        hosts = socket.inet_pton(family, source[0]) + socket.inet_pton(family, destination[0])
        ports: list[int] = [source[1], destination[1]]
        return hosts + b"".join(port.to_bytes(2, "big") for port in ports)
    paths = [
        path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape") for path in (source, destination)
    ]
    for path in paths:
        if len(path) > _UNIX_PATH:
            raise ValueError(f"the path of a Unix socket has at most {_UNIX_PATH} bytes, not {len(path)}: {path!r}")
    return b"".join(path.ljust(_UNIX_PATH, b"\0") for path in paths)
