"""The errors of fan-outs."""

from __future__ import annotations

import trio

from ..errors import TrionetError

__all__ = ["FanoutClosedError", "FanoutError"]


class FanoutError(TrionetError):
    """A fan-out could not do what it was asked to: the server behind it cannot be reached, or has refused."""


class FanoutClosedError(FanoutError, trio.ClosedResourceError):
    """The block of the fan-out, or of the subscription, has ended."""
