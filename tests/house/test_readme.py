"""The programs and the commands in README.md work."""

import re
from pathlib import Path

import pytest

from trionet.asgi.serve import check_application

ROOT = Path(__file__).parents[2]


def marked(marker: str) -> str:
    """The fenced block that stands behind this comment in README.md."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found, f"README.md has no block marked {marker!r}"
    return found[1]


def test_the_first_program_runs_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(marked("tested: first program"), "README.md", "exec"), {"__name__": "__main__"})
    switched, reply, end = capsys.readouterr().out.splitlines()
    assert switched == "b'OK switching\\r\\n'"
    assert reply == "you said: hi"
    assert "UPGRADED" in end


def test_the_http_program_runs_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(marked("tested: http program"), "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "200 b'ping'\n"


def test_the_asgi_program_is_an_application() -> None:
    names: dict[str, object] = {"__name__": "main"}
    exec(compile(marked("tested: asgi program"), "README.md", "exec"), names)
    check_application(names["app"])


@pytest.mark.parametrize("name", ["demo", "test"])
def test_each_command_for_ci_is_one_line(name: str) -> None:
    command = marked(f"ci: {name}")
    assert command.startswith("python -m pip install ")
    assert command.count("\n") == 1
