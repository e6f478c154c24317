from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import aiohttp
import pytest

from insource.answers import AnswerSpace
from insource.backends.scripted import Scripted, scripted_app
from insource.config import Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.gateway.app import create_app
from insource.gateway.gateway import Parts
from insource.gateway.server import ServerThread
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Calibration, Match, Task

SYSTEM = "Say yes or no."
TASK = Task("triage", match=Match(system_prompts=(SYSTEM,)), audit_rate=0.0)
ANSWERS = {"sure": "yes", "unsure": "no", "wrong": "no"}
SCORES = {"sure": 0.9, "unsure": 0.2, "wrong": 0.8}
REFERENCES = {"sure": "yes", "unsure": "yes", "wrong": "yes", "hello": "Hi, how can I help?"}
CALIBRATION = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)


class Specialist(Scripted):
    """The shipped double with a closed set of answers, as the gateway needs it."""

    def __init__(self, version, answers=ANSWERS):
        def score(request, _):
            return SCORES.get(request.messages[-1].content)

        super().__init__(answers, score=score, name=version.name)
        self.answers = AnswerSpace("label", ("yes", "no"), ("yes", "no"))


class RawUpstream:
    """An upstream of bytes: keeps what it received and sends the chunks it was told, waiting where told to."""

    def __init__(self):
        self.received = []
        self.status, self.headers, self.chunks = 200, [(b"content-type", b"application/json")], [b"{}"]
        self.gate = None
        self.left = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.received.append(SimpleNamespace(method=scope["method"], path=path, headers=scope["headers"], body=body))
        if self.gate is not None and await self.gate(receive):
            self.left.append(body)
            return
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for chunk in self.chunks:
            if callable(chunk):
                if await chunk(receive):
                    self.left.append(body)
                    return
                continue
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class House:
    """A gateway with everything around it, on loopback and in one folder."""

    def __init__(self, home, stack):
        self.home, self.stack = home, stack
        self.raw = RawUpstream()
        self.opened = []
        self.broken = {}
        self.answers = ANSWERS
        self.registry = stack.enter_context(Registry.open(home))

    def register(self, task="triage", calibration=CALIBRATION, digest="d" * 64):
        return self.registry.register(task, "linear", digest, calibration, {}, datetime.now(UTC))

    def promote(self, version):
        return self.registry.promote(version.task, version.version, "tester", "test", datetime.now(UTC))

    def open_specialist(self, version):
        if version.version in self.broken:
            raise self.broken[version.version]
        specialist = Specialist(version, self.answers)
        self.opened.append(specialist)
        return specialist

    def start(
        self,
        *,
        tasks=(TASK,),
        upstream=None,
        max_pages=None,
        limits=None,
        timeout=5.0,
        retries=0,
        breaker=1_000,
        drain=2,
        wrap=lambda x: x,
        **parts,
    ):
        """Start the gateway before an ASGI upstream, a URL, the raw one by default, or False for none."""
        if upstream is None:
            upstream = self.raw
        if callable(upstream):
            upstream = self.stack.enter_context(ServerThread(upstream, drain=1)).url + "/v1"
        upstreams = {}
        if upstream:
            prices = {"price_in": Decimal("2"), "price_out": Decimal("8")}
            upstreams["main"] = UpstreamConfig(
                "main", upstream, timeout_s=timeout, model="gpt-x", retries=retries, breaker_failures=breaker, **prices
            )
        gateway = GatewayConfig("127.0.0.1", 0, 16, 1, drain, 5.0, (("main", 1.0),) if upstream else ())
        config = Config(
            replace(gateway, **(limits or {})),
            StoreConfig(self.home, 30),
            upstreams,
            {task.name: task for task in tasks},
            PolicyConfig(),
            {},
            {},
        )
        now = parts.get("clock", lambda: datetime.now(UTC))
        self.ledger = self.stack.enter_context(Ledger.open(self.home, clock=now, max_pages=max_pages))
        self.parts = Parts(config, wrap(self.ledger), self.registry, self.open_specialist, **parts)
        self.app = create_app(self.parts)
        self.server = self.stack.enter_context(ServerThread(self.app, drain=drain, receipt=config.gateway.receipt_s))
        self.url = self.server.url
        return self

    @property
    def gateway(self):
        return self.app.state.gateway

    @asynccontextmanager
    async def client(self):
        async with aiohttp.ClientSession(self.url, auto_decompress=False) as session:
            yield session

    def stop(self):
        """Drain and close all, so that the ledger can be read to its end."""
        self.stack.close()

    def reader(self):
        return LedgerReader(self.home)


@pytest.fixture
def house(tmp_path):
    with ExitStack() as stack:
        yield House(tmp_path, stack)


@pytest.fixture
def scripted():
    return scripted_app(REFERENCES)


def chat(text, model="gpt-4o", system=SYSTEM, **fields):
    messages = [{"role": "system", "content": system}] if system else []
    return {"model": model, "messages": [*messages, {"role": "user", "content": text}], **fields}


@pytest.fixture(name="chat")
def chat_fixture():
    return chat
