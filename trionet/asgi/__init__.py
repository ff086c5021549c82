"""ASGI applications on Trio: Starlette, FastAPI, Litestar, Quart-Trio, and whatever else speaks that interface."""

from .errors import ClientDisconnectedError, LifespanError
from .serve import open_asgi, serve_asgi

__all__ = ["ClientDisconnectedError", "LifespanError", "open_asgi", "serve_asgi"]
