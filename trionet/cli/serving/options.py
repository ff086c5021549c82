"""The options of ``trionet serve`` and ``trionet asgi``, in groups, as cyclopts reads them.

Their names are uvicorn's where it has them, so that a Procfile needs one word changed. `Foreign` are those that mean
nothing here: they are ignored or refused, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

__all__ = [
    "ASGI",
    "Application",
    "Certificate",
    "Foreign",
    "Lifetime",
    "Logs",
    "Reload",
    "Where",
]

_FLAG = Parameter(negative="")
_MANY = Parameter(negative=())


def _lines(_type: Any, value: str, delimiter: str | None = None) -> list[str]:
    """What a variable has where its values have spaces of their own: one a line."""
    return value.splitlines()


def _help(text: str) -> Parameter:
    return Parameter(help=text)


@Parameter(name="*", group=Group("Where it listens", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class Where:
    """Where it listens."""

    host: Annotated[
        tuple[str, ...], _MANY, _help("Name or address to listen on; may be given several times. '' is every address.")
    ] = ("127.0.0.1",)
    port: Annotated[int, _help("TCP port; 0: one that is free.")] = 8000
    uds: Annotated[Path | None, _help("Listen on this Unix socket instead (mode 0666).")] = None
    fd: Annotated[int | None, _help("Listen on this descriptor, which is inherited.")] = None
    proxy_protocol: Annotated[
        str | None,
        _help("Proxies that name their clients by the PROXY protocol, as --forwarded-allow-ips; nobody else comes in."),
    ] = None
    backlog: Annotated[int | None, _help("Connections that may wait; the system's maximum by default.")] = None


@Parameter(name="*", group=Group("What it serves", sort_key=0))
@dataclass(frozen=True, kw_only=True)
class Application:
    """What it serves."""

    factory: Annotated[bool, _FLAG, _help("The name is a function that makes what is to be served.")] = False
    app_dir: Annotated[Path | None, _help("Folder to look into first; the working directory by default.")] = None
    env_file: Annotated[Path | None, _help("Read environment variables from this file; it overrides none.")] = None
    config: Annotated[Path | None, _help("Read options from this TOML file: port = 8000.")] = None


@Parameter(name="*", group=Group("While developing", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class Reload:
    """While developing."""

    reload: Annotated[bool, _FLAG, _help("Start anew whenever a file changes.")] = False
    reload_dir: Annotated[tuple[Path, ...], _MANY, _help("Folders to watch; the working directory by default.")] = ()
    reload_include: Annotated[tuple[str, ...], _MANY, _help("Patterns of files to watch, besides *.py.")] = ()
    reload_exclude: Annotated[
        tuple[str, ...], _MANY, _help("Patterns of files and folders to leave out, besides .*, .py[cod], .sw.* and ~*.")
    ] = ()
    reload_delay: Annotated[float, _help("Seconds in which several changes count as one.")] = 0.25


@Parameter(name="*", group=Group("TLS", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class Certificate:
    """TLS."""

    ssl_certfile: Annotated[Path | None, _help("Certificate chain (PEM).")] = None
    ssl_keyfile: Annotated[Path | None, _help("Key (PEM); by default it stands in the certificate's file.")] = None
    ssl_keyfile_password: Annotated[str | None, _help("Password of the key.")] = None
    ssl_version: Annotated[int, _help("17 (PROTOCOL_TLS_SERVER): the highest that both sides speak.")] = 17
    ssl_cert_reqs: Annotated[int, _help("Certificates of clients: 0 none, 1 optional, 2 required.")] = 0
    ssl_ca_certs: Annotated[Path | None, _help("Authorities of clients' certificates (PEM).")] = None
    ssl_ciphers: Annotated[str | None, _help("Ciphers of TLS 1.2, in OpenSSL's form.")] = None


@Parameter(name="*", group=Group("How long, how many", sort_key=4))
@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """How long, how many."""

    limit_connections: Annotated[int | None, _help("Connections served at once; further ones wait.")] = None
    limit_connections_per_address: Annotated[
        int | None, _help("Connections of one client's address at once; further ones are closed.")
    ] = None
    limit_min_rate: Annotated[
        float, _help("Bytes per second that a request has to come at, over 5 s; 0: however slowly.")
    ] = 0.0
    limit_concurrency: Annotated[int | None, _help("Requests answered at once; further ones get a 503.")] = None
    limit_max_requests: Annotated[int | None, _help("End, gracefully, after so many requests.")] = None
    limit_max_requests_jitter: Annotated[int, _help("Up to so many requests more, by chance.")] = 0
    timeout_keep_alive: Annotated[float, _help("Seconds that a connection may wait for its next request.")] = 75.0
    timeout_graceful_shutdown: Annotated[float, _help("Seconds for what is under way at the end.")] = 30.0
    h11_max_incomplete_event_size: Annotated[int | None, _help("Bytes of a request's head; 65,536 by default.")] = None
    health_path: Annotated[str | None, _help("Answer GETs of this path with 200; 503 once the end has begun.")] = None
    pid_file: Annotated[Path | None, _help("Write the process's number to this file.")] = None
    workers: Annotated[int | None, _help("More than one process: not yet.")] = None

    def head_limits(self) -> dict[str, Any]:
        """Keyword arguments for `HTTPLimits`."""
        limits: dict[str, Any] = {
            "idle_timeout": self.timeout_keep_alive,
            "min_receive_rate": self.limit_min_rate,
        }
        if self.h11_max_incomplete_event_size is not None:
            limits["max_head"] = self.h11_max_incomplete_event_size
        return limits


@Parameter(name="*", group=Group("Logs", sort_key=6))
@dataclass(frozen=True, kw_only=True)
class Logs:
    """Logs."""

    access_log: Annotated[bool, _help("Log each request, on stdout.")] = True
    access_log_query: Annotated[bool, _help("With the query of its target.")] = True
    access_log_format: Annotated[Literal["uvicorn", "json"], _help("A line for people, or a JSON object.")] = "uvicorn"
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug", "trace"] | None,
        _help("Of what is logged on stderr; info, or what --log-config says."),
    ] = None
    log_config: Annotated[Path | None, _help("Set up logging from this file: .json, .yaml or .ini.")] = None
    use_colors: Annotated[bool | None, _help("Colours; by default on a terminal.")] = None


@Parameter(name="*", group=Group("ASGI", sort_key=7))
@dataclass(frozen=True, kw_only=True)
class ASGI:
    """What only ASGI applications need."""

    lifespan: Annotated[Literal["auto", "on", "off"], _help("Tell the application of its start and end.")] = "auto"
    root_path: Annotated[str, _help("Path that the application is mounted below.")] = ""
    proxy_headers: Annotated[bool, _help("Believe X-Forwarded-For and -Proto of trusted peers.")] = True
    forwarded_allow_ips: Annotated[
        str | None, _help("Trusted peers: addresses, networks, unix:; '*' is everybody. 127.0.0.1,::1 by default.")
    ] = None
    forwarded_headers: Annotated[
        str | None, _help("The fields to believe, with commas between, in place of X-Forwarded-For and -Proto.")
    ] = None
    header: Annotated[
        tuple[str, ...],
        Parameter(negative=(), env_var_split=_lines),
        _help("A field for every response, as Name:Value; in the environment one a line."),
    ] = ()
    server_header: Annotated[bool, _help("Send 'server: trionet'.")] = True
    date_header: Annotated[bool, _help("Send the date.")] = True
    ws_max_size: Annotated[int, _help("Bytes of a WebSocket message.")] = 2**20
    ws_ping_interval: Annotated[float | None, _help("Seconds between pings.")] = 20.0
    ws_ping_timeout: Annotated[float | None, _help("Seconds for their pongs.")] = 20.0
    ws_drain_code: Annotated[
        Literal["1001", "1012"], _help("Code that closes WebSockets at the end: going away, or service restart.")
    ] = "1001"
    ws_per_message_deflate: Annotated[Literal["true", "false"], _help("Compress WebSocket messages.")] = "true"


@Parameter(name="*", show=False)
@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Options of uvicorn that choose between parts which trionet does not have."""

    loop: str | None = None
    http: str | None = None
    ws: str | None = None
    interface: str | None = None
    http2: Annotated[bool, _FLAG] = False
    ws_max_queue: int | None = None
    timeout_worker_healthcheck: int | None = None
    reset_contextvars: Annotated[bool, _FLAG] = False
