"""The URL on the command line: whom to connect to, and in which protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from ..mistakes import Mistake

__all__ = ["Whom", "parse_target"]

SCHEMES: Final = ("tcp", "tls", "unix", "http", "https", "ws", "wss")
PORTS: Final = {"tls": 443, "http": 80, "https": 443, "ws": 80, "wss": 443}
STARTTLS_PORTS: Final = {"smtp": 25, "imap": 143, "pop3": 110, "ldap": 389, "postgres": 5432}


@dataclass(frozen=True, slots=True)
class Whom:
    """Whom to connect to. `path` is that of the URL with its query; of a Unix socket, its file."""

    scheme: str
    host: str
    port: int
    path: str
    url: str

    @property
    def secure(self) -> bool:
        """Whether TLS comes before everything else."""
        return self.scheme in ("tls", "https", "wss")

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a URL."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_target(url: str, starttls: str | None = None) -> Whom:
    """Read the URL.

    Raises:
        Mistake: it is none of those that are known, or something is missing.
    """
    scheme, colon, rest = url.partition("://")
    if not colon:
        example = "unix:///run/it.sock" if url.startswith("/") else f"tcp://{url}"
        raise Mistake(f"{url!r} is not a URL: begin it with one of {_list()}, as in {example}")
    scheme = scheme.lower()
    if scheme not in SCHEMES:
        raise Mistake(f"{url!r}: the scheme {scheme!r} is not one of {_list()}")
    if starttls is not None and scheme != "tcp":
        raise Mistake(f"--starttls {starttls} begins in plain text: write tcp://{rest}, not {url}")
    if scheme == "unix":
        if not rest.startswith("/"):
            raise Mistake(f"{url!r}: a Unix socket has an absolute path and three slashes: unix:///{rest}")
        return Whom(scheme, "", 0, unquote(rest), url)
    parts = _split(url)
    port = _port(parts, url, STARTTLS_PORTS.get(starttls or "", PORTS.get(scheme)))
    if scheme in ("tcp", "tls") and (parts.path not in ("", "/") or parts.query):
        raise Mistake(f"{url!r}: {scheme} has no path; did you mean {'https' if scheme == 'tls' else 'http'}://?")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Whom(scheme, parts.hostname or "", port, path, url)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise Mistake(f"{url!r} is not a URL: {exc}") from exc
    if not parts.hostname:
        raise Mistake(f"{url!r} has no host: write {parts.scheme}://host:port")
    if "@" in parts.netloc:
        raise Mistake("user name and password do not belong on a command line: give --header 'Authorization: ...'")
    return parts


def _port(parts: SplitResult, url: str, default: int | None) -> int:
    try:
        port = parts.port or default
    except ValueError:
        raise Mistake(f"{url!r}: the port has to be 1 to 65535") from None
    if port is None:
        raise Mistake(f"{url!r} has no port: write tcp://{parts.hostname}:PORT")
    return port


def _list() -> str:
    return ", ".join(f"{scheme}://" for scheme in SCHEMES)
