"""What a program gives to the recipes for TLS: contexts, host names, protocols of ALPN.

Each is checked where it is given, not in the handshake, where OpenSSL's error would name a line of its source.
"""

from __future__ import annotations

import ssl
import sys
from functools import lru_cache
from typing import Any

__all__ = ["check_alpn", "check_context", "check_hostname", "default_context", "system_trust"]


@lru_cache(maxsize=16)
def default_context(alpn: tuple[str, ...]) -> ssl.SSLContext:
    """A context that verifies with the system's trust store; kept, as certificates take 30 ms to load."""
    context = system_trust()
    context.options |= ssl.OP_NO_RENEGOTIATION
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def system_trust() -> ssl.SSLContext:
    """A context that trusts whom the system trusts.

    Where OpenSSL's own trust store is the system's, truststore would load it anew for each connection: 35 ms of a
    blocked event loop. It is for the systems that keep theirs elsewhere (macOS, Windows), or in an odd place.
    """
    if sys.platform not in ("darwin", "win32") and ssl.get_default_verify_paths().cafile:
        return ssl.create_default_context()
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def check_context(context: Any, wrong: Any, recipe: str, remedy: str) -> ssl.SSLContext:
    """`context` if it is one, and not for the `wrong` side.

    Raises:
        TypeError: it is something else.
        ValueError: it is for the other side.
    """
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"{recipe}: ssl_context must be an ssl.SSLContext such as {remedy}, not {context!r}")
    if context.protocol == wrong:
        side = "server" if wrong == ssl.PROTOCOL_TLS_SERVER else "client"
        raise ValueError(f"{recipe}: {context!r} is for the {side} side ({context.protocol.name}); use {remedy}")
    return context


def check_hostname(name: Any, context: ssl.SSLContext) -> str | None:
    """The name as it is sent and verified: in ASCII and lower case, without a trailing dot and a zone.

    Raises:
        TypeError: it is not a str.
        ValueError: it is neither a host name nor an IP address, or missing where `context` verifies names.
    """
    if name is None:
        if context.check_hostname:
            raise ValueError(
                "to_tls_client: server_hostname is missing, so nobody could tell whose certificate it is; "
                "give server_hostname='host.example', or an ssl_context with check_hostname = False"
            )
        return None
    if not isinstance(name, str):
        raise TypeError(f"to_tls_client: server_hostname must be a str like 'host.example', not {name!r}")
    try:
        return _ascii_name(name).lower()
    except ValueError as exc:
        raise ValueError(
            f"to_tls_client: server_hostname {name!r} is neither a host name nor an IP address ({exc}); "
            f"give the name alone, like 'host.example', without scheme, port and brackets"
        ) from exc


def _ascii_name(name: str) -> str:
    name = name.removesuffix(".")  # RFC 6066 §3: without a trailing dot
    if not name.isascii():
        import idna

        name = idna.encode(name, uts46=True).decode("ascii")
    name.encode("idna")  # what ssl does; it finds empty and long labels
    if ":" in name:
        import ipaddress

        ipaddress.IPv6Address(name)
        # A zone says through which interface this machine gets there; nobody else knows it (RFC 6874 §4).
        name = name.partition("%")[0]
    if not name or name.startswith(".") or any(char in name for char in "\0 /[]@%"):
        raise ValueError("not a host name")
    return name


def check_alpn(alpn: Any) -> tuple[str, ...]:
    """The protocol names as a tuple.

    Raises:
        TypeError: one name in place of a sequence.
        ValueError: a name that cannot be sent (RFC 7301 §3.1).
    """
    if isinstance(alpn, (str, bytes)):
        raise TypeError(f"to_tls_client: alpn must be a sequence of names, not {alpn!r}; write alpn=[{alpn!r}]")
    protocols = tuple(alpn)
    for name in protocols:
        if not isinstance(name, str) or not name.isascii() or not 1 <= len(name) <= 255:
            raise ValueError(
                f"to_tls_client: alpn has {name!r}; a protocol name is 1 to 255 ASCII characters like 'h2'"
            )
    return protocols
