"""What servers and clients count anyway, read when Prometheus asks: it costs nothing between two questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..http.client.client import HTTPClient
    from ..server.server import Server

__all__ = ["Watched"]

_POOL_NOW: Final = {
    "open": "Connections of the client that are open.",
    "idle": "Connections of the client that wait for their next request.",
    "running": "Requests that have a slot of the client's pool.",
    "waiting": "Requests that wait for a slot of the client's pool.",
}
_POOL_EVER: Final = {
    "opened": "Connections that the client has opened.",
    "reused": "Requests that the client has sent on a connection that had carried one before.",
    "retried": "Requests that the client has sent again because the connection had died.",
    "dropped": "Idle connections that the client has closed.",
}


class Watched:
    """A collector of prometheus-client: the figures of these servers and clients, by their names."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.clients: dict[str, HTTPClient] = {}

    def describe(self) -> list[Any]:
        """Nothing: the names stand in what `collect` gives, and are not looked up when this is registered."""
        return []

    def collect(self) -> Iterator[Any]:
        """All figures, as they are now."""
        yield from self._of_servers()
        yield from self._of_clients()

    def _of_servers(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        by_server = ["server"]
        is_open = GaugeMetricFamily("trionet_server_connections_open", "Connections that are open.", labels=by_server)
        drains = GaugeMetricFamily("trionet_server_draining", "1 once a drain has begun.", labels=by_server)
        accepted = CounterMetricFamily("trionet_server_connections", "Connections accepted.", labels=by_server)
        failed = CounterMetricFamily("trionet_server_failures", "Handlers that failed.", labels=by_server)
        pauses = CounterMetricFamily(
            "trionet_server_accept_errors", "Pauses in accepting because the system was exhausted.", labels=by_server
        )
        faults = CounterMetricFamily(
            "trionet_server_peer_faults", "What clients did wrong, by kind.", labels=["server", "kind"]
        )
        ends = CounterMetricFamily("trionet_server_ends", "Connections ended, by reason.", labels=["server", "reason"])
        for name, server in self.servers.items():
            figures = server.statistics()
            is_open.add_metric([name], figures.open)
            drains.add_metric([name], server.draining)
            accepted.add_metric([name], figures.accepted)
            failed.add_metric([name], figures.failed)
            pauses.add_metric([name], figures.accept_errors)
            for kind, count in figures.peer_faults.items():
                faults.add_metric([name, kind], count)
            for reason, count in figures.ends.items():
                ends.add_metric([name, reason], count)
        yield from (is_open, drains, accepted, failed, pauses, faults, ends)

    def _of_clients(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for family, figures in ((GaugeMetricFamily, _POOL_NOW), (CounterMetricFamily, _POOL_EVER)):
            for figure, text in figures.items():
                metric = family(f"trionet_client_{figure}", text, labels=["client"])
                for name, client in self.clients.items():
                    metric.add_metric([name], getattr(client.statistics(), figure))
                yield metric
