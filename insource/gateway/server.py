"""Running an application on loopback: uvicorn with the deadlines it lacks, stopped cleanly by SIGTERM.

It knows sockets, signals and threads; the gateway's insides stand in `gateway`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

from insource.cascade.match import Matcher
from insource.config import Config
from insource.errors import ConfigError, InsourceError
from insource.gateway.app import create_app
from insource.gateway.gateway import Parts
from insource.gateway.protocol import Protocol, deadlines
from insource.policy.egress import open_upstreams

KEEP_ALIVE_SECONDS = 75


def serve(parts: Parts, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: then take no more, finish what is under way within `drain_s`, and return.

    `announce` gets the lines to print once requests are taken. Raises ConfigError for an address beyond loopback
    or one that is taken, and whatever else keeps the gateway from starting.
    """
    limits = parts.config.gateway
    Matcher(parts.config.tasks.values())  # both raise ConfigError here, before anything listens
    open_upstreams(parts.config)
    app = create_app(parts)
    with listen(limits.host, limits.port) as listening:
        url = _url(listening)
        server = _server(app, limits.drain_s, limits.receipt_s, lambda: _tell(parts.config, url, announce))
        _run(server, app, listening)


def serve_app(app: ASGIApp, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve another application (the scripted upstream) in the same way; `announce` gets its URL."""
    with listen(host, port) as listening:
        url = _url(listening)
        _run(_server(app, 5.0, 30.0, lambda: announce(url)), app, listening)


class ServerThread:
    """An application served on loopback from a thread, for the demo and for tests; `url` says where.

    Leaving the context drains and stops it.
    """

    def __init__(self, app: ASGIApp, *, port: int = 0, drain: float = 5.0, receipt: float = 30.0) -> None:
        self._listening = listen("127.0.0.1", port)
        self._ready = threading.Event()
        self._app = app
        self._failure: InsourceError | None = None
        self._server = _server(app, drain, receipt, self._ready.set)
        self._thread = threading.Thread(target=self._run, name="insource-server", daemon=True)

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return _url(self._listening)

    def __enter__(self) -> Self:
        """Start, and return once requests are taken; raise what kept it from starting."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and return once it has."""
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._listening:
                _run(self._server, self._app, self._listening)
        except InsourceError as error:
            self._failure = error
        finally:
            self._ready.set()


def listen(host: str, port: int) -> socket.socket:
    """Bind to a loopback address; raise ConfigError for any other, or where the port is taken."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"gateway.host is {host!r}; without keys of its own the gateway listens on loopback only. "
            "Use 127.0.0.1, and a proxy with authentication in front if others are to reach it."
        )
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"The address {address}:{port} cannot be used ({error.strerror}). A free port was expected. "
            "Stop what listens there, or set gateway.port."
        ) from error
    return listening


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, and then return; uvicorn's own raises them again, before the ledger is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _server(app: ASGIApp, drain: float, receipt: float, ready: Callable[[], None]) -> _Server:
    http: type[Any] = deadlines(Protocol, receipt)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=http,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain)),
    )
    return _Server(config, ready)


def _run(server: _Server, app: ASGIApp, listening: socket.socket) -> None:
    """Run the server to its end; raise what the application says kept it from starting."""
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner, suppress(SystemExit):
        runner.run(server.serve(sockets=[listening]))
    if not server.started:
        failure = getattr(getattr(app, "state", None), "failure", None)
        raise failure or InsourceError("The server did not start; its log says why.")


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell(config: Config, url: str, announce: Callable[[str], None]) -> None:
    upstream = config.default_upstream
    full = sorted(name for name, task in config.tasks.items() if task.content == "full")
    announce(f"insource listens on {url}/v1 (loopback only)")
    announce(f"upstream: {upstream.name + ', ' + upstream.base_url if upstream else 'none configured'}")
    announce(f"ledger: {config.home}, files readable by you only")
    kept = f'digests only, except for {", ".join(full)} (content = "full")' if full else "digests only, no texts"
    announce(f"content: {kept}; kept for {config.store.retention_days} days")
