"""``trionet connect``: talk to a server by hand, over TCP, TLS, a Unix socket, HTTP or WebSocket.

`command` is what is run. `target` reads the URL; `opening` connects, with `starttls` and `certificate`; `channels` and
`http_channel` make the connection a thing to which items go and from which items come; `lines` has the items from a
person, a pipe or the command line; `screen` shows what comes; `session` lets the two go on at once, to the end.
"""

from .command import connect

__all__ = ["connect"]
