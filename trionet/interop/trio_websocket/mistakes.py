"""The error for what a program may not do: trionet's, and that which programs for trio-websocket catch."""

from __future__ import annotations

import wsproto.utilities

from ...errors import LocalProtocolError

__all__ = ["NotAllowedError"]


class NotAllowedError(LocalProtocolError, wsproto.utilities.LocalProtocolError):
    """This side asked for something that the handshake does not allow. Nothing was sent."""
