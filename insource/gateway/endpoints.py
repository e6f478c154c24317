"""The endpoints: permit, body, task, decision on record, reply, in this order for every request.

They hold no state; the gateway they serve is found in the application's.
"""

from __future__ import annotations

from time import perf_counter

from starlette.types import Message, Receive, Scope, Send

from insource.backends.reply import MAX_BYTES
from insource.errors import InsourceError, StoreError
from insource.gateway.body import ClientGone, read_body
from insource.gateway.browsers import refuse_pages
from insource.gateway.gateway import Gateway
from insource.gateway.metrics import CONTENT_TYPE
from insource.gateway.recorder import Exchange
from insource.gateway.replying import send_body, send_chosen, send_error
from insource.gateway.wire import JSON, decode, encode, read_completion, read_headers
from insource.types import Request

MEGABYTE = 2**20
LIST_SECONDS = 5.0


class Endpoint:
    """Receives a request within the limits, serves it, and turns what insource raises into the envelope."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        gateway: Gateway = scope["app"].state.gateway
        started = perf_counter()
        request_id = gateway.new_id()
        try:
            with gateway.permits.one():
                request = await self._request(gateway, request_id, scope, receive)
                await self.serve(gateway, request, started, receive, send)
        except ClientGone:
            gateway.metrics.add("insource_refused_total", code="client_gone")
        except InsourceError as error:
            gateway.metrics.add("insource_refused_total", code=error.code)
            headers = [(b"x-insource-request-id", request_id.encode())]
            if error.status == 408:  # after a 413 the rest is read and dropped, else the client may never see the 413
                headers.append((b"connection", b"close"))
            status = 503 if isinstance(error, StoreError) and error.status == 500 else error.status
            await send_error(send, error, headers, status)

    async def serve(self, gateway: Gateway, request: Request, started: float, receive: Receive, send: Send) -> None:
        """Decide, record the decision, then reply; what is raised here is raised before the first byte."""
        stack = gateway.serving.snapshot.find(request)
        with stack.held():
            choice = await stack.chooser.decide(request)
            exchange = Exchange(request, stack.task, stack.upstream, choice, started)
            await gateway.recorder.decided(exchange)
            await send_chosen(gateway, stack, exchange, receive, send)

    def read(self, request_id: str, body: bytes, headers: dict[str, str], path: str, method: str) -> Request:
        """Read what was received: any method, path and body, to be passed on as they are."""
        return Request(request_id, (), headers=_without_task(headers), body=body, path=path, method=method)

    async def _request(self, gateway: Gateway, request_id: str, scope: Scope, receive: Receive) -> Request:
        limits = gateway.config.gateway
        headers = read_headers(scope["headers"])
        refuse_pages(headers)
        body = await read_body(
            receive,
            headers.get("content-length"),
            max_bytes=limits.max_body_mb * MEGABYTE,
            seconds=limits.receipt_s,
        )
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        return self.read(request_id, body, headers, path, scope["method"])


class Completions(Endpoint):
    """`POST /v1/chat/completions`: the one endpoint whose requests may belong to a task."""

    def read(self, request_id: str, body: bytes, headers: dict[str, str], path: str, method: str) -> Request:
        """Read a chat completion; raise RequestError where the body is no JSON object."""
        return read_completion(request_id, body, headers, path)


class Models(Endpoint):
    """`GET /v1/models`: the tasks as "task:NAME", then the upstream's own list where it gives one."""

    async def serve(self, gateway: Gateway, request: Request, started: float, receive: Receive, send: Send) -> None:
        """Ask the upstream, on record like every request that goes up, and put the tasks in front."""
        headers = {name: value for name, value in request.headers.items() if name != "accept-encoding"}
        asked = Request(request.id, (), headers=headers, path=request.path, method="GET")
        sent = _Kept()
        stack = gateway.serving.snapshot.straight
        if stack.upstream is not None:
            await super().serve(gateway, asked, started, receive, sent)
        cards = [
            {"id": f"task:{name}", "object": "model", "created": 0, "owned_by": "insource"}
            for name in gateway.serving.snapshot.stacks
        ]
        body = encode({"object": "list", "data": cards + sent.cards()})
        await send_body(send, 200, body, [JSON, (b"x-insource-request-id", request.id.encode())])


class _Kept:
    """Stands in for the client while the upstream's list is fetched."""

    def __init__(self) -> None:
        self._status = 0
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        self._status = message.get("status", self._status)
        if len(self._body) < MAX_BYTES:
            self._body += message.get("body", b"")

    def cards(self) -> list[object]:
        """Return the upstream's cards; none where it gave no list."""
        if self._status != 200:
            return []
        try:
            data = decode(bytes(self._body))["data"]
        except (ValueError, KeyError, TypeError):
            return []
        return data if isinstance(data, list) else []


async def live(scope: Scope, receive: Receive, send: Send) -> None:
    """`GET /healthz`: the process runs."""
    await send_body(send, 200, b'{"status":"ok"}', [JSON])


async def ready(scope: Scope, receive: Receive, send: Send) -> None:
    """`GET /readyz`: requests are taken; 503 while starting or draining."""
    gateway: Gateway | None = getattr(scope["app"].state, "gateway", None)
    if gateway is None or not gateway.ready:
        await send_body(send, 503, b'{"status":"not ready"}', [JSON])
        return
    await send_body(send, 200, b'{"status":"ready"}', [JSON])


async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
    """`GET /metrics`, in Prometheus's text format."""
    gateway: Gateway = scope["app"].state.gateway
    await send_body(send, 200, gateway.metrics.text(), [(b"content-type", CONTENT_TYPE)])


def _without_task(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "x-insource-task"}
