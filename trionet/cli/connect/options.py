"""The options of ``trionet connect``, as the command line has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

__all__ = ["Extras", "Input", "Security"]

Flag = Parameter(negative="")


@Parameter(name="*")
@dataclass(frozen=True)
class Input:
    """What is sent, and how long an answer is waited for."""

    send: Annotated[
        tuple[str, ...], Parameter(negative="", help="Send this line, and read none from the input. May be repeated.")
    ] = ()
    hex: Annotated[bool, Flag, Parameter(help="Every line of input is hexadecimal; its bytes are sent.")] = False
    eol: Annotated[Literal["crlf", "lf", "none"], Parameter(help="What ends a line on tcp, tls and unix.")] = "crlf"
    timeout: Annotated[float, Parameter(help="Seconds to connect, and for an answer when the input has ended.")] = 10.0
    settle: Annotated[float, Parameter(help="Seconds of silence that end an answer when the input has ended.")] = 0.5


@Parameter(name="*")
@dataclass(frozen=True)
class Security:
    """TLS."""

    starttls: Annotated[
        Literal["smtp", "imap", "pop3", "ldap", "postgres"] | None,
        Parameter(help="Begin in plain text, and change to TLS as this protocol does it."),
    ] = None
    show_certificate: Annotated[bool, Flag, Parameter(help="Show the server's certificate.")] = False
    cafile: Annotated[Path | None, Parameter(help="Trust the authorities in this file alone (PEM).")] = None
    insecure: Annotated[bool, Flag, Parameter(help="Trust every certificate, to look at what is there.")] = False
    alpn: Annotated[tuple[str, ...], Parameter(negative="", help="Offer this protocol (tls). May be repeated.")] = ()


@Parameter(name="*")
@dataclass(frozen=True)
class Extras:
    """What a request of HTTP or WebSocket has besides."""

    header: Annotated[
        tuple[str, ...], Parameter(negative="", help="Send this field, as in 'Accept: text/plain'. May be repeated.")
    ] = ()
    subprotocol: Annotated[tuple[str, ...], Parameter(negative="", help="Offer this one (ws). May be repeated.")] = ()
