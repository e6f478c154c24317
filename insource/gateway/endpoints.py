"""The endpoints: permit, body, task, sensitivity, decision on record, reply, in this order for every request.

They hold no state; the gateway that they serve is handed to them.
"""

from __future__ import annotations

from time import perf_counter
from urllib.parse import unquote

from starlette.types import Message, Receive, Scope, Send

from insource.backends.reply import MAX_BYTES
from insource.errors import InsourceError, OutOfScope, RequestError, StoreError, UnknownTask
from insource.gateway.access import KEY
from insource.gateway.body import ClientGone, read_body, unless_gone
from insource.gateway.embedding import answer_here
from insource.gateway.feedback import take_feedback
from insource.gateway.gateway import Gateway
from insource.gateway.generation import Generation
from insource.gateway.metrics import CONTENT_TYPE
from insource.gateway.protocol import EXTENSION, Connection
from insource.gateway.recorder import Exchange
from insource.gateway.replying import send_chosen
from insource.gateway.sending import Client, send_body, send_error
from insource.gateway.wire import JSON, decode, encode, read, read_headers
from insource.types import Key, Request

MEGABYTE = 2**20


def check_scope(key: Key | None, task: str | None) -> None:
    """Raise OutOfScope where a key does not allow requests of a task, or of none."""
    if key is not None and not key.may_ask(task):
        raise OutOfScope("The request's key does not allow requests of this kind; one that does was expected.")


