"""The opening handshake (RFC 6455 §4) without I/O: what each side must send and check."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import RemoteProtocolError
from ...http.client.handshake_response import HandshakeResponse
from ...http.protocol.headers import Headers, is_token, split_list
from ...http.protocol.outgoing import field_lines, write_request
from ...http.protocol.target import origin_form
from ...http.url.parts import without_userinfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...http.protocol.head import RequestHead, ResponseHead
    from ...http.protocol.headers import HeaderInput
    from .origins import Decide

__all__ = [
    "Asked",
    "NotAcceptableError",
    "accept_response",
    "accept_token",
    "check_extra_headers",
    "check_origin",
    "check_request",
    "check_response",
    "check_subprotocols",
    "choose_subprotocol",
    "new_key",
    "refusal",
    "request",
    "resource_name",
]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ACCEPTED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n"
)
_UPGRADE: Final = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
_NONE: Final = Headers()
_OWNED: Final = frozenset({"host", "upgrade", "connection", "content-length", "transfer-encoding"})


class NotAcceptableError(Exception):
    """The request is valid HTTP, but not a handshake that can be accepted. `response` is what to say to it."""

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.response = refusal(status, text, headers)


def refusal(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> HandshakeResponse:
    """An error response with a line of text."""
    body = f"{text}\n".encode("utf-8", "backslashreplace")
    reasons = {400: "Bad Request", 403: "Forbidden", 426: "Upgrade Required", 431: "Request Header Fields Too Large",
               501: "Not Implemented", 505: "HTTP Version Not Supported"}  # fmt: skip
    fields = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers]
    return HandshakeResponse(status, reasons[status], Headers(fields), body)


# --- what a program gives ---------------------------------------------------------------------------------------


def check_subprotocols(names: Iterable[Any]) -> tuple[str, ...]:
    """The subprotocols as a tuple.

    Raises:
        TypeError: a single str, or something other than names.
        ValueError: a name is not a token, or occurs twice (RFC 6455 §4.1, point 10).
    """
    if isinstance(names, (str, bytes)):
        raise TypeError(f"subprotocols must be a sequence of names, not {names!r}; write subprotocols=[{names!r}]")
    if not isinstance(names, Iterable):
        raise TypeError(f"subprotocols must be a sequence of names, not {names!r}")
    if not (result := tuple(names)):
        return ()
    for name in result:
        if not isinstance(name, str) or not is_token(name.encode("latin-1", "replace")) or not name.isascii():
            raise ValueError(f"subprotocol {name!r} is not a token like 'chat' (RFC 6455 §4.1)")
    if len(set(result)) < len(result):
        raise ValueError(f"subprotocols must be different names, not {result!r}")
    return result


def check_extra_headers(fields: HeaderInput | Headers, authorization: str | None = None) -> Headers:
    """The additional fields of a handshake, with an Authorization where they have none of their own.

    Raises:
        ValueError: a field that the handshake itself decides about, or one that cannot be sent; see `Headers`.
    """
    if fields == () and authorization is None:
        return _NONE
    headers = Headers(fields)
    for name in headers:
        if name.lower() in _OWNED or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"extra_headers must not have {name!r}: the handshake sets it")
    if authorization is not None and "Authorization" not in headers:
        headers = Headers([("Authorization", authorization), *headers.items()])
    return headers


# --- the server's side ------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """What a client asks for."""

    key: str
    subprotocols: list[str]
    extensions: list[str]
    """The values of Sec-WebSocket-Extensions."""
    origins: list[str]
    """The values of Origin."""


def check_request(head: RequestHead) -> Asked:
    """What an acceptable handshake asks for.

    Raises:
        NotAcceptableError: with the response: 426 if the request does not ask for a WebSocket of version 13, else 400.

    Source: RFC 6455 §4.2.1, §4.4; RFC 9110 §15.5.22.
    """
    fields = head.fields
    assert fields is not None  # it was parsed
    if head.method != "GET":
        raise NotAcceptableError(400, f"a WebSocket handshake is a GET, not a {head.method}")
    if head.http_version != "1.1":
        raise NotAcceptableError(400, f"a WebSocket handshake needs HTTP/1.1, not {head.http_version}")
    if b"websocket" not in fields.upgrade or b"upgrade" not in fields.options:
        raise NotAcceptableError(
            426, "this is a WebSocket endpoint: it needs 'Upgrade: websocket' and 'Connection: Upgrade'", _UPGRADE
        )
    versions, keys, subprotocols, extensions, origins = head.headers.get_lists(
        b"sec-websocket-version",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
        b"origin",
    )
    if versions != ["13"]:
        raise NotAcceptableError(
            426,
            "only version 13 of WebSocket is supported (Sec-WebSocket-Version)",
            [*_UPGRADE, ("Sec-WebSocket-Version", "13")],
        )
    if len(keys) != 1 or not _is_key(keys[0]):
        raise NotAcceptableError(400, "exactly one Sec-WebSocket-Key is needed: 16 bytes in base64")
    return Asked(keys[0], _offered(subprotocols), extensions, origins)


def check_origin(origins: Sequence[str], allowed: Decide) -> None:
    """Raise unless the page that asks may do so; `origins` are the values of Origin.

    Raises:
        NotAcceptableError: with the response, 403; also for a second Origin field, as it is unclear which one counts.

    Source: RFC 6455 §4.2.2, point 4; RFC 6454 §7.3.
    """
    if len(origins) > 1:
        raise NotAcceptableError(403, "at most one Origin is allowed")
    origin = origins[0] if origins else None
    if not allowed(origin):
        raise NotAcceptableError(
            403,
            "Origin is needed" if origin is None else f"the origin {without_userinfo(origin)} is not allowed",
        )


def resource_name(target: str) -> str:
    """Path and query of a request's target, which may be in absolute form (RFC 9112 §3.2.2, RFC 6455 §4.2.1)."""
    return origin_form(target) or "/"


