"""The fast path for request heads: what nearly every client sends, read in a fifth of the time.

A server's own work for a request is little more than reading its head, so this is worth a second way to do it; and a
second way to read a head is what request smuggling lives on (RFC 9112 §11.2). So this one has no opinion of its own. It
takes a head only where no rule is left to be applied: HTTP/1.1, a path, one Host that is an ordinary one, and of the
fields that decide about framing or the connection at most one: a Content-Length, or `Connection: close`; besides it
`Connection: keep-alive`, which says what holds anyway. It gives up at anything else, including all that is malformed,
and then `parse_request` reads the head from its beginning and has the say. What is taken is taken whole, by one pattern
with the grammar of `syntax`; the decisive fields are looked for in the lower-cased lines, so that no spelling of a name
gets past.

The fields stay a slice of bytes until somebody asks for them (`FieldLines`). Where a client repeats those of its last
request, byte for byte, they are not even matched again, only the request line is. There are two patterns for the rest,
for Host as the first field and as a later one: a single pattern with a choice would make most heads pay for the search
that they do not need.

`tests/http/protocol/test_fast_head.py` shows that whatever is taken here, `parse_request` makes the same of.
"""

from __future__ import annotations

import re
from typing import Final

from .authority import COMMON
from .field_lines import FieldLines
from .framing import CLOSING_FIELDS, NO_FIELDS, FieldSummary
from .head import METHODS, RequestHead
from .syntax import FIELD, TOKEN

__all__ = ["fast_request"]

_LINE: Final = rb"(%b) (/[!-\x22\x24-~]*+) HTTP/1\.1\r\n" % TOKEN
_REQUEST_LINE: Final = re.compile(_LINE)
_HOST: Final = rb"[Hh]ost: %b\r\n((?:%b\r\n)*+)" % (COMMON, FIELD)
_HOST_FIRST: Final = re.compile(rb"%b(%b)\r\n" % (_LINE, _HOST))
_HOST_LATER: Final = re.compile(rb"%b(((?:(?![Hh]ost:)%b\r\n)++)%b)\r\n" % (_LINE, FIELD, _HOST))
_DECIDES: Final = re.compile(
    rb"\n(?:connection:(?! keep-alive\r)(?: (close)\r)?+|host:|transfer-encoding:|upgrade:|expect:"
    rb"|content-length:(?: ([0-9]{1,18})\r)?+)"
)
"""A field that decides about framing or the connection; the groups are what can be taken at its word at once."""


def fast_request(data: bytes, at: int = 0, known: FieldLines | None = None) -> tuple[RequestHead, int] | None:
    """What `parse_request` would make of the head that begins at `at`, and where it ends; None if that has to be asked.

    It is None too where the head is not all there. `known` are the fields of a head that was taken here before: the
    client may send the same again.
    """
    if known is not None and (match := _REQUEST_LINE.match(data, at)) is not None:
        end = match.end()
        if data.startswith(known.wire, end):
            name, target = match.groups()
            if (method := METHODS.get(name)) is None or method == "CONNECT":
                return None
            return RequestHead(method, target.decode(), "1.1", known, known.summary), end + len(known.wire)
    match = _HOST_FIRST.match(data, at)
    if match is not None:
        name, target, _, rest = match.groups()
    elif (match := _HOST_LATER.match(data, at)) is not None:
        name, target, _, before, after = match.groups()
        rest = before + after
    else:
        return None
    method = METHODS.get(name)
    if method is None or method == "CONNECT":
        return None
    fields = NO_FIELDS
    if rest and (found := _DECIDES.findall(b"\n" + rest.lower())):
        close, length = found[0]
        if len(found) > 1 or not (close or length):
            return None
        fields = CLOSING_FIELDS if close else FieldSummary.of_length(int(length))
    end = match.end()
    return RequestHead(method, target.decode(), "1.1", FieldLines(data[match.start(3) : end], fields), fields), end
