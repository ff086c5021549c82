"""What a proxy does to the fields of a message: which go on, and what it adds about the hop behind it.

A field is about the whole way from client to server, or about one connection. The latter end here (RFC 9110 §7.6.1):
those that are known, and those that Connection names. What a client says about the hops before it counts only where
it is a trusted proxy itself; anybody else could give himself any address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from ...support.checks import check_flag, check_kind
from ..protocol.headers import Headers, is_token
from .exchange import Exchange

if TYPE_CHECKING:
    from ..protocol.headers import HeaderInput

__all__ = ["forwarded_request_headers", "forwarded_response_headers"]

_OF_ONE_CONNECTION: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Trailer is among them because trailers are not passed on, and Expect is not: see `forwarded_request_headers`."""

_ABOUT_HOPS: Final = re.compile(
    rb"(?:forwarded|x[-_]forwarded[-_].*|x[-_]real[-_]ip|x[-_]client[-_]ip)\Z", re.IGNORECASE
)
"""Also with underscores: what reads fields as CGI variables does not see the difference."""


def forwarded_request_headers(
    exchange: Exchange,
    *,
    trust_client: bool = False,
    style: Literal["x-forwarded", "forwarded", "none"] = "x-forwarded",
    via: str | None = "trionet",
    upgrade: str | None = None,
) -> Headers:
    """The fields of a request as a proxy gives them on: without those of one connection, with who has asked for it.

    Host is passed on as the client has sent it. Expect ends here: a proxy that reads the body asks the client for it.
    Trailers are not passed on, so nothing announces them.

    Args:
        exchange: The request.
        trust_client: Whether what the client says of the hops before it is kept and continued. False: it is dropped
            (``Forwarded``, ``X-Forwarded-*``, ``X-Real-IP``, also with underscores), since anybody can send it. True
            only where nobody but a proxy of your own can connect.
        style: What is added: "x-forwarded" for X-Forwarded-For, -Host and -Proto, "forwarded" for RFC 7239's field,
            "none" for neither.
        via: What this proxy calls itself in Via, a token or ``host:port``; None for no Via.
        upgrade: A protocol such as ``"websocket"`` that the server behind is offered if the client offers it. Name
            only one that you mean to pass on: a server that speaks h2c could be asked for anything through it, past
            whatever this proxy refuses.

    Raises:
        TypeError, ValueError: an argument cannot be right.

    Source: RFC 9110 §7.6.1, §7.6.3, §7.8, §10.1.1; RFC 7239.
    """
    check_kind("exchange", exchange, Exchange, "a trionet.Exchange")
    check_flag("trust_client", trust_client)
    if style not in ("x-forwarded", "forwarded", "none"):
        raise ValueError(f"style must be 'x-forwarded', 'forwarded' or 'none', not {style!r}")
    kept = [field for field in _end_to_end(exchange.headers) if field[0].lower() != b"expect"]
    if not trust_client:
        kept = [field for field in kept if not _ABOUT_HOPS.match(field[0])]
    added = [*_hop(exchange, style), *_via(exchange.http_version, via)]
    if upgrade is not None and upgrade.lower() in exchange.offered_protocols:
        added += [("Connection", "Upgrade"), ("Upgrade", upgrade)]
    return Headers([*kept, *added])


def forwarded_response_headers(headers: Headers | HeaderInput, *, via: str | None = None) -> Headers:
    """The fields of a response as a proxy gives them on: without those of one connection.

    Args:
        headers: Those of the response, such as `Response.headers`.
        via: What this proxy calls itself in Via, if it is to say so; a token or ``host:port``.

    Raises:
        TypeError, ValueError: `via` cannot be right, or a field cannot be sent; see `Headers`.

    Source: RFC 9110 §7.6.1, §7.6.3.
    """
    return Headers([*_end_to_end(Headers(headers)), *_via("1.1", via)])


def _end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The fields that are not about one connection; of several Date fields the first, as one message has one date."""
    named = {option.strip().lower().encode("latin-1") for option in headers.get("connection", "").split(",")}
    left_out = _OF_ONE_CONNECTION | named
    kept, dated = [], False
    for name, value in headers.raw:
        lower = name.lower()
        if lower not in left_out and not (dated and lower == b"date"):
            kept.append((name, value))
        dated = dated or lower == b"date"
    return kept


def _hop(exchange: Exchange, style: str) -> list[tuple[str, str]]:
    """What this proxy knows of the hop behind it: whose request it is, what it was sent to, and over what."""
    remote = exchange.remote_address
    address = str(remote[0]).partition("%")[0] if isinstance(remote, tuple) else "unknown"
    scheme = "https" if exchange.connection.tls else "http"
    host = exchange.headers.get("host", "")
    if style == "forwarded":
        node = f'"[{address}]"' if ":" in address else address
        quoted = f';host="{host}"' if host and '"' not in host and "\\" not in host else ""
        return [("Forwarded", f"for={node}{quoted};proto={scheme}")]
    if style == "none":
        return []
    return [
        ("X-Forwarded-For", address),
        *([("X-Forwarded-Host", host)] if host else []),
        ("X-Forwarded-Proto", scheme),
    ]


def _via(version: str, name: str | None) -> list[tuple[str, str]]:
    if name is None:
        return []
    host, _, port = check_kind("via", name, str, "a name such as 'proxy' or 'host:8080'").partition(":")
    if not is_token(host.encode("latin-1", "replace")) or (port and not (port.isascii() and port.isdigit())):
        raise ValueError(f"via must be a token or host:port, such as 'proxy' or 'host:8080', not {name!r}")
    return [("Via", f"{version} {name}")]
