"""The application: routes, the gateway's lifetime, and the envelope for what no endpoint answers.

No middleware stands between the server and an endpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from insource.errors import InsourceError, RequestError
from insource.gateway.endpoints import Completions, Endpoint, Models, live, metrics, ready
from insource.gateway.gateway import Parts, open_gateway
from insource.gateway.wire import envelope

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(parts: Parts) -> Starlette:
    """Return the gateway as an ASGI application; `app.state.gateway` is set while it lives.

    Where it cannot start, `app.state.failure` says why.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            async with open_gateway(parts) as gateway:
                app.state.gateway = gateway
                yield
        except InsourceError as error:
            app.state.failure = error
            raise

    return Starlette(
        routes=[
            Route("/v1/chat/completions", Completions(), methods=["POST"]),
            Route("/v1/models", Models(), methods=["GET"]),
            Route("/v1/{rest:path}", Endpoint(), methods=_METHODS),
            Route("/healthz", _Plain(live), methods=["GET"]),
            Route("/readyz", _Plain(ready), methods=["GET"]),
            Route("/metrics", _Plain(metrics), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refused, Exception: _broken},
        lifespan=lifespan,
    )


class _Plain:
    """Marks a function as an ASGI application, which Starlette would else take for one that returns a response."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _refused(request: HttpRequest, error: Any) -> Response:
    told = RequestError(
        f"{request.method} {request.url.path[:80]} is not served here ({error.detail}); the API is under /v1/."
    )
    headers = {**(error.headers or {}), "content-type": "application/json"}
    return Response(envelope(told), error.status_code, headers)


async def _broken(request: HttpRequest, error: Exception) -> Response:
    """Answer what was not foreseen; the server logs the trace."""
    told = InsourceError(f"The gateway failed ({type(error).__name__}).")
    return Response(envelope(told), told.status, {"content-type": "application/json"})
