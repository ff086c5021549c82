"""Write the table of all files into HACKING.md: ``python -m docs.write_rooms``.

What a file is for stands in its first line; the rooms come in the order of `[tool.importlinter]`, from the top down.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "HACKING.md"
BEGIN, END = "<!-- files: written by python -m docs.write_rooms -->\n", "<!-- end of files -->\n"


def gist(path: Path) -> str:
    """The first sentence of a module, on one line, as Markdown."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    text = " ".join(doc.partition("\n\n")[0].split())
    return text.replace("``", "`").replace("|", "\\|")


def rooms() -> list[str]:
    """The names at the top of `trionet/`, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [name.strip() for layer in layers for name in layer.split("|")]


def folders(room: Path) -> list[Path]:
    """A room and the rooms inside of it."""
    return [room, *sorted(path.parent for path in room.rglob("*/__init__.py") if path.parent != room)]


def table(folder: Path) -> list[str]:
    """The files of one folder."""
    lines = [f"**`{folder.relative_to(ROOT)}/`** {gist(folder / '__init__.py')}", ""]
    files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    if files:
        lines += ["| file | what is in it |", "| --- | --- |"]
        lines += [f"| `{path.stem}` | {gist(path)} |" for path in files] + [""]
    return lines


def with_files(page: str) -> str:
    """The page with the tables as they are to be."""
    lines = [""]
    for name in rooms():
        room = ROOT / "trionet" / name
        if room.is_dir():
            for folder in folders(room):
                lines += table(folder)
        else:
            lines += [f"**`trionet/{name}.py`** {gist(room.with_suffix('.py'))}", ""]
    text = "\n".join(lines) + "\n"
    return re.sub(f"({re.escape(BEGIN)}).*?(?={re.escape(END)})", lambda found: found[1] + text, page, flags=re.DOTALL)


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_files(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