class Endpoint:
    """Receives a request within the limits, serves it, and turns what insource raises into the envelope."""

    dialect = "other"

    async def answer(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = perf_counter()
        request_id = gateway.new_id()
        try:
            gateway.permits.check()
            connection = (scope.get("extensions") or {}).get(EXTENSION) or Connection()
            request = await self._request(gateway, request_id, scope, receive, connection)
            with gateway.permits:  # only now: a body that trickles in keeps nobody else's permit
                async with gateway.admitted(request.key):
                    await self.serve(gateway, request, Client(connection, send, started))
        except ClientGone:
            gateway.metrics.add("insource_refused_total", code="client_gone")
        except InsourceError as error:
            gateway.metrics.add("insource_refused_total", code=error.code)
            headers = [(b"x-insource-request-id", request_id.encode())]
            if error.status == 408:  # after a 413 the rest is read and dropped, else the client may never see the 413
                headers.append((b"connection", b"close"))
            status = 503 if isinstance(error, StoreError) and error.status == 500 else error.status
            await send_error(send, error, headers, status, self.dialect)

    async def serve(self, gateway: Gateway, request: Request, client: Client) -> None:
        """Decide, record the decision, then reply; what is raised here is raised before the first byte."""
        generation, token = gateway.generation, gateway.spans.begin(request, client.started)
        try:
            stack = generation.serving.snapshot.find(request)
            check_scope(request.key, stack.task.name if stack.task is not None else None)
            with stack:
                request = await generation.rated(request, stack.task)
                deciding = stack.chooser.decide(request)
                if stack.asks_house:  # which costs: nobody is to be asked for a client that has left
                    deciding = unless_gone(client.connection, deciding)
                choice = await deciding
                taken = await gateway.reserve(generation.config, request, stack.task, choice)
                exchange = Exchange(request, stack.task, generation.config.upstreams, choice, client.started, token,
                                    taken)  # fmt: skip
                await gateway.recorder.decided(exchange)
                await send_chosen(gateway, stack, exchange, client)
        except BaseException as error:
            gateway.spans.end(token, error=error if isinstance(error, InsourceError) else None)
            raise

    def read(self, request_id: str, body: bytes, headers: dict[str, str], path: str, method: str) -> Request:
        """Read what was received: any method, path and body, to be passed on as they are."""
        headers.pop("x-insource-task", None)  # what nobody reads can belong to no task
        return Request(request_id, (), headers=headers, body=body, path=path, method=method, dialect=self.dialect)

    async def _request(
        self, gateway: Gateway, request_id: str, scope: Scope, receive: Receive, connection: Connection
    ) -> Request:
        limits = gateway.generation.config.gateway
        headers = read_headers(scope["headers"])
        body = await read_body(
            receive,
            connection,
            headers.get("content-length"),
            max_bytes=limits.max_body_mb * MEGABYTE,
            seconds=limits.receipt_s,
        )
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        request = self.read(request_id, body, headers, path, scope["method"])
        key: Key | None = scope[KEY]  # it has passed the door, or there is none
        return request if key is None else request.judged(request.sensitivity, key)


class Completions(Endpoint):
    """`POST` in one of the dialects that are read: a request that may belong to a task, or be embedded here."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect

    async def serve(self, gateway: Gateway, request: Request, client: Client) -> None:
        """Embed here what is ours to embed; decide about all else."""
        if request.model in gateway.generation.embedders and self.dialect == "embeddings":
            check_scope(request.key, None)
        if self.dialect == "embeddings" and await answer_here(gateway, request, client):
            return
        await super().serve(gateway, request, client)

    def read(self, request_id: str, body: bytes, headers: dict[str, str], path: str, method: str) -> Request:
        """Read a body of the dialect; raise RequestError where it is no JSON object."""
        return read(self.dialect, request_id, body, headers, path)


class Models(Endpoint):
    """`GET /v1/models`: the tasks as "task:NAME" and what is embedded here, then the upstream's own list."""

    async def serve(self, gateway: Gateway, request: Request, client: Client) -> None:
        """Ask the upstream, on record like every request that goes up, and put our own in front."""
        headers = {name: value for name, value in request.headers.items() if name != "accept-encoding"}
        asked = Request(
            request.id, (), headers=headers, path=request.path, method="GET", dialect="other", key=request.key
        )
        sent, generation = _Kept(), gateway.generation
        if generation.config.gateway.default_upstreams and (request.key is None or request.key.may_ask(None)):
            await super().serve(gateway, asked, Client(client.connection, sent, client.started))
        body = encode({"object": "list", "data": _own_cards(generation, request.key) + sent.cards()})
        await send_body(client.send, 200, body, [JSON, (b"x-insource-request-id", request.id.encode())])


class Reviews(Endpoint):
    """`GET /v1/insource/reviews/ID`: what became of a request that was kept for a person; never its text."""

    async def serve(self, gateway: Gateway, request: Request, client: Client) -> None:
        """Look the review up."""
        asked = unquote(request.path.partition("?")[0]).rpartition("/")[2]
        found = await gateway.review(asked, request.key)
        if found is None:
            raise RequestError(f"No request {asked[:60]!r} waits for review; an id from a reply was expected.")
        await send_body(client.send, 200, encode(found), [JSON])


class Tasks(Endpoint):
    """`GET /v1/insource/tasks` and `.../tasks/NAME`: stage, versions, share, suspension and proposal."""

    async def serve(self, gateway: Gateway, request: Request, client: Client) -> None:
        """Ask the registry."""
        name = unquote(request.path.partition("?")[0]).partition("/tasks")[2].strip("/")
        found = await gateway.tasks(name or None, request.key)
        if name and not found:
            raise UnknownTask(f"There is no task {name[:80]!r} here; GET /v1/insource/tasks lists those there are.")
        told = found[0] if name else {"object": "list", "data": found}
        await send_body(client.send, 200, encode(told), [JSON])


class Feedback(Endpoint):
    """`POST /v1/insource/feedback`: what a person says was the right answer to a request."""

    async def serve(self, gateway: Gateway, request: Request, client: Client) -> None:
        """Check it against the request's decision and task, and record it."""
        told = await take_feedback(gateway, request.body, request.key)
        await send_body(client.send, 200, encode(told), [JSON])


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


def _own_cards(generation: Generation, key: Key | None) -> list[object]:
    names = [f"task:{name}" for name in generation.serving.snapshot.stacks if key is None or key.may_ask(name)]
    names += sorted(generation.embedders) if key is None or key.may_ask(None) else ()
    return [{"id": name, "object": "model", "created": 0, "owned_by": "insource"} for name in names]


async def live(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """`GET /healthz`: the process runs."""
    await send_body(send, 200, b'{"status":"ok"}', [JSON])


async def ready(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """`GET /readyz`: requests are taken; 503 while starting or draining."""
    if not gateway.ready:
        await send_body(send, 503, b'{"status":"not ready"}', [JSON])
        return
    await send_body(send, 200, b'{"status":"ready"}', [JSON])


async def metrics(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """`GET /metrics`, in Prometheus's text format."""
    await gateway.count_reviews()
    gateway.observe()
    await send_body(send, 200, gateway.metrics.text(), [(b"content-type", CONTENT_TYPE)])
