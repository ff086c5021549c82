"""Write the reference out of the docstrings: ``python -m docs.write_reference``.

Plain Markdown, so that it can be read where it is found, on a code host as well as in the built documentation. Every
public name stands there, with its signature, and every member that a program may use. With ``--check`` nothing is
written, and it fails if a page says something other than the code.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import itertools
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "reference"

PAGES: dict[str, tuple[str, str, str]] = {
    "scopes": (
        "Scopes", "trionet",
        "open_scope Scope open_tcp open_unix DrainReport Forced Lost",
    ),
    "handles": (
        "Handles", "trionet",
        "Handle Phase End Reason Blocker Lease Statistics Detached HandleSocket PeerCredentials",
    ),
    "byte-streams": ("Byte streams", "trionet", "Connection pump TLSInfo"),
    "upgrades": (
        "Upgrades", "trionet",
        "to_tls_client to_tls_server to_plaintext to_http_client to_http_server to_connection to_http_tunnel"
        " to_socks5_tunnel to_websocket_client to_websocket_server to_proxied Recipe Wire",
    ),
    "serving": (
        "Serving", "trionet",
        "run serve_http http_handler serve_tcp serve_unix serve sniff Server ServerStatistics Limits ProxyHeader"
        " ProxyTLS",
    ),
    "http-server": (
        "HTTP servers", "trionet",
        "HTTPServerConnection Exchange HTTPException ResponseStream EventStream HTTPLimits Compression"
        " Headers MultiMapping UploadedFile forwarded_request_headers forwarded_response_headers",
    ),
    "http-client": (
        "HTTP clients", "trionet",
        "open_http_client HTTPClient HTTPClientStatistics HTTPClientConnection HTTPRequest Response",
    ),
    "websocket": (
        "WebSocket", "trionet",
        "open_websocket WebSocket Fragments PerMessageDeflate broadcast WebSocketStatistics CloseReason"
        " ConnectionClosed",
    ),
    "errors": (
        "Errors", "trionet",
        "TrionetError HandleBusyError HandleMovedError HandleClosedError HandleBrokenError UpgradeRefusedError"
        " UpgradeFailedError PlaintextInjectionError LocalProtocolError RemoteProtocolError LimitExceededError"
        " ScopeClosedError HTTPClientError HTTPStatusError TooManyRedirectsError BodyNotReplayableError",
    ),
    "asgi": ("trionet.asgi", "trionet.asgi", "serve_asgi open_asgi LifespanError ClientDisconnectedError"),
    "metrics": ("Metrics", "trionet", "metrics_handler MetricsHandler"),
    "fanout": (
        "trionet.fanout", "trionet.fanout",
        "open_fanout MemoryFanout RedisFanout RedisStreamFanout Subscription Message Gap relay"
        " Fanout FanoutError FanoutClosedError",
    ),
    "inspect": ("trionet.inspect", "trionet.inspect", "Timeline Entry Life lives"),
    "httpx": ("trionet.httpx", "trionet.httpx", "TrionetTransport"),
    "interop": (
        "trionet.interop.trio_websocket", "trionet.interop.trio_websocket",
        "open_websocket open_websocket_url connect_websocket connect_websocket_url wrap_client_stream"
        " wrap_server_stream serve_websocket WebSocketConnection WebSocketRequest WebSocketServer to_trio_websocket"
        " TrioWebSocketStream Endpoint CloseReason ConnectionClosed ConnectionRejected ConnectionTimeout"
        " DisconnectionTimeout HandshakeError",
    ),
}  # fmt: skip
"""File name: title, module, names in the order in which one meets them."""

SPECIAL = {
    "__aiter__": "async for ... in", "__iter__": "for ... in", "__contains__": "name in", "__getitem__": "[name]",
    "__len__": "len()",
}  # fmt: skip
"""Methods that a program uses without writing their names, and what it writes; where they have a text of their own."""


# --- what there is -----------------------------------------------------------------------------------------------


def members_of(cls: type) -> list[str]:
    """The members of a public class that a program may use, in the order of the source."""
    found: dict[str, None] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("trionet."):
            for name in [*vars(base), *attribute_docs(base)]:
                if is_shown(base, name):
                    found[name] = None
    return [*found]


def is_shown(cls: type, name: str) -> bool:
    """Whether a member has a public name, or is a special method of a class which says what that does."""
    return not name.startswith("_") or (name in SPECIAL and bool(getattr(vars(cls)[name], "__doc__", None)))


@functools.cache
def attribute_docs(cls: type) -> dict[str, str]:
    """The texts that stand below the attributes of a class, or below those that its ``__init__`` sets."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):
        return {}
    assert isinstance(tree, ast.ClassDef)
    inits = [part.body for part in tree.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    found = {}
    for body in (tree.body, *inits):
        for part, behind in itertools.pairwise(body):
            text = behind.value if isinstance(behind, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                for target in part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]:
                    name = getattr(target, "id", getattr(target, "attr", ""))
                    if name and not name.startswith("_"):
                        found[name] = inspect.cleandoc(text.value)
    return found


# --- docstrings as Markdown --------------------------------------------------------------------------------------

_SECTION = re.compile(r"(Args|Arguments|Attributes|Returns|Raises(?: \([^)]*\))?|Yields):")
_WORD = re.compile(r"(Cancellation|Source|Arguments|Errors|Raises(?: and [A-Za-z ]+)?(?: \([^)]*\))?): ")


def markdown(doc: str) -> str:
    """A docstring in Google's style as Markdown."""
    lines: list[str] = []
    section = False
    for block in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        first, *rest = block.split("\n")
        if _SECTION.fullmatch(first):
            lines += [f"**{first}**", "", *items(textwrap.dedent("\n".join(rest)))]
            section = True
        elif section and first.startswith("    "):
            lines += textwrap.indent(textwrap.dedent(block), "  ").split("\n")
        else:
            section = False
            lines += _WORD.sub(r"**\1:** ", block, count=1).split("\n")
        lines.append("")
    return code("\n".join(lines).rstrip())


def items(text: str) -> list[str]:
    """The entries of a section as a list: each begins at the margin, and goes on indented."""
    lines = []
    for line in text.split("\n"):
        if line.startswith(" "):
            lines.append(f"  {line.strip()}")
        else:
            name, colon, rest = line.partition(": ")
            lines.append(f"- `{name}`: {rest}" if colon and re.fullmatch(r"[\w*., ()|]+", name) else f"- {line}")
    return lines


def code(text: str) -> str:
    """reStructuredText's double back-quotes as Markdown's single ones."""
    return re.sub(r"``((?:[^`\n]|\n(?!\n))+)``", r"`\1`", text)


# --- pages -------------------------------------------------------------------------------------------------------


def signature(name: str, thing: Any) -> str:
    """How it is called; one argument a line where it is long."""
    try:
        text = str(bare(inspect.signature(thing)))
    except (TypeError, ValueError):
        return name
    text = re.sub(r"HTTPLimits\([^)]*\)", "HTTPLimits()", text)
    text = re.sub(r"<function (\w+)[^>]*>", r"\1", text)
    text = re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", text)  # of an enumeration
    prefix = "async " if inspect.iscoroutinefunction(inspect.unwrap(thing)) else ""
    whole = f"{prefix}{name}{text}"
    if len(whole) <= 100:
        return whole
    inside, _, returns = text[1:].rpartition(")")
    return f"{prefix}{name}(\n" + "".join(f"    {part},\n" for part in split(inside)) + f"){returns}"


class Bare(str):
    """An annotation that is shown as it is written: a signature has it as a str, and would quote it."""

    __slots__ = ()
    __repr__ = str.__str__


def bare(signature: inspect.Signature) -> inspect.Signature:
    """The same without quotes around its annotations, and without private arguments; defaults keep their quotes."""

    def shown(annotation: Any) -> Any:
        return Bare(annotation) if isinstance(annotation, str) else annotation

    parts = [part for part in signature.parameters.values() if not part.name.startswith("_")]
    parameters = [part.replace(annotation=shown(part.annotation)) for part in parts]
    return signature.replace(parameters=parameters, return_annotation=shown(signature.return_annotation))


def split(arguments: str) -> list[str]:
    """Arguments at their commas, but not those inside of brackets."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def entry(name: str, thing: Any) -> list[str]:
    """One public name."""
    lines = [f"## {name}", ""]
    if not inspect.isclass(thing):
        return [*lines, "```python", signature(name, thing), "```", "", markdown(inspect.getdoc(thing) or ""), ""]
    public = "Args:" in (thing.__doc__ or "") or dataclasses.is_dataclass(thing)
    if public and not issubclass(thing, enum.Enum):
        lines += ["```python", signature(name, thing).replace(" -> None", ""), "```", ""]
    bases = [base.__name__ for base in thing.__bases__ if base is not object and not base.__name__.startswith("_")]
    if issubclass(thing, BaseException):
        lines += [f"Also: {', '.join(f'`{base}`' for base in bases)}.", ""]
    lines += [markdown(thing.__doc__ or ""), ""]
    return [*lines, *members(thing)]


def members(cls: type) -> list[str]:
    """The members of a class: those of every handle only by name."""
    import trionet

    lines = []
    texts = {name: text for base in reversed(cls.__mro__) for name, text in attribute_docs(base).items()}
    common = next(
        (base for base in (trionet.Handle, trionet.TrionetError) if issubclass(cls, base) and cls is not base), None
    )
    everywhere = set() if common is None else set(members_of(common))
    shared = []
    for name in members_of(cls):
        own = next((base for base in cls.__mro__ if name in vars(base) or name in attribute_docs(base)), cls)
        if name in everywhere and own in common.__mro__:
            shared.append(name)
            continue
        lines += member(name, inspect.getattr_static(cls, name, None), texts.get(name))
    if shared and common is trionet.Handle:
        listed = ", ".join(f"`{name}`" for name in sorted(shared))
        lines += ["", f"And what [every handle](handles.md#handle) has: {listed}.", ""]
    return lines


def member(name: str, thing: Any, text: str | None) -> list[str]:
    """One member of a class."""
    if isinstance(thing, (staticmethod, classmethod)):
        thing = thing.__func__
    if isinstance(thing, property):
        doc, shown = inspect.getdoc(thing.fget) or "", name
    elif inspect.isfunction(thing) or hasattr(thing, "__wrapped__"):
        doc, shown = inspect.getdoc(thing) or "", re.sub(r"\((self|cls)(, )?", "(", signature(name, thing), count=1)
        shown = re.sub(r"\(\n    (self|cls),\n", "(\n", shown)
    elif text is None:
        return []  # it is described in the text of the class
    else:
        doc, shown = text, name
    if name in SPECIAL:
        return [f"### {SPECIAL[name]}", "", markdown(doc), ""]
    head = [f"### {name}", ""]
    if shown != name:
        head += ["```python", shown, "```", ""]
    return [*head, markdown(doc), ""]


def pages() -> dict[str, str]:
    """The text of every page, by file name."""
    found, listed = {}, {}
    for name, (title, module, names) in PAGES.items():
        home = importlib.import_module(module)
        lines = [f"# {title}", "", f"Names of the module `{module}`. Written by `python -m docs.write_reference`.", ""]
        for public in names.split():
            lines += entry(public, getattr(home, public))
        listed[name] = (title, names)
        found[f"{name}.md"] = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"
    return {"index.md": index(listed), **found}


def index(listed: dict[str, tuple[str, str]]) -> str:
    """The first page: every name, by the page where it stands."""
    lines = [
        "# Reference",
        "",
        "Written by `python -m docs.write_reference` out of the docstrings.",
        "",
        "| page | names |",
    ]
    lines += ["| --- | --- |"]
    for page, (title, names) in listed.items():
        words = ", ".join(f"`{name}`" for name in names.split())
        lines.append(f"| [{title}]({page}.md) | {words} |")
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", "", *listed, "```", ""])


def main() -> int:
    """Write all of them; with ``--check``, say which differ from the code."""
    status = 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = FOLDER / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} differs from the docstrings: run python -m docs.write_reference", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
