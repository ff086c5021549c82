"""Agreeing on compression in the opening handshake (RFC 6455 §9, RFC 7692 §5 and §7.1), without I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import build_extension, parse_extension

from ...errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .deflate import PerMessageDeflate

__all__ = ["FIELD", "accept_offer", "check_agreement", "make_offer", "parse_extensions"]

FIELD: Final = "Sec-WebSocket-Extensions"
_NAME: Final = "permessage-deflate"
_SERVER_ALONE: Final = "server_no_context_takeover"
_CLIENT_ALONE: Final = "client_no_context_takeover"
_SERVER_BITS: Final = "server_max_window_bits"
_CLIENT_BITS: Final = "client_max_window_bits"
_BITS: Final = {str(bits): bits for bits in range(8, 16)}

Parameters = list[tuple[str, str | None]]


def parse_extensions(values: Sequence[str]) -> list[tuple[str, Parameters]]:
    """Names and parameters of the extensions in these field values, in order.

    Raises:
        ValueError: they are not what RFC 6455 §9.1 allows.
    """
    try:
        return [(str(name), list(given)) for value in values for name, given in parse_extension(value)]
    except InvalidHeaderFormat as exc:
        raise ValueError(f"{FIELD} is malformed: {exc}") from None


# --- the server's side ------------------------------------------------------------------------------------------


def accept_offer(
    offers: Sequence[tuple[str, Parameters]], granted: PerMessageDeflate
) -> tuple[PerMessageDeflate, str] | None:
    """What comes of the first offer that can be accepted, and the field that says so; None if there is none.

    Source: RFC 7692 §5, §7.1.
    """
    for name, given in offers:
        if name == _NAME and (offer := _unique(given)) is not None and (agreed := _accept(offer, granted)) is not None:
            response: Parameters = []
            if agreed.server_no_context_takeover:
                response.append((_SERVER_ALONE, None))
            if agreed.client_no_context_takeover:
                response.append((_CLIENT_ALONE, None))
            if _SERVER_BITS in offer or agreed.server_max_window_bits < 15:
                response.append((_SERVER_BITS, str(agreed.server_max_window_bits)))
            if _CLIENT_BITS in offer:
                response.append((_CLIENT_BITS, str(agreed.client_max_window_bits)))
            return agreed, _field(response)
    return None


def _accept(offer: dict[str, str | None], granted: PerMessageDeflate) -> PerMessageDeflate | None:
    server_bits = granted.server_max_window_bits
    client_bits = 15  # unless the client says that it can be told
    for name, value in offer.items():
        match name, _BITS.get(value or ""):
            case ("server_no_context_takeover" | "client_no_context_takeover", None) if value is None:
                pass
            case "server_max_window_bits", int(bits):
                server_bits = min(server_bits, bits)
            case "client_max_window_bits", int(bits):
                client_bits = min(granted.client_max_window_bits, bits)
            case "client_max_window_bits", None if value is None:
                client_bits = granted.client_max_window_bits
            case _:
                return None
    return replace(
        granted,
        server_no_context_takeover=granted.server_no_context_takeover or _SERVER_ALONE in offer,
        client_no_context_takeover=granted.client_no_context_takeover or _CLIENT_ALONE in offer,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )


# --- the client's side ------------------------------------------------------------------------------------------


def make_offer(wanted: PerMessageDeflate) -> str:
    """The field that offers compression.

    A server need not be able to limit its window. One that is not declines the offer that asks for that, so there is a
    second one, as RFC 7692 §7.1.3 shows it; or it takes what it can of the first, and says so by leaving that out.
    """
    offer: Parameters = []
    if wanted.server_no_context_takeover:
        offer.append((_SERVER_ALONE, None))
    if wanted.client_no_context_takeover:
        offer.append((_CLIENT_ALONE, None))
    offer.append((_CLIENT_BITS, str(wanted.client_max_window_bits) if wanted.client_max_window_bits < 15 else None))
    if wanted.server_max_window_bits == 15:
        return _field(offer)
    return _field([(_SERVER_BITS, str(wanted.server_max_window_bits)), *offer], offer)


def check_agreement(values: Sequence[str], wanted: PerMessageDeflate | None) -> PerMessageDeflate | None:
    """What was agreed on, as the server's response says it; None for no compression.

    Raises:
        RemoteProtocolError: the server has accepted what was not offered.

    Source: RFC 6455 §9.1; RFC 7692 §5, §7.1.
    """
    if not values:
        return None
    shown = ", ".join(values)
    if wanted is None:
        raise RemoteProtocolError(f"the server accepted extensions, but none was offered: {shown} ({FIELD})")
    try:
        response = parse_extensions(values)
    except ValueError as exc:
        raise RemoteProtocolError(str(exc)) from None
    agreed = None
    if len(response) == 1 and response[0][0] == _NAME:
        given = _unique(response[0][1])
        agreed = None if given is None else _agree(given, wanted)
    if agreed is None:
        raise RemoteProtocolError(f"the server accepted what was not offered: {shown}; offered: {make_offer(wanted)}")
    return agreed


def _agree(given: dict[str, str | None], wanted: PerMessageDeflate) -> PerMessageDeflate | None:
    """What the parameters of a response make of the offers. The last offer takes any window of the server's."""
    server_bits, client_bits = 15, wanted.client_max_window_bits
    for name, value in given.items():
        match name, _BITS.get(value or ""):
            case ("server_no_context_takeover" | "client_no_context_takeover", None) if value is None:
                pass
            case "server_max_window_bits", int(bits):
                server_bits = bits
            case "client_max_window_bits", int(bits) if bits <= wanted.client_max_window_bits:
                client_bits = bits
            case _:
                return None
    if wanted.server_no_context_takeover and _SERVER_ALONE not in given:
        return None
    return replace(
        wanted,
        server_no_context_takeover=_SERVER_ALONE in given,
        client_no_context_takeover=wanted.client_no_context_takeover or _CLIENT_ALONE in given,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )


# --- both -------------------------------------------------------------------------------------------------------


def _unique(given: Sequence[tuple[str, Any]]) -> dict[str, str | None] | None:
    """The parameters by name; None if one is there twice (RFC 7692 §7.1)."""
    found = dict(given)
    return found if len(found) == len(given) else None


def _field(*offers: Parameters) -> str:
    return build_extension([(_NAME, parameters) for parameters in offers])  # type: ignore[misc]
