"""Print the examples into the pages again: ``python -m docs.write_programs``.

On a page a program stands behind a comment that names it, ``<!-- program: examples/chat.py -->``; a test compares them.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def with_programs(text: str) -> str:
    """The page with each program as it is in `examples/`."""

    def program(found: re.Match[str]) -> str:
        return f"{found[1]}```python\n{(ROOT / found[2]).read_text(encoding='utf-8')}```\n"

    return re.sub(r"(<!-- program: (\S+) -->\n)```python\n.*?```\n", program, text, flags=re.DOTALL)


def main() -> None:
    """Write all pages."""
    for page in (ROOT / "docs").glob("*.md"):
        page.write_text(with_programs(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
