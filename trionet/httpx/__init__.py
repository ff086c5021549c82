"""A transport for HTTPX: ``httpx.AsyncClient(transport=TrionetTransport())`` talks through trionet's connections.

HTTPX makes the requests, follows redirects, keeps cookies and decodes bodies; below that, its transport is one of
trionet's pools. So a request's body is sent while the response is read, a cancelled request leaves no connection behind
that might be used again, and each connection has an owner: the transport, from its first request to its close.
"""

from __future__ import annotations

try:
    import httpx as _httpx  # noqa: F401 - to say what is missing
except ImportError as exc:
    raise ImportError("trionet.httpx needs HTTPX, which is not installed: python -m pip install httpx") from exc

from .transport import TrionetTransport

__all__ = ["TrionetTransport"]
