"""What every handle shares: guards, leases, detach, transfer, upgrade, close and abort.

A handle is the right to use one endpoint. Read `handle` first: one class, whose verbs are short. What is hard about
them stands in functions that take the handle (`inner` says what they see of it): `guards` (operations that go wrong),
`detaching`, `upgrading`, `closing`, and the two hands of its machine, `effects` and `refusals`. Beside it stand what it
gives away: `lease`, `detached` (a connection on its way from one handle to the next), `wire` and `recipe` (what a
handshake works on, and what it is), `socket_face` (what a program sees of the socket). `turn` is a lock for protocol
handles that let several tasks send or receive.
"""

from __future__ import annotations

from .handle import Handle
from .lease import Lease
from .socket_face import HandleSocket, PeerCredentials
from .statistics import Statistics

__all__ = ["Handle", "HandleSocket", "Lease", "PeerCredentials", "Statistics"]
