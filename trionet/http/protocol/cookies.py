"""Cookies as a server sees them: Cookie is read as it comes, Set-Cookie is written strictly (RFC 6265bis §4.1, §5.8).

What a client sends is taken apart without judging it: a pair that is none is left out. What a program sets is checked,
since a semicolon in a value would let it write attributes, and a browser drops a cookie that breaks the promise of its
own name without saying so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from .headers import is_token

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SameSite", "read_cookies", "write_deletion", "write_set_cookie"]

SameSite = Literal["lax", "strict", "none"]

MAX_SIZE: Final = 4096
"""Bytes of a cookie's name and value together: browsers ignore longer ones (RFC 6265bis §5.7)."""

_VALUE: Final = re.compile(r"[!#-+\--:<-\[\]-~]*")
_PATH: Final = re.compile(r"/[ -:<-~]*")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9.-]+")
_SAME_SITE: Final = {"lax": "Lax", "strict": "Strict", "none": "None"}
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def read_cookies(fields: Iterable[str]) -> dict[str, str]:
    """The cookies of a request, by name. Of several with one name it is the first: that of the most specific path.

    Args:
        fields: The values of its Cookie fields.
    """
    found: dict[str, str] = {}
    for field in fields:
        for pair in field.split(";"):
            name, equals, value = pair.partition("=")
            if equals and (name := name.strip(" \t")):
                found.setdefault(name, value.strip(" \t"))
    return found


def write_set_cookie(
    name: Any,
    value: Any,
    *,
    max_age: Any = None,
    expires: Any = None,
    path: Any = "/",
    domain: Any = None,
    secure: bool,
    http_only: bool = True,
    same_site: SameSite | None = "lax",
    partitioned: bool = False,
) -> str:
    """The value of a Set-Cookie field. Arguments: as for `Exchange.set_cookie`.

    Raises:
        ValueError, TypeError: a part cannot be sent, or browsers would drop the cookie.

    Source: RFC 6265bis §4.1.
    """
    _check_pair(name, value)
    parts = [f"{name}={value}"]
    if max_age is not None:
        if type(max_age) is not int:
            raise TypeError(f"max_age must be a whole number of seconds, not {max_age!r}")
        parts.append(f"Max-Age={max_age}")
    if expires is not None:
        parts.append(f"Expires={_date(expires)}")
    if domain is not None:
        if not isinstance(domain, str) or not _DOMAIN.fullmatch(domain):
            raise ValueError(f"domain must be a host name such as 'example.org', not {domain!r}")
        parts.append(f"Domain={domain}")
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise ValueError(f"path must begin with a slash and have no semicolon, such as '/app', not {path!r}")
    parts.append(f"Path={path}")
    if same_site is not None and same_site not in _SAME_SITE:
        raise ValueError(f"same_site must be 'lax', 'strict', 'none' or None, not {same_site!r}")
    _check_promises(name, secure=secure, path=path, domain=domain, same_site=same_site, partitioned=partitioned)
    if secure:
        parts.append("Secure")
    if http_only:
        parts.append("HttpOnly")
    if same_site is not None:
        parts.append(f"SameSite={_SAME_SITE[same_site]}")
    if partitioned:
        parts.append("Partitioned")
    return "; ".join(parts)


def _check_pair(name: Any, value: Any) -> None:
    if not isinstance(name, str) or not name.isascii() or not is_token(name.encode()):
        raise ValueError(f"a cookie's name must be a token such as 'session', not {name!r}")
    if not isinstance(value, str):
        raise TypeError(f"the value of the cookie {name!r} must be a str, not {value!r}")
    if not _VALUE.fullmatch(value):
        wrong = next(character for character in value if not _VALUE.fullmatch(character))
        raise ValueError(
            f"the value of the cookie {name!r} has {wrong!r}, which no cookie can have; quote it with "
            f"urllib.parse.quote, which makes {quote(wrong, errors='replace')!r} of that"
        )
    if (size := len(name) + len(value)) > MAX_SIZE:
        raise ValueError(
            f"the cookie {name!r} has {size} bytes with its name, and browsers ignore those with more than {MAX_SIZE}; "
            f"keep the data on the server, and give a key to it"
        )


def _date(when: Any) -> str:
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise TypeError(f"expires must be a datetime with a time zone, not {when!r}")
    return format_datetime(when.astimezone(UTC), usegmt=True)


def _check_promises(
    name: str, *, secure: bool, path: str, domain: str | None, same_site: str | None, partitioned: bool
) -> None:
    """What a browser would drop without a word (RFC 6265bis §4.1.3, §5.7)."""
    lower = name.lower()
    insecure = "secure=True, if your clients come over TLS"
    if lower.startswith(("__host-", "__secure-")) and not secure:
        raise ValueError(f"the cookie {name!r} promises by its name that it is Secure; give {insecure}")
    if lower.startswith("__host-") and (path != "/" or domain is not None):
        raise ValueError(
            f"the cookie {name!r} promises by its name that it belongs to this host and all of its paths; leave out "
            f"{'path' if domain is None else 'domain'}"
        )
    for what, given in (("same_site='none'", same_site == "none"), ("partitioned", partitioned)):
        if given and not secure:
            raise ValueError(f"browsers ignore a cookie with {what} that is not Secure; give {insecure}")


def write_deletion(name: str, *, path: str, domain: str | None, secure: bool) -> str:
    """The value of a Set-Cookie field that ends a cookie: it has expired, in both ways in which one can say so."""
    return write_set_cookie(name, "", max_age=0, expires=_EPOCH, path=path, domain=domain, secure=secure)
