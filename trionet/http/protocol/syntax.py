"""The grammar that heads, trailers and chunk extensions share, as pieces of patterns (RFC 9110 §5.6.2, §5.5; RFC 9112).

Each rule stands here once, so that two modules cannot come to different opinions of it. All quantifiers are possessive:
no piece gives back what it has matched, so that no input, however hostile, makes a match take more than linear time.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["FIELD", "FIELD_LINES", "REQUEST_LINE", "STATUS_LINE", "TEXT", "TOKEN", "TOKEN_CHARACTERS"]

TOKEN_CHARACTERS: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN: Final = b"[%b]++" % re.escape(TOKEN_CHARACTERS)
TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
"""A field's value, or a reason phrase: no control characters but tabs."""
FIELD: Final = rb"%b:%b" % (TOKEN, TEXT)
"""A field's line without its end; white space around the value is part of it."""
FIELD_LINES: Final = rb"((?:%b\r\n)*+)\r\n" % FIELD
"""Fields, as one group, and the blank line behind them."""
REQUEST_LINE: Final = rb"(%b) ([!-\x22\x24-~]++) HTTP/([0-9])\.([0-9])" % TOKEN
"""Method, target (visible ASCII but ``#``), major and minor version."""
STATUS_LINE: Final = rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: (%b))?+" % TEXT
"""Major and minor version, status, reason phrase."""
