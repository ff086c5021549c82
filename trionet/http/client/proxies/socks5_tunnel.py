"""SOCKS5: a proxy as the way to somebody else (RFC 1928, RFC 1929)."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from ....errors import RemoteProtocolError, UpgradeFailedError, UpgradeRefusedError
from .tunnel import Destination, Tunnel

if TYPE_CHECKING:
    from ....connection import Connection
    from ....handle.recipe import Recipe
    from ....handle.wire import Wire

__all__ = ["to_socks5_tunnel"]

_VERSION: Final = 5
_NO_AUTHENTICATION: Final = 0
_PASSWORD: Final = 2
_NONE_ACCEPTABLE: Final = 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REFUSALS: Final = {
    1: "general failure",
    2: "its rules do not allow it",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "it does not know CONNECT",
    8: "it does not know this kind of address",
}


def to_socks5_tunnel(
    host: str,
    port: int,
    *,
    username: str | None = None,
    password: str | None = None,
    remote_dns: bool = True,
    handshake_timeout: float = 30.0,
) -> Recipe[Connection]:
    """Let a SOCKS5 proxy connect on to `host` and `port`. The result is used once, in ``await conn.upgrade(...)``.

    The successor is a `Connection` to that host, as far as the proxy keeps its word: put TLS on it.

    Args:
        host: Name or IP address.
        port: 1 to 65535.
        username: For a proxy that wants to know; 1 to 255 bytes in UTF-8.
        password: The same; without one the proxy is offered no authentication.
        remote_dns: Whether the proxy looks a name up. Else this machine does, and takes the first address.
        handshake_timeout: Seconds, more than 0, for the look-up and the proxy's answers; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right.

    Raises (in the upgrade):
        UpgradeFailedError: the proxy refused, for which it has to close the connection: an `UpgradeRefusedError`, whose
            `response` is the number of its reply, is then the ``__cause__``; or its answer is wrong, late or missing.
            The handle is CLOSED. Or the name was not found: the handle is OPEN.
        LocalProtocolError: unread bytes (a proxy must not speak first), or the recipe was used before.

    Cancellation: before the first byte was sent the handle is OPEN again; afterwards it is CLOSED (`UPGRADE_FAILED`).

    Source: RFC 1928; RFC 1929 (user name and password).
    """
    if (username is None) != (password is None):
        raise ValueError("to_socks5_tunnel needs both username and password, or neither")
    credentials = None
    if username is not None and password is not None:
        credentials = _counted("username", username), _counted("password", password)
    destination = Destination(host, port)
    conversation = _SOCKS5(destination, credentials, remote_dns=remote_dns)
    return Tunnel("to_socks5_tunnel", destination, conversation, handshake_timeout)


class _SOCKS5:
    """Asks by the CONNECT of SOCKS5."""

    def __init__(self, destination: Destination, credentials: tuple[bytes, bytes] | None, *, remote_dns: bool) -> None:
        self._destination = destination
        self._credentials = credentials
        self._remote_dns = remote_dns

    async def talk(self, wire: Wire) -> None:
        """As `Conversation.talk`."""
        address = await self._address()
        methods = [_NO_AUTHENTICATION, *([_PASSWORD] if self._credentials else [])]
        await wire.send_all(bytes([_VERSION, len(methods), *methods]))
        version, method = await _receive(wire, 2)
        _check_version(version)
        if method not in methods:
            offered = ", ".join(map(str, methods))
            chose = "accepts none" if method == _NONE_ACCEPTABLE else f"chose {method}, which is none"
            hint = "" if self._credentials else "; it may want username and password"
            _refused(
                f"the SOCKS proxy {chose} of the ways of authentication that it was offered ({offered}){hint}", method
            )
        if method == _PASSWORD:
            await self._authenticate(wire)
        await wire.send_all(bytes([_VERSION, 1, 0]) + address + self._destination.port.to_bytes(2, "big"))
        await self._receive_reply(wire)

    async def _authenticate(self, wire: Wire) -> None:
        assert self._credentials is not None
        username, password = self._credentials
        await wire.send_all(b"\x01" + username + password)
        _, status = await _receive(wire, 2)
        if status:
            _refused(f"the SOCKS proxy does not accept user name and password (status {status})", status)

    async def _receive_reply(self, wire: Wire) -> None:
        version, reply, _, kind = await _receive(wire, 4)
        _check_version(version)
        if reply:
            reason = _REFUSALS.get(reply, "for a reason unknown here")
            _refused(f"the SOCKS proxy did not connect to {self._destination}: {reason} (reply {reply})", reply)
        # The address that the proxy connected from: of no use, but it has to be read.
        if kind == _NAME:
            await _receive(wire, (await _receive(wire, 1))[0] + 2)
        elif kind in (_IPV4, _IPV6):
            await _receive(wire, (4 if kind == _IPV4 else 16) + 2)
        else:
            raise RemoteProtocolError(
                f"the SOCKS proxy replied with an address of kind {kind}; there are 1, 3 and 4 (RFC 1928 §6)"
            )

    async def _address(self) -> bytes:
        """Where to, as it goes on the wire."""
        host, port = self._destination.host, self._destination.port
        literal = _as_ip(host)
        if literal is None and not self._remote_dns:
            literal = _as_ip(await _look_up(host, port))
        if literal is None:
            return bytes([_NAME]) + _counted("host", host)
        return bytes([_IPV4 if literal.version == 4 else _IPV6]) + literal.packed


def _refused(what: str, code: int) -> NoReturn:
    """The proxy said no, and has to close the connection."""
    raise UpgradeFailedError(what) from UpgradeRefusedError(what, code)


def _counted(name: str, text: str) -> bytes:
    """A length of one byte and what is that long."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    data = text.encode()
    if not 1 <= len(data) <= 255:
        raise ValueError(f"{name} must have 1 to 255 bytes for SOCKS5 (RFC 1928, RFC 1929), not {len(data)}")
    return bytes([len(data)]) + data


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _look_up(host: str, port: int) -> str:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise UpgradeFailedError(
            f"cannot look up {host}: {exc.strerror or exc} (nothing was sent: a retry is safe)"
        ) from exc
    return str(found[0][4][0])


async def _receive(wire: Wire, size: int) -> bytes:
    """Exactly the next `size` bytes. Cancellation: as for the handshake."""
    data = b""
    while len(data) < size:
        more = await wire.receive_some(size - len(data))
        if not more:
            raise RemoteProtocolError(
                f"the SOCKS proxy ended the connection in the middle of its reply, after {data!r}"
            ) from EOFError()
        data += more
    return data


def _check_version(version: int) -> None:
    if version != _VERSION:
        raise RemoteProtocolError(
            f"not a SOCKS5 proxy: its reply begins with {bytes([version])!r}, not with b'\\x05' (RFC 1928 §3)"
        )
