"""Addresses that a program gives: a host and a port, a local address, the path of a Unix socket.

They are checked before anything is looked up or opened, for clients and servers alike.
"""

from __future__ import annotations

import errno
import ipaddress
import os

from ..support.checks import check_count

__all__ = ["check_host", "check_local_address", "check_port", "shown_host", "shown_path", "unix_address"]

_MAX_UNIX_PATH = 107
"""Bytes: what ``sun_path`` has room for, without the NUL at its end (unix(7)). An abstract address needs no NUL."""


def check_port(port: int, lowest: int) -> int:
    """`port` as an int in `lowest` … 65535, else a clear error."""
    return check_count("port", port, lowest, 65535)


def check_local_address(address: str | None) -> str | None:
    """`address` if it is None or can be the IP address to connect from, else a clear error."""
    if address is None:
        return None
    if not isinstance(address, str):
        raise TypeError(f"local_address must be an IP address as a str, not {address!r}")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"local_address must be an IP address such as '192.0.2.1', not {address!r}") from None
    return address


def unix_address(path: str | bytes | os.PathLike[str], doing: str) -> bytes:
    """The address of a Unix socket, else a clear error; `doing` is what was to be done with it.

    A name that begins with NUL is an address in Linux's abstract namespace, and no file (unix(7)).
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a str, bytes or a path such as pathlib.Path, not {path!r}")
    name = os.fsencode(path)
    if not name:
        raise ValueError("path must not be empty")
    abstract = name.startswith(b"\0")
    if b"\0" in name and not abstract:
        raise ValueError(f"path must not contain NUL, except at the beginning (an abstract address), not {path!r}")
    if len(name) > _MAX_UNIX_PATH + abstract:
        text = f"cannot {doing} {shown_path(name)}: a socket's path has at most {_MAX_UNIX_PATH} bytes, not {len(name)}"
        raise OSError(errno.ENAMETOOLONG, text)
    return name


def shown_path(name: bytes) -> str:
    """A Unix socket's address for people: an abstract one with ``@`` for its NULs, as ss(8) shows it."""
    return os.fsdecode(name.replace(b"\0", b"@"))


def check_host(host: str | bytes) -> str | bytes:
    """`host` if it can be a host name or an IP address, else a clear error."""
    if not isinstance(host, (str, bytes)):
        raise TypeError(f"host must be a str or bytes, not {host!r}")
    if not host:
        raise ValueError("host must not be empty; use 'localhost' for this machine")
    text = shown_host(host)
    if text.startswith("[") or "/" in text or any(character.isspace() or character == "\0" for character in text):
        raise ValueError(f"host must be a bare host name or IP address, without brackets, scheme or path, not {host!r}")
    if text.count(":") == 1:
        raise ValueError(f"host must come without a port, which is an argument of its own, not {host!r}")
    if len(text) > 255:
        raise ValueError(f"host must have at most 255 characters, not {len(text)}")
    return host


def shown_host(host: str | bytes) -> str:
    """A host as text, for people."""
    return host if isinstance(host, str) else host.decode("latin-1")
