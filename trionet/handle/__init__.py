"""What every handle shares: guards, leases, detach, transfer, upgrade, close and abort.

A handle is the right to use one endpoint. It is built up in layers, each of which adds one idea; read them in this
order: `core` (state, questions, the effects of the machine), `operations` and `lease` (what is in progress),
`changes` (of the owner) and `closing`; `socket_face` is what a program sees of the socket. Protocol handles
(`Connection`, `WebSocket`) derive from `Handle` and add their operations.
"""

from __future__ import annotations

from .closing import Closing
from .core import Statistics
from .lease import Lease
from .socket_face import HandleSocket, PeerCredentials

__all__ = ["Handle", "HandleSocket", "Lease", "PeerCredentials", "Statistics"]


class Handle(Closing):
    """The right to use one endpoint: what all handles have in common.

    Derive from it for a protocol of your own, and make it in the ``commit()`` of a `Recipe`.

    Args:
        capsule: The connection, as `Wire.detach` or `Handle.detach` gives it.
    """

    __slots__ = ()
