"""The words of the ASGI specification as types, for the signatures of this room (asgi.readthedocs.io)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["Application", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
"""What an application is told about a connection: one HTTP request, one WebSocket, or the process (lifespan)."""

Message: TypeAlias = MutableMapping[str, Any]
"""One event, in either direction; its ``type`` says which."""

Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[object]]
"""An ASGI 3 application: ``async def app(scope, receive, send)``."""
