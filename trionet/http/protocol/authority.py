"""Authorities as they stand in requests: Host, and the targets that name a host.

What a server looks up by its Host (a site, a tenant, a cache entry) must not depend on who reads the value: what RFC
3986 has no rule for is refused, and never repaired. A port is at most 65535, which is all that TCP has.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

__all__ = ["COMMON", "is_authority", "is_tunnel_target"]

COMMON: Final = rb"[A-Za-z0-9._\-]++(?::(?:[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}))?"
"""A pattern for what nearly every Host is: a name or an IPv4 address, and maybe a port."""

_NAME: Final = rb"(?:[A-Za-z0-9._~!$&'()*+,;=\-]|%[0-9A-Fa-f]{2})*+"
_FUTURE: Final = rb"[vV][0-9A-Fa-f]++\.[A-Za-z0-9._~!$&'()*+,;=:\-]++"
_AUTHORITY: Final = re.compile(
    rb"(?P<host>%b|\[(?:(?P<address>[0-9A-Fa-f:.]++)|%b)\])(?P<colon>:(?P<port>[0-9]*+))?+" % (_NAME, _FUTURE)
)


def is_authority(value: bytes, *, may_be_empty: bool = True) -> bool:
    """Whether `value` is a host, maybe with a port: no user name, nothing half a literal.

    Args:
        value: A Host, or the authority of an absolute target.
        may_be_empty: Whether nothing at all counts, which is how Host says that the target has no authority.

    Source: RFC 9110 §7.2, §4.2.1 (no empty host in front of a port); RFC 3986 §3.2.2, §3.2.3.
    """
    match = _AUTHORITY.fullmatch(value)
    if match is None or ((address := match["address"]) and not _is_ipv6(address)):
        return False
    if not match["host"]:
        return may_be_empty and not match["colon"]
    return not match["port"] or _number(match["port"]) <= 65535


def is_tunnel_target(value: bytes) -> bool:
    """Whether `value` is the target of a CONNECT: a host and a port, both of them (RFC 9110 §9.3.6)."""
    port = value.rpartition(b":")[2]
    return port.isdigit() and _number(port) > 0 and b":" in value and is_authority(value, may_be_empty=False)


def _number(port: bytes) -> int:
    digits = port.lstrip(b"0")
    return int(digits or b"0") if len(digits) < 6 else 65536  # int() would refuse a very long one


def _is_ipv6(address: bytes) -> bool:
    try:
        ipaddress.IPv6Address(address.decode())
    except ValueError:
        return False
    return True
