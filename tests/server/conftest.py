"""What the tests of servers share."""

from ..helpers.served import serving

__all__ = ["serving"]
