"""The application: which endpoint has which path, the gateway's lifetime, and the envelope for what none answers.

It is plain ASGI: no framework and no middleware stand between the server and an endpoint.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from types import SimpleNamespace
from urllib.parse import unquote

from starlette.types import Receive, Scope, Send

from insource.errors import InsourceError, RequestError, StoreError, Unauthorised
from insource.gateway.access import Access, Route, admit, check_routes
from insource.gateway.administration import KEYS, Administration
from insource.gateway.endpoints import Completions, Endpoint, Feedback, Models, Reviews, Tasks, live, metrics, ready
from insource.gateway.gateway import Gateway, open_gateway
from insource.gateway.parts import Parts
from insource.gateway.sending import send_error
from insource.gateway.wire import DIALECTS

API = "/v1/"
OURS = "/v1/insource/"
REVIEWS = OURS + "reviews/"
TASKS = OURS + "tasks"
FEEDBACK = (OURS + "feedback", "/v1/feedback")
"""The second path lies in the upstream's namespace, where other gateways have theirs."""
_DECODINGS = 4
_LOG = logging.getLogger(__name__)


def create_app(parts: Parts) -> Application:
    """Return the gateway as an ASGI application; `app.state.gateway` is set while it lives.

    Where it cannot start, `app.state.failure` says why.
    """
    return Application(parts)


class Application:
    """Dispatches by path and method, and opens and closes the gateway with the server."""

    def __init__(self, parts: Parts) -> None:
        self.state = SimpleNamespace(gateway=None, failure=None)
        self._parts = parts
        self._anything = Route(Endpoint().answer, Access.KEY)
        self._looked_up: Mapping[tuple[str, str], Route] = {
            ("GET", REVIEWS): Route(Reviews().answer, Access.KEY),
            ("GET", TASKS + "/"): Route(Tasks().answer, Access.KEY),
            ("DELETE", KEYS + "/"): Route(Administration().answer, Access.ADMIN),
        }
        self._routes: Mapping[tuple[str, str], Route] = {
            **{("POST", path): Route(Completions(dialect).answer, Access.KEY, dialect)
               for path, dialect in DIALECTS.items()},
            **{("POST", path): Route(Feedback().answer, Access.KEY) for path in FEEDBACK},
            ("GET", TASKS): Route(Tasks().answer, Access.KEY),
            ("GET", KEYS): Route(Administration().answer, Access.ADMIN),
            ("POST", KEYS): Route(Administration().answer, Access.ADMIN),
            ("GET", "/v1/models"): Route(Models().answer, Access.KEY),
            ("GET", "/healthz"): Route(live, Access.PUBLIC),
            ("GET", "/readyz"): Route(ready, Access.PUBLIC),
            ("GET", "/metrics"): Route(metrics, Access.METRICS),
        }  # fmt: skip
        self._taken = frozenset(path for _, path in self._routes)

    @property
    def paths(self) -> tuple[tuple[str, str], ...]:
        """Every method and path with an endpoint of its own; what else lies under /v1/ is relayed."""
        looked_up = (("GET", REVIEWS + "{id}"), ("GET", TASKS + "/{name}"), ("DELETE", KEYS + "/{id}"))
        return (*self._routes, *looked_up, ("*", API + "..."))

    def routes(self) -> Iterable[tuple[str, Route]]:
        """Give every route, with its method and path."""
        for (method, path), route in (*self._routes.items(), *self._looked_up.items()):
            yield f"{method} {path}", route
        yield f"* {API}...", self._anything

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and stop."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway | None = self.state.gateway
        route = self._routes.get((scope["method"], scope["path"])) or self._found(scope)
        dialect = route.dialect if route is not None else "chat"
        try:
            if gateway is None:
                raise InsourceError("The gateway is starting or has stopped; it was asked to serve. Try again.")
            if route is None:
                await send_error(send, _not_here(scope), [], 405 if scope["path"] in self._taken else 404)
                return
            await route.serve(gateway, await admit(gateway, scope, route.access), receive, send)
        except InsourceError as error:
            if gateway is not None:
                gateway.metrics.add("insource_refused_total", code=error.code)
            unavailable = gateway is None or (isinstance(error, StoreError) and error.status == 500)
            await send_error(send, error, _challenge(error), 503 if unavailable else None, dialect)
        except Exception as error:  # what was not foreseen; the trace has our lines and no word of a request
            _LOG.error("a request broke the gateway (%s)", type(error).__name__, exc_info=error)
            await send_error(send, InsourceError(f"The gateway failed ({type(error).__name__})."), [])

    def _found(self, scope: Scope) -> Route | None:
        """Return what serves a path that is no route's in this method: a review, what is passed on, or nothing.

        A route's path in disguise is not passed on: an upstream that sees through it would get a body that nobody here
        has read. Nor is a body to a route's path in another method, or anything under the paths that are ours.
        """
        path: str = scope["path"]
        if path.startswith(OURS) and path not in self._taken:
            above, _, name = path.rpartition("/")
            return self._looked_up.get((scope["method"], above + "/")) if name else None
        if path in self._taken:
            passed = path.startswith(API) and not path.startswith(OURS) and not _has_body(scope)
            return self._anything if passed else None
        plain = _plain(path)
        if not path.startswith(API) or plain in self._taken or (plain + "/").startswith(OURS):
            return None
        return self._anything

    async def _live(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as opened:
            try:
                await receive()
                check_routes(self.routes())
                self.state.gateway = await opened.enter_async_context(open_gateway(self._parts))
            except InsourceError as error:
                self.state.failure = error
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        self.state.gateway = None
        await send({"type": "lifespan.shutdown.complete"})


def _not_here(scope: Scope) -> RequestError:
    return RequestError(f"{scope['method']} {scope['path'][:80]} is not served here; the API is under /v1/.")


def _challenge(error: InsourceError) -> list[tuple[bytes, bytes]]:
    return [(b"www-authenticate", b"Bearer")] if isinstance(error, Unauthorised) else []


def _has_body(scope: Scope) -> bool:
    """Whether a request brings a body, by its headers."""
    told = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
    return told.pop(b"content-length", b"0") != b"0" or bool(told)


def _plain(path: str) -> str:
    """Return a path as a careless server might read it: decoded often, in small letters, without all that is empty."""
    for _ in range(_DECODINGS):
        path = unquote(path)
    path = re.split("[?#]", unicodedata.normalize("NFKC", path).lower(), maxsplit=1)[0]
    parts = (re.split("[;.]", part.strip(), maxsplit=1)[0].strip() for part in re.split(r"[/\\]", path))
    return "/" + "/".join(part for part in parts if part)
