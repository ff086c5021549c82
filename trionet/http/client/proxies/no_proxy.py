"""What is asked directly although there is a proxy: the entries of NO_PROXY.

There is no standard for them; this reads what curl, Python and HTTPX read: names with what is below them, addresses,
networks, ports, and schemes.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from ...url.hosts import ascii_host

__all__ = ["DirectEntry", "address_of", "parse_direct"]

_BRACKETED: Final = re.compile(r"\A\[([^\[\]]*)\](/[0-9]+)?\Z")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DirectEntry(NamedTuple):
    """One entry of NO_PROXY."""

    scheme: str | None
    name: str
    below_only: bool
    network: _Network | None
    port: int | None

    def covers(self, scheme: str, host: str, address: _Address | None, port: int | None) -> bool:
        """Whether it stands for an origin: its scheme, its host, the address that this may be, and its port."""
        if self.scheme not in (None, scheme) or self.port not in (None, port):
            return False
        if self.network is not None:
            return address is not None and address in self.network
        return (host == self.name and not self.below_only) or host.endswith(f".{self.name}")


def parse_direct(entry: str) -> DirectEntry:
    """Read one entry.

    Raises:
        ValueError: its port or its host cannot be right.
    """
    scheme, separator, rest = entry.rpartition("://")
    rest = rest.removesuffix("/")
    network = _network(rest)
    if network is not None:
        return DirectEntry(_scheme(scheme, separator), "", False, network, None)
    host, port = _split_port(rest, entry)
    network = _network(host)
    name = host.removeprefix("*").rstrip(".")
    below_only = name.startswith(".")
    name = name.lstrip(".")
    if not name.isascii() and network is None:
        try:
            name = ascii_host(name)
        except ValueError as exc:
            raise ValueError(f"NO_PROXY has an entry that is not a host: {exc}") from exc
    return DirectEntry(_scheme(scheme, separator), name.lower(), below_only, network, port)


def _scheme(scheme: str, separator: str) -> str | None:
    return scheme.lower() if separator and scheme.lower() != "all" else None


def _split_port(text: str, entry: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        return text, None
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise ValueError(f"NO_PROXY has the entry {entry!r}, whose port is not a number from 1 to 65535")
    return host, int(port)


def _network(text: str) -> _Network | None:
    """An address, or a network with its prefix length."""
    text = _BRACKETED.sub(r"\1\2", text)
    address = address_of(text)
    try:
        return ipaddress.ip_network(text if address is None else address, strict=False)
    except ValueError:
        return None


def address_of(host: str) -> _Address | None:
    """An address without its zone. What is written ``::ffff:10.0.0.1`` is reached over IPv4 (RFC 4291 §2.5.5.2)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
