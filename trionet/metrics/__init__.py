"""Figures of servers and clients for Prometheus. Nothing of it runs, nor is loaded, in a program that does not ask."""

from __future__ import annotations

from .handler import MetricsHandler, metrics_handler

__all__ = ["MetricsHandler", "metrics_handler"]
