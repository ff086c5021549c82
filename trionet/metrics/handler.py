"""The handler that answers Prometheus, and the counting in front of a program's own handler.

What a client sends becomes no label: a method that everybody knows, else "other"; the class of the status. So no client
can make up series, which would fill the memory of this process, and that of Prometheus.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from ..http.client.client import HTTPClient
from ..server.arguments import check_handler
from ..server.server import Server
from ..support.checks import check_kind
from .tally import Tally
from .watched import Watched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..http.server.connection import HTTPServerConnection
    from ..http.server.exchange import Exchange

    Handler = Callable[[Exchange], Awaitable[object]]

__all__ = ["MetricsHandler", "metrics_handler"]

_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"))
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


def metrics_handler(*, registry: Any = None) -> MetricsHandler:
    """A handler of exchanges that answers Prometheus: ``serve_http(metrics, 9090, host="127.0.0.1")``.

    Args:
        registry: A `prometheus_client.CollectorRegistry` to which the figures are added, such as
            ``prometheus_client.REGISTRY``, which has those of the process too. By default a new one.

    Raises:
        ImportError: prometheus-client is not installed; it comes with ``trionet[metrics]``.
        ValueError: the registry has figures of these names already.
    """
    return MetricsHandler(registry)


class MetricsHandler:
    """Answers Prometheus with the figures of what it was told to look at. `metrics_handler` makes it.

    It is a handler of exchanges itself: give it a port of its own, or call it from a handler, as
    ``await metrics(exchange)``. All figures begin with ``trionet_``.
    """

    def __init__(self, registry: Any) -> None:
        try:
            import prometheus_client
        except ImportError as exc:
            raise ImportError("metrics need prometheus-client: pip install 'trionet[metrics]'") from exc
        self._registry = prometheus_client.CollectorRegistry() if registry is None else registry
        make = functools.partial(prometheus_client.Counter, registry=self._registry)
        requests = make("trionet_requests", "Requests, by method and class of the status.", ["method", "status"])
        self._requests: dict[tuple[str, str], Any] = {
            (method, status): requests.labels(method, status) for method in (*_METHODS, "other") for status in _CLASSES
        }
        self._seconds = prometheus_client.Histogram(
            "trionet_request_seconds", "From the head of a request to the end of its handler.", registry=self._registry
        )
        self._received = make("trionet_received_bytes", "Bytes received, without TLS.")
        self._sent = make("trionet_sent_bytes", "Bytes sent, without TLS.")
        self._upgrades = make("trionet_upgrades", "Connections upgraded, by what they became.", ["to"])
        self._watched = Watched()
        self._registry.register(self._watched)
        self._encode = prometheus_client.generate_latest
        self._headers = (("Content-Type", prometheus_client.CONTENT_TYPE_LATEST), ("Cache-Control", "no-store"))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer GET and HEAD with all figures, in the text format of Prometheus; other methods with 405.

        Cancellation: as for `Exchange.respond`.
        """
        if exchange.method in ("GET", "HEAD"):
            await exchange.respond(200, self._encode(self._registry), headers=self._headers)
        else:
            await exchange.respond(405, b"", headers=[("Allow", "GET, HEAD")])

    def counting(self, handler: Handler) -> Handler:
        """The same handler, whose requests are counted: give it to `serve_http`, `http_handler`, `serve_unix`.

        Counted are requests, by method and class of the status ("none": the client was gone before there was one), the
        time from the head of a request to the end of its handler, bytes, and upgrades. What stands around this handler
        has to keep its attributes, as `functools.wraps` does.

        Raises:
            TypeError: it is not an async function.
        """
        check_handler(handler)

        @functools.wraps(handler)
        async def counted(exchange: Exchange) -> object:
            return await handler(exchange)

        counted._make_tally = self._tally_of  # type: ignore[attr-defined]  # the loop over exchanges asks for it
        return counted

    def watch(self, thing: Server | HTTPClient, name: str = "") -> None:
        """Show the figures of a server, or of a client and its pool, under this name.

        Args:
            thing: What ``task_status.started`` or `open_http_client` has given. It is kept: its figures go on to be
                shown when it has ended. Another one of the same name takes its place.
            name: Its label, if there are several.

        Raises:
            TypeError: it is neither; or `name` is not a str.
        """
        check_kind("name", name, str, "a str")
        if isinstance(thing, Server):
            self._watched.servers[name] = thing
        else:
            self._watched.clients[name] = check_kind("thing", thing, HTTPClient, "a Server or an HTTPClient")

    # --- what is counted -----------------------------------------------------------------------------------------

    def _tally_of(self, http: HTTPServerConnection) -> Tally:
        return Tally(http, self._count, self._count_bytes, self._count_upgrade)

    def _count(self, method: str, status: int, seconds: float) -> None:
        shown = method if method in _METHODS else "other"
        self._requests[shown, f"{status // 100}xx" if 100 <= status < 600 else "none"].inc()
        self._seconds.observe(seconds)

    def _count_bytes(self, received: int, sent: int) -> None:
        self._received.inc(received)
        self._sent.inc(sent)

    def _count_upgrade(self, to: str) -> None:
        self._upgrades.labels(to).inc()
