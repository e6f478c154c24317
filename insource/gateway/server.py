"""Running an application on loopback: uvicorn with the deadlines it lacks, stopped cleanly by SIGTERM.

It knows sockets, signals and threads; the gateway's insides stand in `gateway`.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

from insource.errors import InsourceError
from insource.gateway.listening import listen, url_of
from insource.gateway.protocol import Protocol, deadlines

KEEP_ALIVE_SECONDS = 75
TICK_SECONDS = 0.01
_LAST = [(b"connection", b"close")]


def serve_app(app: ASGIApp, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve another application (the scripted upstream) in the same way; `announce` gets its URL."""
    with listen(host, port) as listening:
        url = url_of(listening)
        _run(make_server(app, 5.0, 30.0, lambda: announce(url)), app, listening)


class ServerThread:
    """An application served on loopback from a thread, for the demo and for tests; `url` says where.

    Leaving the context drains and stops it.
    """

    def __init__(self, app: ASGIApp, *, port: int = 0, drain: float = 5.0, receipt: float = 30.0) -> None:
        self._listening = listen("127.0.0.1", port)
        self._ready = threading.Event()
        self._app = app
        self._failure: InsourceError | None = None
        self._server = make_server(app, drain, receipt, self._ready.set)
        self._thread = threading.Thread(target=self._run, name="insource-server", daemon=True)

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return url_of(self._listening)

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


class Server(uvicorn.Server):
    """uvicorn's server, which tells when it is ready. `signals` says whether SIGTERM and SIGINT stop it.

    uvicorn closes idle connections the moment it stops, and with them those that bring a request just then. This one
    serves for `farewell` seconds more what arrives on connections that stand, and says in each reply that it is the
    last one there.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], signals: bool, farewell: float = 0.0) -> None:
        super().__init__(config)
        self._tell_ready = ready
        self._signals = signals
        self._farewell = farewell

    def set_limits(self, drain: float, receipt: float) -> None:
        """Take other deadlines, in seconds: from the next stop, and from the next request's headers on."""
        self.config.timeout_graceful_shutdown = _whole(drain)
        protocol: Any = self.config.http_protocol_class
        protocol.receipt_seconds = receipt

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        if self.started:
            self._tell_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, say farewell on those that stand, then stop; all of it within the deadline."""
        loop, drain = asyncio.get_running_loop(), self.config.timeout_graceful_shutdown or 0
        began = loop.time()
        for server in self.servers:
            server.close()
        self.server_state.default_headers = _LAST
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is not None:
                cycle.default_headers = _LAST  # where its reply has not begun yet
        until = began + min(self._farewell, drain)
        while loop.time() < until and self.server_state.connections and not self.force_exit:
            await asyncio.sleep(TICK_SECONDS)
        limits: Any = self.config
        limits.timeout_graceful_shutdown = max(0.0, drain - (loop.time() - began))  # any number does, it waits for it
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, and then return; uvicorn's own raises them again, before the ledger is closed."""
        if not self._signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Config(uvicorn.Config):
    """uvicorn's, with a context of our making."""

    context: ssl.SSLContext | None = None

    def load(self) -> None:
        """Load it all, and have connections served with the context."""
        super().load()
        self.ssl = self.context


def make_server(
    app: ASGIApp,
    drain: float,
    receipt: float,
    ready: Callable[[], None],
    *,
    signals: bool = True,
    farewell: float = 0.0,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Return a server that tells `ready` when it takes requests, over TLS where `tls` is given; times in seconds."""
    http: type[Any] = deadlines(Protocol, receipt)
    config = _Config(
        app,
        loop="uvloop",
        http=http,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_whole(drain),
    )
    config.context = tls
    return Server(config, ready, signals, farewell)


def _whole(drain: float) -> int:
    return max(1, round(drain))


def _run(server: Server, app: ASGIApp, listening: socket.socket) -> None:
    """Run the server to its end; raise what the application says kept it from starting."""
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner, suppress(SystemExit):
        runner.run(server.serve(sockets=[listening]))
    if not server.started:
        failure = getattr(getattr(app, "state", None), "failure", None)
        raise failure or InsourceError("The server did not start; its log says why.")
