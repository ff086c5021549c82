"""Requests and responses, raw: valid ones, odd ones and hostile ones, by RFC section, each with a name.

`Entry.refusal` is what the machine says: None for messages that are read to the last byte, else the `status_hint`.
What trionet and h11 understand differently here is listed in `http_differences`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

H = b"Host: a\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True)
class Entry:
    """One stream of bytes that a peer sends, up to its EOF."""

    name: str
    raw: bytes
    refusal: int | None
    method: str = "GET"
    """Of the request that a response answers."""


@dataclass
class Corpus:
    """`refusal` is the usual one."""

    refusal: int = 400
    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, section: str, refusal: int | None, method: str = "GET", **named: bytes) -> None:
        for name, raw in named.items():
            full = f"{section} {name.replace('_', ' ')}"
            assert full not in self.entries, full
            self.entries[full] = Entry(full, raw, refusal, method)

    def good(self, section: str, method: str = "GET", **named: bytes) -> None:
        self.add(section, None, method, **named)

    def bad(self, section: str, refusal: int = 0, **named: bytes) -> None:
        self.add(section, refusal or self.refusal, **named)


def get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1", host: bytes = H) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def post(fields: bytes = b"", body: bytes = b"") -> bytes:
    return get(fields, b"POST /p HTTP/1.1") + body


def chunks(body: bytes) -> bytes:
    return post(TE, body)


def reply(fields: bytes = b"", body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return line + b"\r\n" + fields + b"\r\n" + body


def length(value: bytes, body: bytes = b"") -> bytes:
    return post(b"Content-Length: " + value + b"\r\n", body)


REQUESTS = Corpus()
good, bad = REQUESTS.good, REQUESTS.bad

# --- RFC 9112 §2.2: how messages are parsed ------------------------------------------------------------------------
good(
    "9112-2.2",
    one_request=get(),
    two_pipelined=get() + get(line=b"GET /2 HTTP/1.1"),
    three_pipelined=get() * 3,
    empty_line_before=b"\r\n" + get(),
    four_empty_lines_before=b"\r\n" * 4 + get(),
    empty_line_between=post(b"Content-Length: 1\r\n", b"x") + b"\r\n" + get(),
    only_an_empty_line=b"\r\n",
    nothing=b"",
)
bad(
    "9112-2.2",
    five_empty_lines_before=b"\r\n" * 5 + get(),
    bare_lf_before=b"\n" + get(),
    bare_cr_before=b"\r" + get(),
    lone_cr=b"\r",
    bare_lf_everywhere=get().replace(b"\r\n", b"\n"),
    bare_lf_after_line=b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    bare_lf_after_field=b"GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n",
    bare_lf_at_the_end=b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    bare_lf_then_crlf=b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    bare_cr_in_value=get(b"B: c\rd\r\n"),
    bare_cr_as_line_end=b"GET / HTTP/1.1\rHost: a\r\r",
    cr_cr_lf=b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    lf_cr=b"GET / HTTP/1.1\n\rHost: a\n\r\n\r",
    space_before_first_field=b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    tab_before_first_field=b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n",
    cut_in_the_line=b"GET / HT",
    cut_in_a_field=b"GET / HTTP/1.1\r\nHos",
    cut_before_the_blank_line=b"GET / HTTP/1.1\r\nHost: a\r\n",
    cut_in_the_blank_line=b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    tls_client_hello=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    nul_bytes=bytes(16),
    utf_8_mark=b"\xef\xbb\xbf" + get(),
    junk=b"%%%\xff\xfe" * 5 + b"\r\n\r\n",
    response_as_request=reply(b"Content-Length: 0\r\n"),
)

# --- RFC 9112 §2.3: version ----------------------------------------------------------------------------------------
good("9112-2.3", http_10=get(line=b"GET / HTTP/1.0"), http_10_without_host=b"GET / HTTP/1.0\r\n\r\n")
for number in (b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"9.9"):
    bad("9112-2.3", 505, **{f"version {number.decode()}": get(line=b"GET / HTTP/" + number)})
bad(
    "9112-2.3",
    simple_request=b"GET /\r\n\r\n",
    lower_case=get(line=b"GET / http/1.1"),
    no_minor=get(line=b"GET / HTTP/1"),
    two_digits=get(line=b"GET / HTTP/1.10"),
    leading_zero=get(line=b"GET / HTTP/01.1"),
    plus=get(line=b"GET / HTTP/+1.1"),
    comma=get(line=b"GET / HTTP/1,1"),
    rtsp=get(line=b"GET / RTSP/1.0"),
    ice=get(line=b"GET / ICE/1.0"),
    space_inside=get(line=b"GET / HTTP/1. 1"),
    version_missing=get(line=b"GET / "),
)
bad("9112-2.3", 505, http_2_preface=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

# --- RFC 9112 §3: request line -------------------------------------------------------------------------------------
for method in b"HEAD DELETE PUT PATCH TRACE OPTIONS POST PROPFIND".split():
    good("9112-3.1", **{f"method {method.decode()}": get(line=method + b" / HTTP/1.1")})
bad("9112-3.1", 501, unknown_method=get(line=b"FETCH / HTTP/1.1"), lower_case_method=get(line=b"get / HTTP/1.1"))
bad(
    "9112-3.1",
    method_with_colon=get(line=b"GE:T / HTTP/1.1"),
    method_with_nul=get(line=b"GE\0T / HTTP/1.1"),
    method_with_quotes=get(line=b'"GET" / HTTP/1.1'),
    method_missing=get(line=b" / HTTP/1.1"),
    method_not_ascii=get(line=b"G\xc9T / HTTP/1.1"),
    two_spaces_first=get(line=b"GET  / HTTP/1.1"),
    two_spaces_second=get(line=b"GET /  HTTP/1.1"),
    tab_between=get(line=b"GET\t/ HTTP/1.1"),
    form_feed_between=get(line=b"GET\x0c/ HTTP/1.1"),
    space_behind=get(line=b"GET / HTTP/1.1 "),
    word_behind=get(line=b"GET / HTTP/1.1 x"),
    space_before=get(line=b" GET / HTTP/1.1"),
)

# --- RFC 9112 §3.2: target and Host --------------------------------------------------------------------------------
for name, target in {
    "query": b"/a?b=c&d=%20",
    "two slashes": b"//a/b",
    "dots": b"/../../etc",
    "query with slashes and marks": b"/?/?://x",
    "odd characters": b"/~!$&'()*+,;=:@|{}[]^`\"<>\\",
    "absolute": b"http://a/b",
    "absolute without path": b"http://a",
    "absolute with query": b"http://A?b",
    "absolute https": b"https://a/",
    "long": b"/" + b"x" * 8191,
}.items():
    good("9112-3.2", **{f"target {name}": get(line=b"GET " + target + b" HTTP/1.1")})
good(
    "9112-3.2",
    asterisk=get(line=b"OPTIONS * HTTP/1.1"),
    connect=get(line=b"CONNECT a:443 HTTP/1.1", host=b"Host: a:443\r\n"),
)
good("9112-3.2", absolute_http_10_without_host=b"GET http://a/ HTTP/1.0\r\n\r\n")
for name, target in {
    "fragment": b"/a#b",
    "not ascii": b"/\xe4",
    "control": b"/\x01",
    "delete": b"/\x7f",
    "space": b"/a b",
    "relative": b"a/b",
    "asterisk": b"*",
    "question mark": b"?a",
    "authority form": b"a:443",
    "absolute, Host differs": b"http://b/",
    "absolute, port differs": b"http://a:81/",
    "absolute, user": b"http://u@a/",
    "relative with a colon": b"a:b/c",
    "scheme only": b"http:",
    "backslash": b"\\a",
}.items():
    bad("9112-3.2", **{f"target {name}": get(line=b"GET " + target + b" HTTP/1.1")})
bad(
    "9112-3.2",
    414,
    target_too_long=get(line=b"GET /" + b"x" * 8192 + b" HTTP/1.1"),
    target_endless=b"GET /" + b"x" * 66000,
)
for name, host in {
    "port": b"a:80",
    "ipv6": b"[::1]:80",
    "empty": b"",
    "percent": b"a%20b",
    "underscore": b"a_b",
    "ipv4": b"127.0.0.1:65535",
    "ipv6 with ipv4": b"[::ffff:1.2.3.4]",
    "ipv future": b"[v1.a:b]:1",
    "every character of a name": b"a-._~!$&'()*+,;=%c3%A4",
    "empty port": b"a:",
    "port with zeros": b"a:000000443",
}.items():
    good("9112-3.2", **{f"host {name}": get(host=b"Host: " + host + b"\r\n")})
for name, host in {
    "missing": b"",
    "twice": H + H,
    "twice, different": H + b"Host: b\r\n",
    "twice, other case": H + b"hOST: b\r\n",
    "with space": b"Host: a b\r\n",
    "list": b"Host: a b, c\r\n",
    "path": b"Host: a/b\r\n",
    "user": b"Host: u@a\r\n",
    "not ascii": b"Host: \xe4\r\n",
    "query": b"Host: a?b\r\n",
    "backslash": b"Host: a\\b\r\n",
    "port by name": b"Host: a:http\r\n",
    "port with a sign": b"Host: a:+80\r\n",
    "port twice": b"Host: a:80:80\r\n",
    "port too high": b"Host: a:65536\r\n",
    "port much too high": b"Host: a:" + b"9" * 5000 + b"\r\n",
    "port alone": b"Host: :80\r\n",
    "colon alone": b"Host: :\r\n",
    "user and password": b"Host: u:p@a\r\n",
    "bracket open": b"Host: [::1\r\n",
    "bracket closed": b"Host: ::1]\r\n",
    "brackets empty": b"Host: []\r\n",
    "bracket behind a name": b"Host: a[::1]\r\n",
    "name behind a bracket": b"Host: [::1]a\r\n",
    "name in brackets": b"Host: [a.b]\r\n",
    "ipv6 without brackets": b"Host: ::1\r\n",
    "ipv6 wrong": b"Host: [1::2::3]\r\n",
    "ipv6 too short": b"Host: [1:2]\r\n",
    "ipv6 with a zone": b"Host: [fe80::1%25eth0]\r\n",
    "ipv4 in brackets": b"Host: [1.2.3.4]\r\n",
    "ipv future without version": b"Host: [v.a]\r\n",
    "percent alone": b"Host: a%\r\n",
    "percent not hex": b"Host: a%2g\r\n",
    "scheme": b"Host: http://a\r\n",
}.items():
    bad("9112-3.2", **{f"host {name}": get(host=host)})
for name, target in {
    "port by name": b"http://a:http/",
    "port too high": b"http://a:65536/",
    "port alone": b"http://:80/",
    "no host": b"http:///x",
    "no host and a query": b"https://?x",
    "user": b"http://u@a/",
    "user and password": b"http://u:p@a/",
    "bracket open": b"http://[::1/",
    "ipv6 wrong": b"http://[::g]/",
    "percent": b"http://a%zz/",
    "backslash": b"http://a\\b/",
}.items():
    bad("9112-3.2", **{f"target without host, absolute {name}": b"GET " + target + b" HTTP/1.0\r\n\r\n"})
good("9112-3.2", absolute_ipv6=get(line=b"GET http://[::1]:80/ HTTP/1.1", host=b"Host: [::1]:80\r\n"))
good("9112-3.2", absolute_empty_port=get(line=b"GET http://a:/ HTTP/1.1", host=b"Host: a:\r\n"))
good("9112-3.2", absolute_other_scheme=get(line=b"GET file:///x HTTP/1.1", host=b"Host:\r\n"))
good("9112-3.2", connect_ipv6=get(line=b"CONNECT [::1]:443 HTTP/1.1", host=b"Host: [::1]:443\r\n"))
for name, target in {
    "empty port": b"a:",
    "port by name": b"a:https",
    "port zero": b"a:0",
    "port too high": b"a:65536",
    "no host": b":443",
    "ipv6 without brackets": b"::1:443",
    "bracket open": b"[::1:443",
    "user": b"u@a:443",
    "query": b"a:443?b",
    "absolute": b"http://a:443",
}.items():
    bad("9112-3.2", **{f"connect to {name}": get(line=b"CONNECT " + target + b" HTTP/1.1")})
bad("9112-3.2", connect_path=get(line=b"CONNECT /a HTTP/1.1"), connect_without_port=get(line=b"CONNECT a HTTP/1.1"))
bad("9112-3.2", http_10_host_twice=get(line=b"GET / HTTP/1.0", host=H + H))

# --- RFC 9112 §5, RFC 9110 §5: fields ------------------------------------------------------------------------------
for name, fields in {
    "no space": b"B:c\r\n",
    "many spaces": b"B: \t  c \t \r\n",
    "empty value": b"B:\r\n",
    "blank value": b"B:   \r\n",
    "colon in value": b"B: c:d\r\n",
    "inner spaces": b"B: c  d\te\r\n",
    "latin-1": b"B: \xe4\xff\r\n",
    "repeated": b"B: c\r\nb: d\r\nB: c\r\n",
    "odd name": b"!#$%&'*+-.^_`|~9: c\r\n",
    "long value": b"B: " + b"x" * 20000 + b"\r\n",
    "99 fields": b"".join(b"F%d: x\r\n" % i for i in range(99)),
    "quoted": b'B: "c, d"\r\n',
    "unknown Expect": b"Expect: the-unexpected\r\n",
}.items():
    good("9112-5", **{name: get(fields)})
for name, fields in {
    "space before colon": b"B : c\r\n",
    "tab before colon": b"B\t: c\r\n",
    "space before colon of Content-Length": b"Content-Length : 1\r\n",
    "space before colon of Transfer-Encoding": b"Transfer-Encoding : chunked\r\n",
    "no colon": b"B\r\n",
    "no name": b": c\r\n",
    "space in name": b"B b: c\r\n",
    "name not ascii": b"B\xe4: c\r\n",
    "name with nul": b"B\0: c\r\n",
    "name with at": b"B@: c\r\n",
    "name with slash": b"B/: c\r\n",
    "name with bracket": b"[B]: c\r\n",
    "folded": b"B: c\r\n d\r\n",
    "folded by tab": b"B: c\r\n\td\r\n",
    "folded Transfer-Encoding": b"Transfer-Encoding:\r\n chunked\r\n",
    "folded blank": b"B: c\r\n \r\n",
    "nul": b"B: c\0d\r\n",
    "vertical tab": b"B: c\x0bd\r\n",
    "form feed": b"B: c\x0cd\r\n",
    "escape": b"B: c\x1bd\r\n",
    "delete": b"B: c\x7fd\r\n",
    "backspace": b"B: \x08\r\n",
    "control one": b"B: \x01\r\n",
    "unit separator": b"B: \x1f\r\n",
    "request line as field": b"GET / HTTP/1.1\r\n",
}.items():
    bad("9112-5", **{name: get(fields)})
bad(
    "9112-5",
    431,
    fields_129=get(b"".join(b"F%d: x\r\n" % i for i in range(128))),
    head_too_long=get(b"B: " + b"x" * 65536 + b"\r\n"),
    head_endless=b"GET / HTTP/1.1\r\n" + b"B: cccccccccccccccccccccccccc\r\n" * 3000,
)

# --- RFC 9112 §6.2, RFC 9110 §8.6: Content-Length ------------------------------------------------------------------
good(
    "9112-6.2",
    zero=length(b"0"),
    three=length(b"3", b"abc"),
    leading_zeros=length(b"0003", b"abc"),
    thirty_zeros=length(b"0" * 30 + b"3", b"abc"),
    spaces_around=length(b"  3 \t", b"abc"),
    body_like_a_request=length(b"%d" % len(NEXT), NEXT),
    then_another=length(b"3", b"abc") + get(),
    get_with_a_body=get(b"Content-Length: 3\r\n") + b"abc",
    head_with_a_body=get(b"Content-Length: 3\r\n", b"HEAD / HTTP/1.1") + b"abc" + get(),
    http_10_with_a_body=get(b"Content-Length: 3\r\n", b"POST / HTTP/1.0") + b"abc",
    all_bytes=length(b"256", bytes(range(256))),
    empty_post=post() + get(),
    body_of_newlines=length(b"4", b"\r\n\r\n") + get(),
    large=length(b"100000", b"x" * 100000),
)
for name, value in {
    "plus": b"+1",
    "minus": b"-1",
    "minus zero": b"-0",
    "list": b"1,1",
    "list with space": b"1, 1",
    "two numbers": b"1 1",
    "tab inside": b"1\t1",
    "hexadecimal": b"0x1",
    "letters": b"1a",
    "empty": b"",
    "exponent": b"1e1",
    "point": b"1.0",
    "underscore": b"1_0",
    "quotes": b'"1"',
    "comma behind": b"1,",
    "superscript": b"\xb2",
    "arabic digit": b"\xd9\xa1",
    "more than 63 bits": b"9223372036854775808",
    "more than 64 bits": b"18446744073709551617",
    "a thousand digits": b"1" * 1000,
    "ten thousand digits": b"9" * 10000,
    "semicolon": b"1;",
    "true": b"true",
}.items():
    bad("9112-6.2", **{f"length {name}": length(value, b"a") + NEXT})
bad(
    "9112-6.2",
    twice_equal=post(b"Content-Length: 1\r\n" * 2, b"a") + NEXT,
    twice_different=post(b"Content-Length: 0\r\nContent-Length: 36\r\n", NEXT),
    twice_other_case=post(b"content-length: 36\r\nCONTENT-LENGTH: 0\r\n", NEXT),
    twice_one_empty=post(b"Content-Length: 1\r\nContent-Length:\r\n", b"a"),
    cut_in_the_body=length(b"10", b"abc"),
    cut_before_the_body=length(b"10"),
    connect_with_a_length=get(b"Content-Length: 1\r\n", b"CONNECT a:80 HTTP/1.1") + b"x",
)

# --- RFC 9112 §6.1, §6.3: Transfer-Encoding ------------------------------------------------------------------------
LAST = b"0\r\n\r\n"
good(
    "9112-6.1",
    chunked=chunks(b"3\r\nabc\r\n" + LAST),
    chunked_upper_case=post(b"Transfer-Encoding: CHUNKED\r\n", b"3\r\nabc\r\n" + LAST),
    chunked_spaces_around=post(b"TRANSFER-ENCODING: \t chunked  \r\n", LAST) + get(),
    chunked_get=get(TE) + LAST + get(),
    chunked_then_another=chunks(b"1\r\na\r\n" + LAST) + get(),
)
for name, value in {
    "empty": b"",
    "identity": b"identity",
    "gzip": b"gzip",
    "chunked twice": b"chunked, chunked",
    "chunked first": b"chunked, gzip",
    "comma behind": b"chunked,",
    "comma before": b",chunked",
    "prefix": b"xchunked",
    "suffix": b"chunkedx",
    "parameter": b"chunked;q=1",
    "quoted": b'"chunked"',
    "inner tab": b"chun\tked",
    "space inside": b"chunked chunked",
    "kelvin sign": b"chun\xe2\x84\xaaed",
    "nbsp": b"\xa0chunked",
    "cow": b"cow",
}.items():
    bad("9112-6.1", **{f"coding {name}": post(b"Transfer-Encoding: " + value + b"\r\n", LAST) + NEXT})
bad(
    "9112-6.1",
    501,
    coding_gzip_chunked=post(b"Transfer-Encoding: gzip, chunked\r\n", LAST),
    coding_identity_chunked=post(b"Transfer-Encoding: identity, chunked\r\n", LAST),
    coding_in_two_fields=post(b"Transfer-Encoding: cow\r\n" + TE, LAST) + NEXT,
)
bad(
    "9112-6.1",
    te_te=post(TE + TE, LAST) + NEXT,
    te_te_second_odd=post(TE + b"Transfer-Encoding: identity\r\n", LAST) + NEXT,
    te_te_second_other_case=post(TE + b"transfer-encoding: x\r\n", LAST) + NEXT,
    te_in_http_10=get(TE, b"POST / HTTP/1.0") + LAST + NEXT,
    te_in_http_10_kept_alive=get(TE + b"Connection: keep-alive\r\n", b"POST / HTTP/1.0") + LAST + NEXT,
    cl_te=post(b"Content-Length: 6\r\n" + TE, b"0\r\n\r\nG") + NEXT,
    te_cl=post(TE + b"Content-Length: 3\r\n", b"8\r\nSMUGGLED\r\n" + LAST),
    te_cl_zero=post(TE + b"Content-Length: 0\r\n", LAST) + NEXT,
    te_odd_cl=post(b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", LAST) + NEXT,
    te_tab_cl=post(b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n", LAST) + NEXT,
    te_vtab=post(b"Transfer-Encoding:\x0bchunked\r\n", LAST) + NEXT,
    te_nul=post(b"Transfer-Encoding: chunked\0\r\n", LAST) + NEXT,
    te_after_lf=post(b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", LAST) + NEXT,
    te_after_cr=post(b"X: y\rTransfer-Encoding: chunked\r\n", LAST) + NEXT,
    connect_chunked=get(TE, b"CONNECT a:80 HTTP/1.1") + LAST,
)

# --- RFC 9112 §7.1: chunks -----------------------------------------------------------------------------------------
for name, body in {
    "none": b"",
    "hex digits": b"a\r\n0123456789\r\nB\r\n01234567890\r\n",
    "leading zeros": b"0003\r\nabc\r\n",
    "sixteen digits": b"0000000000000003\r\nabc\r\n",
    "data of newlines": b"4\r\n\r\n\r\n\r\n",
    "data like a last chunk": b"5\r\n0\r\n\r\n\r\n",
    "extension": b"3;a\r\nabc\r\n",
    "extension with value": b"3;a=b\r\nabc\r\n",
    "extension quoted": b'3;a="b;c \\" d"\r\nabc\r\n',
    "extensions": b"3;a;b=c;d\r\nabc\r\n",
    "extension with spaces": b"3; a = b\r\nabc\r\n",
    "extension behind a space": b"3 ;a\r\nabc\r\n",
    "extension with value behind a space": b"5 ;a=b\r\nabcde\r\n",
    "extension behind white space": b'3 \t;\t a \t=\t "b ; c" \t; d\r\nabc\r\n',
    "extensions behind a space": b"3;a ;b = c ; d\r\nabc\r\n",
    "one byte each": b"1\r\na\r\n" * 20,
    "extension of 4 KiB": b"1;" + b"x" * 4095 + b"\r\na\r\n",
}.items():
    good("9112-7.1", **{f"chunks {name}": chunks(body + LAST) + get()})
good(
    "9112-7.1",
    last_chunk_of_many_zeros=chunks(b"0000000000000000\r\n\r\n"),
    last_chunk_with_extension=chunks(b"0;a=b\r\n\r\n"),
)
for name, body in {
    "bare lf after size": b"3\nabc\r\n",
    "bare cr after size": b"3\rabc\r\n",
    "bare lf after data": b"3\r\nabc\n",
    "bare lf after last size": b"0\n\r\n",
    "cr cr lf": b"3\r\r\nabc\r\n",
    "prefix 0x": b"0x3\r\nabc\r\n",
    "plus": b"+3\r\nabc\r\n",
    "minus": b"-3\r\nabc\r\n",
    "minus zero": b"-0\r\n\r\n",
    "underscore": b"1_0\r\nabc\r\n",
    "space before": b" 3\r\nabc\r\n",
    "space behind": b"3 \r\nabc\r\n",
    "tab behind": b"3\t\r\nabc\r\n",
    "space in size before extension": b"3 3;a\r\nabc\r\n",
    "space behind extension": b"3;a \r\nabc\r\n",
    "space behind extension value": b"3;a=b \r\nabc\r\n",
    "space alone before extension": b" ;a\r\nabc\r\n",
    "line feed before extension": b"3\n;a\r\nabc\r\n",
    "cr before extension": b"3\r;a\r\nabc\r\n",
    "folded before extension": b"3\r\n ;a\r\nabc\r\n",
    "no-break space before extension": b"3\xa0;a\r\nabc\r\n",
    "vertical tab before extension": b"3\x0b;a\r\nabc\r\n",
    "spaces before extension too long": b"1" + b" " * 5000 + b";a\r\na\r\n",
    "empty size": b"\r\nabc\r\n",
    "no digits": b"x\r\nabc\r\n",
    "not a digit": b"3g\r\nabc\r\n",
    "seventeen digits": b"00000000000000003\r\nabc\r\n",
    "more than 64 bits": b"10000000000000003\r\nabc\r\n",
    "wide digit": b"\xef\xbc\x93\r\nabc\r\n",
    "nul": b"3\0\r\nabc\r\n",
    "data too long": b"3\r\nabcd\r\n",
    "data too short": b"4\r\nabc\r\n",
    "no crlf after data": b"3\r\nabc3\r\nabc\r\n",
    "extension empty": b"3;\r\nabc\r\n",
    "extension with nul": b"3;a\0\r\nabc\r\n",
    "extension with bare lf": b"3;a\nb\r\nabc\r\n",
    "extension with bare cr": b"3;a\rb\r\nabc\r\n",
    "extension without name": b"3;=b\r\nabc\r\n",
    "extension quote open": b'3;a="b\r\nabc\r\n',
    "extension quoted cr": b'3;a="b\rc"\r\nabc\r\n',
    "extension quoted twice": b'3;a="b""c"\r\nabc\r\n',
    "extension with value and space inside": b"3;a=b c\r\nabc\r\n",
    "extension without value": b"3;a=\r\nabc\r\n",
    "extension too long": b"1;" + b"x" * 5000 + b"\r\na\r\n",
    "extensions too long in all": b"1;abcdefghij\r\na\r\n" * 500,
    "size endless": b"0" * 5000,
    "comma": b"3,3\r\nabc\r\n",
}.items():
    bad("9112-7.1", **{f"chunks {name}": chunks(body + LAST) + NEXT})
for name, body in {
    "size": b"",
    "size line": b"3",
    "size line's lf": b"3\r",
    "data": b"5\r\nabc",
    "data's end": b"3\r\nabc",
    "data's lf": b"3\r\nabc\r",
    "last chunk": b"3\r\nabc\r\n",
    "end": b"0\r\n",
    "end's lf": b"0\r\n\r",
    "trailers": b"0\r\nA: b\r\n",
}.items():
    bad("9112-7.1", **{f"cut before the {name}": chunks(body)})

# --- RFC 9112 §7.1.2, RFC 9110 §6.5: trailers ----------------------------------------------------------------------
for name, trailers in {
    "one": b"A: b\r\n",
    "two": b"A: b\r\nC: \t d \r\n",
    "repeated": b"A: b\r\na: c\r\n",
    "empty value": b"A:\r\n",
    "latin-1": b"A: \xe4\r\n",
    "checksum": b"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n",
}.items():
    good("9112-7.1.2", **{f"trailers {name}": chunks(b"1\r\na\r\n0\r\n" + trailers + b"\r\n") + get()})
for name, trailers in {
    "length": b"Content-Length: 5\r\n",
    "coding": b"Transfer-Encoding: chunked\r\n",
    "host": b"Host: b\r\n",
    "connection": b"Connection: close\r\n",
    "authorization": b"authorization: Basic eA==\r\n",
    "cookie": b"Cookie: a=b\r\n",
    "content type": b"Content-Type: text/html\r\n",
    "trailer": b"Trailer: A\r\n",
    "te": b"TE: trailers\r\n",
    "upgrade": b"Upgrade: x\r\n",
    "folded": b"A: b\r\n c\r\n",
    "bare lf": b"A: b\nC: d\r\n",
    "bare cr": b"A: b\rC: d\r\n",
    "space before colon": b"A : b\r\n",
    "space first": b" A: b\r\n",
    "no colon": b"A\r\n",
    "nul": b"A: \0\r\n",
    "a request": NEXT[:-4] + b"\r\n",
}.items():
    bad("9112-7.1.2", **{f"trailers {name}": chunks(b"0\r\n" + trailers + b"\r\n") + NEXT})
bad(
    "9112-7.1.2",
    431,
    trailers_too_long=chunks(b"0\r\nA: " + b"x" * 66000),
    trailers_129=chunks(b"0\r\n" + b"A: b\r\n" * 129 + b"\r\n"),
)

# --- RFC 9112 §9, RFC 9110 §7.8, §9.3.6, §10.1.1: what a request says about the connection -------------------------
for name, raw in {
    "close, then more": get(b"Connection: close\r\n") + NEXT,
    "close in a list": get(b"Connection: x, Close\r\n") + NEXT,
    "close in a second field": get(b"Connection: x\r\nConnection: close\r\n") + NEXT,
    "keep-alive": get(b"Connection: keep-alive\r\n") + get(),
    "keep-alive and close": get(b"Connection: keep-alive, close\r\n") + NEXT,
    "http 1.0, then more": get(line=b"GET / HTTP/1.0") + NEXT,
    "http 1.0 kept alive": get(b"Connection: keep-alive\r\n", b"GET / HTTP/1.0") + get(),
    "empty elements": get(b"Connection: , ,\r\n") + get(),
    "upgrade": get(b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
    "upgrade, then more": get(b"Connection: upgrade\r\nUpgrade: x\r\n") + get(),
    "upgrade with a body": post(b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n", b"abc") + get(),
    "upgrade with chunks": post(b"Connection: upgrade\r\nUpgrade: x\r\n" + TE, LAST) + get(),
    "upgrade in http 1.0": get(b"Connection: upgrade\r\nUpgrade: x\r\n", b"GET / HTTP/1.0"),
    "upgrade to h2c": get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"),
    "expect": post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc"),
    "expect, chunked": post(b"Expect: 100-Continue\r\n" + TE, LAST),
    "expect without a body": get(b"Expect: 100-continue\r\n") + get(),
    "connect, then bytes": get(line=b"CONNECT a:443 HTTP/1.1") + b"\x16\x03\x01",
    "connect, then a request": get(line=b"CONNECT a:443 HTTP/1.1") + NEXT,
}.items():
    good("9112-9", **{name: raw})

# --- responses -----------------------------------------------------------------------------------------------------

RESPONSES = Corpus(refusal=502)
good, bad = RESPONSES.good, RESPONSES.bad

good(
    "9112-4",
    counted=reply(b"Content-Length: 2\r\n", b"hi"),
    until_eof=reply(b"", b"all of this"),
    until_eof_empty=reply(),
    chunked=reply(TE, b"2\r\nhi\r\n0\r\n\r\n"),
    trailers=reply(TE, b"2\r\nhi\r\n0\r\nA: b\r\n\r\n"),
    no_reason=reply(b"Content-Length: 0\r\n", line=b"HTTP/1.1 200 "),
    no_reason_no_space=reply(b"Content-Length: 0\r\n", line=b"HTTP/1.1 200"),
    odd_reason=reply(b"Content-Length: 0\r\n", line=b"HTTP/1.1 200 \xe4 \t so: so"),
    odd_status=reply(b"Content-Length: 0\r\n", line=b"HTTP/1.1 799 What"),
    http_10=reply(b"Content-Length: 2\r\n", b"hi", b"HTTP/1.0 200 OK"),
    http_10_until_eof=reply(b"", b"hi", b"HTTP/1.0 200 OK"),
    http_10_kept_alive=reply(b"Content-Length: 2\r\nConnection: keep-alive\r\n", b"hi", b"HTTP/1.0 200 OK"),
    closes=reply(b"Content-Length: 2\r\nConnection: close\r\n", b"hi"),
    no_content=reply(line=b"HTTP/1.1 204 No Content"),
    no_content_with_length=reply(b"Content-Length: 0\r\n", line=b"HTTP/1.1 204 No Content"),
    no_content_with_a_length=reply(b"Content-Length: 5\r\n", line=b"HTTP/1.1 204 No Content"),
    no_content_chunked=reply(TE, line=b"HTTP/1.1 204 No Content"),
    reset_content=reply(b"Content-Length: 0\r\n", line=b"HTTP/1.1 205 Reset Content"),
    not_modified=reply(b"Content-Length: 5\r\n", line=b"HTTP/1.1 304 Not Modified"),
    not_modified_chunked=reply(TE, line=b"HTTP/1.1 304 Not Modified"),
    early_hints=reply(b"Link: x\r\n", line=b"HTTP/1.1 103 Early Hints") + reply(b"Content-Length: 2\r\n", b"hi"),
    go_on=reply(line=b"HTTP/1.1 100 Continue") + reply(b"Content-Length: 0\r\n"),
    go_on_with_length=reply(b"Content-Length: 5\r\n", line=b"HTTP/1.1 100 Continue") + reply(b"Content-Length: 0\r\n"),
    three_informational=reply(line=b"HTTP/1.1 102 Processing") * 3 + reply(b"Content-Length: 0\r\n"),
    set_cookie_twice=reply(b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n"),
    upgrade_required=reply(b"Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 0\r\n", line=b"HTTP/1.1 426 No"),
    unauthorized=reply(b"WWW-Authenticate: Basic\r\nContent-Length: 2\r\n", b"no", b"HTTP/1.1 401 Unauthorized"),
    body_like_a_response=reply(b"Content-Length: 38\r\n", reply(b"Content-Length: 0\r\n")),
)
good(
    "9112-6.3",
    "HEAD",
    head=reply(),
    head_with_length=reply(b"Content-Length: 500\r\n"),
    head_chunked=reply(TE),
    head_not_found=reply(b"Content-Length: 9\r\n", line=b"HTTP/1.1 404 Not Found"),
)
good(
    "9110-9.3.6",
    "CONNECT",
    tunnel=reply(line=b"HTTP/1.1 200 Connection established"),
    tunnel_with_length=reply(b"Content-Length: 5\r\n"),
    tunnel_chunked=reply(TE),
    no_tunnel=reply(b"Content-Length: 2\r\n", b"no", b"HTTP/1.1 407 Proxy Authentication Required"),
)
for name, line in {
    "status of two digits": b"HTTP/1.1 20 OK",
    "status of four digits": b"HTTP/1.1 2000 OK",
    "status below 100": b"HTTP/1.1 099 OK",
    "status with sign": b"HTTP/1.1 +20 OK",
    "status of letters": b"HTTP/1.1 2xx OK",
    "status missing": b"HTTP/1.1",
    "two spaces": b"HTTP/1.1  200 OK",
    "tab": b"HTTP/1.1\t200 OK",
    "space before": b" HTTP/1.1 200 OK",
    "empty line before": b"\r\nHTTP/1.1 200 OK",
    "lower case": b"http/1.1 200 OK",
    "icy": b"ICY 200 OK",
    "nul in reason": b"HTTP/1.1 200 O\0K",
    "delete in reason": b"HTTP/1.1 200 O\x7fK",
    "bare lf": b"HTTP/1.1 200 OK\nA: b",
    "bare cr": b"HTTP/1.1 200 OK\rA: b",
    "request": b"GET / HTTP/1.1",
}.items():
    bad("9112-4", **{name: reply(b"Content-Length: 0\r\n", line=line)})
for number in (b"0.9", b"1.2", b"2.0", b"3.0"):
    bad("9112-4", **{f"version {number.decode()}": reply(line=b"HTTP/" + number + b" 200 OK")})
for name, fields in {
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n",
    "two equal lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n",
    "length list": b"Content-Length: 2, 2\r\n",
    "length plus": b"Content-Length: +2\r\n",
    "length hexadecimal": b"Content-Length: 0x2\r\n",
    "length minus": b"Content-Length: -2\r\n",
    "length too large": b"Content-Length: 99999999999999999999\r\n",
    "length and coding": b"Content-Length: 2\r\n" + TE,
    "coding twice": TE + TE,
    "coding list": b"Transfer-Encoding: chunked, chunked\r\n",
    "coding unknown": b"Transfer-Encoding: gzip\r\n",
    "space before colon": b"Content-Length : 2\r\n",
    "folded": b"A: b\r\n c\r\n",
    "bare lf": b"A: b\nContent-Length: 2\r\n",
    "nul": b"A: \0\r\n",
    "name not ascii": b"\xe4: b\r\n",
}.items():
    bad("9112-6.3", **{name: reply(fields, b"hi")})
bad(
    "9112-6.3",
    coding_in_http_10=reply(TE, LAST, b"HTTP/1.0 200 OK"),
    cut_body=reply(b"Content-Length: 5\r\n", b"hi"),
    cut_chunk=reply(TE, b"5\r\nhi"),
    cut_between_chunks=reply(TE, b"2\r\nhi\r\n"),
    cut_head=b"HTTP/1.1 200 OK\r\nA: b\r\n",
    nothing=b"",
    only_informational=reply(line=b"HTTP/1.1 100 Continue"),
    chunk_too_long=reply(TE, b"2\r\nhello\r\n0\r\n\r\n"),
    chunk_bare_lf=reply(TE, b"2\nhi\n0\n\n"),
    trailer_length=reply(TE, b"0\r\nContent-Length: 2\r\n\r\n"),
    unasked_101=reply(b"Upgrade: x\r\nConnection: upgrade\r\n", line=b"HTTP/1.1 101 Switching Protocols"),
    seventeen_informational=reply(line=b"HTTP/1.1 102 Processing") * 17 + reply(b"Content-Length: 0\r\n"),
)
bad("9112-6.3", html=b"<html>hello</html>\r\n\r\n")
bad("9112-6.3", coding_gzip_chunked=reply(b"Transfer-Encoding: gzip, chunked\r\n", LAST))
bad(
    "9112-6.3",
    fields_129=reply(b"A: b\r\n" * 129),
    head_too_long=reply(b"A: " + b"b" * 66000 + b"\r\n"),
    endless_line=b"HTTP/1.1 200 " + b"x" * 66000,
)