def choose_subprotocol(offered: Sequence[str], supported: Sequence[str]) -> str | None:
    """The first of the `supported` ones that the client offers."""
    return next((name for name in supported if name in offered), None)


def accept_response(key: str, subprotocol: str | None, extension: str | None, extra: Headers) -> bytes:
    """The 101 that accepts the handshake (RFC 6455 §4.2.2)."""
    head = _ACCEPTED % accept_token(key).encode()
    chosen = []
    if subprotocol is not None:
        chosen.append(("Sec-WebSocket-Protocol", subprotocol))
    if extension is not None:
        chosen.append(("Sec-WebSocket-Extensions", extension))
    if chosen or extra.raw:
        head += field_lines([*chosen, *extra.items()])
    return head + b"\r\n"


def _offered(values: Sequence[str]) -> list[str]:
    if not values:
        return []
    names = split_list(values)
    if len(set(names)) < len(names) or not all(is_token(name.encode("latin-1")) for name in names):
        raise NotAcceptableError(400, "Sec-WebSocket-Protocol must be a list of different tokens")
    return names


def _is_key(key: str) -> bool:
    try:
        return len(binascii.a2b_base64(key.encode("latin-1"), strict_mode=True)) == 16
    except binascii.Error:
        return False


# --- the client's side ------------------------------------------------------------------------------------------


def new_key() -> str:
    """A new Sec-WebSocket-Key (RFC 6455 §4.1, point 7)."""
    return base64.b64encode(secrets.token_bytes(16)).decode("ascii")


def request(
    target: str, host: str, key: str, subprotocols: Sequence[str], *, extension: str | None, extra: Headers
) -> bytes:
    """The client's handshake (RFC 6455 §4.1)."""
    fields = [("Host", host), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", key)]
    fields.append(("Sec-WebSocket-Version", "13"))
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extension is not None:
        fields.append(("Sec-WebSocket-Extensions", extension))
    return write_request("GET", target, [*fields, *extra.items()])


def check_response(head: ResponseHead, key: str, subprotocols: Sequence[str]) -> str | None:
    """The subprotocol that a 101 has chosen.

    Raises:
        RemoteProtocolError: it is not for this handshake, or chooses what was not offered.

    Source: RFC 6455 §4.1, the list behind "Once the client's opening handshake has been sent".
    """
    headers = head.headers
    if head.http_version != "1.1":
        raise RemoteProtocolError(f"the server's 101 is HTTP/{head.http_version}; switching protocols needs HTTP/1.1")
    if [name.lower() for name in split_list(headers.get_list("Upgrade"))] != ["websocket"]:
        raise RemoteProtocolError(f"the server switched to {headers.get('Upgrade')!r} (Upgrade), not to websocket")
    if not _has(headers, "Connection", "upgrade"):
        raise RemoteProtocolError("the server's 101 has no 'Connection: upgrade'")
    if headers.get_list("Sec-WebSocket-Accept") != [accept_token(key)]:
        raise RemoteProtocolError("Sec-WebSocket-Accept is wrong: the server's 101 is not for this handshake")
    chosen = headers.get_list("Sec-WebSocket-Protocol")
    if len(chosen) > 1 or (chosen and chosen[0] not in subprotocols):
        raise RemoteProtocolError(f"the server chose the subprotocol {chosen!r}; offered: {list(subprotocols)!r}")
    return chosen[0] if chosen else None


# --- both -------------------------------------------------------------------------------------------------------


def accept_token(key: str) -> str:
    """What Sec-WebSocket-Accept must be for this key (RFC 6455 §4.2.2, point 5.4)."""
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def _has(headers: Headers, name: str, token: str) -> bool:
    return token in (element.lower() for element in split_list(headers.get_list(name)))
