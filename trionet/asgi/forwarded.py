"""Whom the client really is, where a proxy stands in front: the fields in which trusted proxies say so.

Anybody can send these fields, so they count only from a peer that is trusted, and from a chain of them only as far as
it is trusted: X-Forwarded-For is read from its end, which the nearest proxy wrote, to the first address that is not
trusted. That one is the client; what stands before it was written by the client itself.

Two families of fields exist, and a proxy sets one of them. nginx, set up in the usual way, sets X-Forwarded-For and
X-Forwarded-Proto, and passes the client's own ``Forwarded``, X-Forwarded-Host and X-Forwarded-Port on unchanged. So
only the two are believed by default, others have to be named, and the two families are never mixed.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from ..transport.trusted_peers import TrustedPeers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .types import Scope

__all__ = ["DEFAULT_NAMES", "DEFAULT_PEERS", "Forwarding"]

Client = tuple[str, int]

DEFAULT_PEERS: Final = ("127.0.0.1", "::1")
DEFAULT_NAMES: Final = ("x-forwarded-for", "x-forwarded-proto")
KNOWN: Final = frozenset({*DEFAULT_NAMES, "x-forwarded-host", "x-forwarded-port", "forwarded"})

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PAIR: Final = re.compile(r'\s*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^",;\s]*)\s*(;|,|$)')
_ZONE: Final = re.compile(r"[0-9A-Za-z._-]+")
_HOST: Final = re.compile(rb"(?:[0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Forwarding:
    """Whom to trust, and which fields to believe.

    Args:
        peers: The proxies, as for `TrustedPeers`.
        names: The fields: any of X-Forwarded-For, -Proto, -Host and -Port, or Forwarded alone. Any case.

    Raises:
        ValueError, TypeError: something is neither an address nor a network; a field is not known, or from the other
            family.
    """

    __slots__ = ("_peers", "_wire_names", "names")

    def __init__(self, peers: Iterable[str] = DEFAULT_PEERS, names: Iterable[str] = DEFAULT_NAMES) -> None:
        if isinstance(names, str):
            names = [part.strip() for part in names.split(",") if part.strip()]
        self.names = _check_names(names)
        self._wire_names = frozenset(name.encode() for name in self.names)
        self._peers = TrustedPeers("forwarded_allow_ips", peers)

    def trusts_peer(self, remote: Any, local: Any) -> bool:
        """Whether whoever has connected is trusted, by the socket's addresses."""
        return bool(self.names) and self._peers.has(remote, local)

    def apply(self, scope: Scope) -> None:
        """Take what a trusted proxy says about its client into `scope`: `client`, `scheme`, and the Host field."""
        found: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            if name in self._wire_names:
                found.setdefault(name.decode(), []).append(value.decode("latin-1"))
        if not found:
            return
        if "forwarded" in found:
            self._apply_forwarded(scope, ",".join(found["forwarded"]))
            return
        if "x-forwarded-for" in found:
            self._set_client(scope, [part.strip() for part in ",".join(found["x-forwarded-for"]).split(",")])
        if "x-forwarded-proto" in found:
            _set_scheme(scope, found["x-forwarded-proto"][-1].rpartition(",")[2])
        host = _last(found.get("x-forwarded-host"))
        port = _last(found.get("x-forwarded-port"))
        if host is not None or port is not None:
            _set_host(scope, host, port)

    def _set_client(self, scope: Scope, chain: list[str]) -> None:
        """The last address that no trusted proxy has; the first of all if every one is trusted."""
        client = None
        for text in reversed(chain):
            node = _parse_node(text)
            if node is None:
                break  # nothing before what cannot be read is known to be true
            client = node
            if not self._peers.has_host(node[0]):
                break
        if client is not None:
            scope["client"] = client

    def _apply_forwarded(self, scope: Scope, value: str) -> None:
        """As above, by RFC 7239: the elements stand in the order of the proxies, the nearest one last."""
        elements = _parse_forwarded(value)
        if not elements:
            return
        nearest = elements[-1]
        self._set_client(scope, [element.get("for", "") for element in elements])
        if "proto" in nearest:
            _set_scheme(scope, nearest["proto"])
        if "host" in nearest:
            _set_host(scope, nearest["host"], None)


def _check_names(names: Iterable[str]) -> frozenset[str]:
    found = frozenset(name.lower() for name in names)
    for name in sorted(found - KNOWN):
        raise ValueError(f"forwarded_headers has {name!r}, which is not one of {', '.join(sorted(KNOWN))}")
    if "forwarded" in found and len(found) > 1:
        raise ValueError(
            f"forwarded_headers has 'forwarded' beside {', '.join(sorted(found - {'forwarded'}))}: a proxy that sets "
            f"one family passes on what the client has sent of the other; name the one that your proxy sets"
        )
    return found


def _last(values: list[str] | None) -> str | None:
    """What the nearest proxy has said."""
    return None if values is None else values[-1].rpartition(",")[2].strip()


def _parse_node(text: str) -> Client | None:
    """An address, with or without a port (RFC 7239 §6); None if it is neither."""
    text = text.strip().strip('"')
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host and not _ZONE.fullmatch(host.partition("%")[2]):
        return None  # ipaddress takes anything as a zone, also what would forge a line of a log
    return str(address), int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0


def _set_scheme(scope: Scope, text: str) -> None:
    """``https`` and its like; for a WebSocket the scheme of that name."""
    scheme = _SCHEMES.get(text.strip().strip('"').lower())
    if scheme is not None:
        scope["scheme"] = scheme.replace("http", "ws") if scope["type"] == "websocket" else scheme


def _set_host(scope: Scope, host: str | None, port: str | None) -> None:
    """Put another Host in the place of the request's, if it can be one."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"host"]
    before = next((value for name, value in scope["headers"] if name == b"host"), b"")
    value = before if host is None else host.strip('"').encode("latin-1", "replace")
    if port is not None and port.isascii() and port.isdigit():
        bare = re.sub(rb":[0-9]*$", b"", value)
        value = b"%b:%b" % (bare, port.encode())
    if _HOST.fullmatch(value):
        scope["headers"] = [(b"host", value), *headers]


def _parse_forwarded(value: str) -> list[dict[str, str]]:
    """The elements of the field Forwarded; none if it is malformed (RFC 7239 §4)."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(value):
        match = _PAIR.match(value, at)
        if match is None or match.end() == at:
            return []
        name, text, end = match.groups()
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        elements[-1][name.lower()] = text
        at = match.end()
        if end == ",":
            elements.append({})
    return [element for element in elements if element]
