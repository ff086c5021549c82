"""What trionet understands differently than h11, as data: `docs/http-differences.md` is written from it.

A difference is allowed only where it is listed here; and what is listed has to show, else the tests fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Difference:
    """One decision. `entries` are patterns for the names of the corpus entries that show it."""

    topic: str
    section: str
    trionet: str
    h11: str
    entries: tuple[str, ...]

    def covers(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.entries)


LENIENT = [
    Difference(
        "Empty lines before a request",
        "RFC 9112 §2.2",
        "skips up to four (`max_blank_lines`)",
        "refuses the first one",
        (
            "9112-2.2 *empty line before",
            "9112-2.2 four empty*",
            "9112-2.2 empty line between",
            "9112-2.2 only an empty*",
        ),
    ),
    Difference(
        "Content-Length with many leading zeros",
        "RFC 9110 §8.6",
        "reads the number, whatever the count of zeros",
        "refuses more than 20 digits",
        ("9112-6.2 thirty zeros",),
    ),
    Difference(
        "White space in front of a chunk extension",
        "RFC 9112 §7.1.1",
        "skips it in front of a semicolon",
        "refuses it",
        ("9112-7.1 chunks extension* behind *",),
    ),
    Difference(
        "HTTP/1.0 with `Connection: keep-alive`",
        "RFC 9112 §9.3",
        "keeps the connection for the next request",
        "ends it after the first one",
        ("9112-9 http 1.0 kept alive",),
    ),
]

STRICT = [
    Difference(
        "Bare LF as the end of a line",
        "RFC 9112 §2.2",
        "refuses it, in heads, chunks and trailers",
        "takes it for CRLF",
        ("* bare lf*", "* te after lf"),
    ),
    Difference(
        "Versions other than 1.0 and 1.1",
        "RFC 9112 §2.3",
        "refuses them (505)",
        "reads any digits",
        ("* version *", "9112-2.3 http 2 preface"),
    ),
    Difference(
        "Methods that are not registered",
        "RFC 9110 §9.1",
        "refuses them (501), unless `any_method` is set",
        "takes any token",
        ("9112-3.1 unknown method", "9112-3.1 lower case method"),
    ),
    Difference(
        "Request targets in none of the four forms",
        "RFC 9112 §3.2",
        "refuses them",
        "takes any visible characters",
        (
            "9112-3.2 target [frqsb]*",
            "9112-3.2 target asterisk",
            "9112-3.2 target without host, *",
            "9112-3.2 connect to *",
            "9112-3.2 target authority form",
            "9112-3.2 connect path",
            "9112-3.2 connect without port",
        ),
    ),
    Difference(
        "Absolute target and Host that do not name the same host",
        "RFC 9112 §3.2",
        "refuses the request",
        "gives both",
        ("9112-3.2 target absolute, *",),
    ),
    Difference(
        "Targets of more than 8 KiB",
        "RFC 9110 §15.5.15",
        "refuses them (414; `max_target`)",
        "bounds the whole head only",
        ("9112-3.2 target too long",),
    ),
    Difference(
        "Host that is not a host",
        "RFC 9112 §3.2",
        "refuses it",
        "takes any field value",
        ("9112-3.2 host *",),
    ),
    Difference(
        "Obsolete line folding",
        "RFC 9112 §5.2",
        "refuses it, in heads and trailers",
        "joins the lines",
        ("* folded", "* folded by tab", "* folded blank"),
    ),
    Difference(
        "Control characters in fields",
        "RFC 9110 §5.5",
        "refuses all but the tab",
        "refuses NUL and white space only",
        (
            "9112-5 escape",
            "9112-5 delete",
            "9112-5 backspace",
            "9112-5 control one",
            "9112-5 unit separator",
            "9112-4 delete in reason",
        ),
    ),
    Difference(
        "More than 128 fields, or 64 KiB of a head",
        "RFC 6585 §5",
        "refuses them (431; `max_fields`, `max_head`)",
        "bounds the bytes only while the head is incomplete, and not the number of fields",
        ("* fields 129", "* trailers 129", "* head too long"),
    ),
    Difference(
        "Content-Length several times, equal",
        "RFC 9112 §6.3",
        "refuses it, as a list or in several fields",
        "takes it for one",
        ("* length list*", "* twice equal", "* two equal lengths"),
    ),
    Difference(
        "Transfer-Encoding together with Content-Length",
        "RFC 9112 §6.3",
        "refuses the message",
        "lets Transfer-Encoding win",
        ("9112-6.1 cl te", "9112-6.1 te cl", "9112-6.1 te cl zero", "9112-6.1 te tab cl", "9112-6.3 length and coding"),
    ),
    Difference(
        "Transfer-Encoding in HTTP/1.0",
        "RFC 9112 §6.1",
        "refuses the message",
        "reads the chunks",
        ("* te in http 10*", "* coding in http 10"),
    ),
    Difference(
        "CONNECT with a body",
        "RFC 9110 §9.3.6",
        "refuses the request",
        "reads the body",
        ("9112-6.2 connect with a length", "9112-6.1 connect chunked"),
    ),
    Difference(
        "White space at the end of a chunk's line",
        "RFC 9112 §7.1.1",
        "refuses it",
        "skips it",
        ("9112-7.1 chunks space behind", "9112-7.1 chunks tab behind", "9112-7.1 chunks space behind extension*"),
    ),
    Difference(
        "Chunk sizes of more than 16 digits",
        "RFC 9112 §7.1",
        "refuses them",
        "takes 20",
        ("9112-7.1 chunks seventeen digits",),
    ),
    Difference(
        "Chunk extensions that are none",
        "RFC 9112 §7.1.1",
        "refuses what the grammar does not have",
        "skips anything behind a semicolon",
        (
            "9112-7.1 chunks extension empty",
            "9112-7.1 chunks extension w*",
            "9112-7.1 chunks extension quote open",
            "9112-7.1 chunks extension quoted cr",
            "9112-7.1 chunks extension quoted twice",
        ),
    ),
    Difference(
        "More than 4 KiB of chunk extensions in a message",
        "RFC 9112 §7.1.1",
        "refuses them",
        "bounds each line only while it is incomplete",
        ("9112-7.1 chunks extension* too long*",),
    ),
    Difference(
        "Trailers that frame, route, authorize or control",
        "RFC 9110 §6.5.1",
        "refuses the message",
        "gives them",
        ("9112-7.1.2 trailers [acltuh]*", "9112-6.3 trailer length"),
    ),
    Difference(
        "Endless informational responses",
        "RFC 9110 §15.2",
        "refuses more than 16 before a response (`max_informational`)",
        "reads on",
        ("9112-6.3 seventeen informational",),
    ),
    Difference(
        "A request behind a refused CONNECT",
        "RFC 9110 §9.3.6",
        "ends the connection: the bytes may be meant for the tunnel",
        "reads them as the next request",
        ("9112-9 connect, then*",),
    ),
]
