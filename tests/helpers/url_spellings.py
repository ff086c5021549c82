"""URLs of odd spelling, and what of each is sent, as data: `docs/url-spellings.md` is written from it.

Each is what stands behind host and port. `AS_GIVEN` arrives as it is spelled, from trionet and from curl. `DIFFERENT`
is what does not: because it may not stand in a URL, or because curl changes it on its way through a redirect.
"""

from __future__ import annotations

from dataclasses import dataclass

REFUSED = None
"""Nothing is sent."""


@dataclass(frozen=True)
class Spelling:
    """One URL that trionet and curl do not treat alike.

    Attributes:
        given: What stands behind host and port.
        sent: The request target that trionet sends, whether the URL is given or comes in a Location field.
        curl: That of ``curl -g --path-as-is``, as the bytes that it sends.
        redirected: That of curl, with ``-L``, when it comes in a Location field.
    """

    given: str
    sent: str
    curl: bytes | None
    redirected: bytes | None


@dataclass(frozen=True)
class Difference:
    """Spellings for which there is one reason."""

    topic: str
    why: str
    spellings: tuple[Spelling, ...]


_SIGNATURE = "eFEj%2Fz1b0%2Bq9U%2F7a%3D"

AS_GIVEN = [
    # signed: an unreserved character that is encoded, or a reserved one that is not, is part of what was signed
    "/b/k%2Fey.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20240101%2Feu-west-1%2Fs3%2Faws4_request",
    f"/b/key?X-Amz-Date=20240101T000000Z&X-Amz-SignedHeaders=host%3Bx-amz-date&X-Amz-Signature={_SIGNATURE}",
    "/b/My%20File%2Cv2.txt?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Expires=900&X-Goog-SignedHeaders=host",
    f"/c/blob?sv=2022-11-02&sr=b&sp=r&st=2024-01-01T00%3A00%3A00Z&spr=https,http&sig={_SIGNATURE}",
    "/d/i.jpg?Policy=eyJTdGF0%7EbWVudCI6W3t9XX0_&Signature=a-b~c_d__&Key-Pair-Id=APKA",
    "/d/i.jpg?Expires=1700000000&OSSAccessKeyId=LTAI&Signature=%2bQ%2f%3d",
    "/oauth?oauth_signature=tR3%2BTy81lMeYAr%2FFid0kMTYa%2FWM%3D&oauth_nonce=%7Eab",
    # percent-encoding stays, in either case of its digits, of any character
    "/%2F", "/%2f", "/a%2Fb%2fc", "/%7e", "/%7E", "/~", "/%41%62", "/%2C%2c,", "/%3F?%3f", "/%23?%23", "/%25?%25",
    "/%252F?%252f", "/%20?%20", "/a%0Ab?%0d%0a", "/%00", "/%c3%a9?%C3%A9", "/%E9?%e9", "/%F0%9f%98%80",
    "/%5B%5D?%5b%5d", "/%2e%2E/a", "/a%3Ab%40c", "/%2B+?%2B+%20", "/%ff%FE", "/%22%3C%3E%5C%5E%60%7B%7C%7D",
    # empty parts
    "", "/", "/?x", "/a??", "/a?b?c", "/a?=", "/a?&&", "/a?&b&", "/a?b=&c", "/a?=b", "/a?b==c", "/a/?b/",
    # slashes
    "//", "//a", "/a//b", "/a//", "///", "//a//?//", "/http://b/c", "/a?http://b//c",
    # dot segments
    "/.", "/..", "/./", "/../", "/a/..", "/a/../b", "/a/./b", "/../../a", "/a/.../b", "/..;/a", "/.a/..b", "/a?b/../c",
    # order, repetition, other separators
    "/a?b=2&a=1&b=1", "/a?b;c=d;e", "/a;b=c;d/e", "/a=b&c", "/a+b?c+d",
    # reserved characters
    "/!$&'()*+,;=:@", "/a?!$&'()*+,;=:@/?", "/a:b", "/@user", "/a@b:c", "/(a)/'b'?('c')", "/*?*",
    # brackets
    "/[a]", "/a?b[]=1&b[]=2", "/a?b[c][d]=e", "/[::1]/?[", "/]?]",
    # fragments are not sent
    "/a#b", "/a?b#c?d", "/a#", "/a#b#c", "/a#b%20c",
    # length
    f"/{'a' * 2000}?{'b=c&' * 500}",
]  # fmt: skip

DIFFERENT = [
    Difference(
        "An empty query, redirected",
        "The `?` is part of the spelling; this curl drops it from a Location.",
        (
            Spelling("/a?", "/a?", b"/a?", b"/a"),
            Spelling("?", "/?", b"/?", b"/"),
            Spelling("/?", "/?", b"/?", b"/"),
            Spelling("/a?#b", "/a?", b"/a?", b"/a"),
        ),
    ),
    Difference(
        "A space",
        "It becomes `%20`, in a query too: `+` means a space in forms alone (RFC 3986 §2.1).",
        (
            Spelling("/a b", "/a%20b", REFUSED, b"/a%20b"),
            Spelling("/a?b c", "/a?b%20c", REFUSED, b"/a?b+c"),
            Spelling("/a b?c%20d", "/a%20b?c%20d", REFUSED, b"/a%20b?c%20d"),
        ),
    ),
    Difference(
        "What is not ASCII",
        "It becomes UTF-8, percent-encoded (RFC 3987 §3.1).",
        (
            Spelling("/é", "/%C3%A9", b"/%c3%a9", b"/%c3%a9"),
            Spelling("/a?é", "/a?%C3%A9", "/a?é".encode(), b"/a?%c3%a9"),
            Spelling("/日?語", "/%E6%97%A5?%E8%AA%9E", "/%e6%97%a5?語".encode(), b"/%e6%97%a5?%e8%aa%9e"),
            Spelling("/😀", "/%F0%9F%98%80", b"/%f0%9f%98%80", b"/%f0%9f%98%80"),
            Spelling("/e\u0301", "/e%CC%81", b"/e%cc%81", b"/e%cc%81"),
            Spelling("/%c3%a9é", "/%c3%a9%C3%A9", b"/%c3%a9%c3%a9", b"/%c3%a9%c3%a9"),
        ),
    ),
    Difference(
        "Characters that are neither reserved nor unreserved",
        "They may not stand in a URL, and are percent-encoded (RFC 3986 §2).",
        (
            Spelling('/"', "/%22", b'/"', b'/"'),
            Spelling("/a?<b>", "/a?%3Cb%3E", b"/a?<b>", b"/a?<b>"),
            Spelling("/a\\b", "/a%5Cb", b"/a\\b", b"/a\\b"),
            Spelling("/a^b?c^d", "/a%5Eb?c%5Ed", b"/a^b?c^d", b"/a^b?c^d"),
            Spelling("/`", "/%60", b"/`", b"/`"),
            Spelling("/{a}?{b}", "/%7Ba%7D?%7Bb%7D", b"/{a}?{b}", b"/{a}?{b}"),
            Spelling("/a?b|c", "/a?b%7Cc", b"/a?b|c", b"/a?b|c"),
        ),
    ),
    Difference(
        "`%` without two hexadecimal digits",
        "It is a percent sign that somebody forgot to encode (RFC 3986 §2.4).",
        (
            Spelling("/100%", "/100%25", b"/100%", b"/100%"),
            Spelling("/a?%zz", "/a?%25zz", b"/a?%zz", b"/a?%zz"),
            Spelling("/%2", "/%252", b"/%2", b"/%2"),
            Spelling("/%%41", "/%25%41", b"/%%41", b"/%%41"),
        ),
    ),
]  # fmt: skip
