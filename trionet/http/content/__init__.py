"""What a message sends as its body, whatever it is given as: bytes, text, JSON, a file, an iterator.

`content` says what content is; `iterables` and `files` are its kinds, `text` makes bytes; `make` chooses among them.
"""

from __future__ import annotations

from .content import Chunks, Content
from .files import CHUNK, FileContent
from .iterables import NOTHING
from .make import ABSENT, content_fields, encoded_body, make_content
from .text import as_json_text, as_piece, read_json

__all__ = [
    "ABSENT", "CHUNK", "NOTHING", "Chunks", "Content", "FileContent", "as_json_text", "as_piece", "content_fields",
    "encoded_body", "make_content", "read_json",
]  # fmt: skip
