"""Host names and IP addresses, as they are looked up and as they stand in front of a port.

Names become ASCII by IDNA 2008 with UTS #46, as browsers do it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import idna

__all__ = ["ascii_host", "bracketed"]

_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]+")
_MAX_HOST: Final = 254
"""Characters of a host name, with a dot at its end (RFC 1035 §2.3.4)."""
_SHOWN: Final = 80
"""Characters of a name that an error shows."""


def ascii_host(host: str) -> str:
    """A host name or IP address as it is looked up: ASCII, lower case.

    Raises:
        ValueError: it can be neither.
    """
    if ":" in host:
        return _ipv6(host)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError as exc:
            raise ValueError(f"{_shown(host)} is not a host name: {exc}") from exc
    name = host.lower()
    if not _HOST.fullmatch(name) or len(name) > _MAX_HOST:
        raise ValueError(
            f"{_shown(host)} is not a host name: labels of 1 to 63 letters, digits and '-', with dots between, "
            f"{_MAX_HOST} characters at most"
        )
    return name


def _ipv6(host: str) -> str:
    address, percent, zone = host.partition("%")
    zone = zone.removeprefix("25") if zone != "25" else zone  # RFC 6874 writes %25 for the %, others do not
    try:
        plain = str(ipaddress.IPv6Address(address))
    except ValueError:
        raise ValueError(f"{host!r} is not an IPv6 address") from None
    if percent and not _ZONE.fullmatch(zone):
        raise ValueError(f"{host!r} has a zone that cannot be the name of an interface (RFC 6874)")
    return f"{plain}%{zone}" if percent else plain


def _shown(host: str) -> str:
    return repr(host if len(host) <= _SHOWN else f"{host[:_SHOWN]}...")


def bracketed(host: str) -> str:
    """A host as it stands in front of a port: an IPv6 address in brackets, and without its zone."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host
