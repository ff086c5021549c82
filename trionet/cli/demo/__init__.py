"""``trionet demo``: shows on this machine what trionet promises, and checks it.

`command` is what is run; `promises` and `steps` say what is promised and try it, against the `line_server`;
`contrasts` are what other libraries do in the same situations;
`performance` carries the steps out and keeps account; `render` shows that to people, `as_json` to programs.
"""

from .command import VERSION, demo

__all__ = ["VERSION", "demo"]
