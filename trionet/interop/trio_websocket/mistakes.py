"""The error for what a program may not do: trionet's, and that which programs for trio-websocket catch."""

from __future__ import annotations

import wsproto.utilities

from ...errors import LocalProtocolError as Mistake

__all__ = ["LocalProtocolError"]


class LocalProtocolError(Mistake, wsproto.utilities.LocalProtocolError):
    """This side asked for something that the handshake does not allow. Nothing was sent."""
