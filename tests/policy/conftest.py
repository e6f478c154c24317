"""Doubles of upstreams: replies by script, and a clock that only moves when told."""

from datetime import UTC, datetime

import pytest

from insource.backends.contract import BackendInfo, Health
from insource.types import Answer, Relay, Sensitivity


class Stub:
    """An upstream that says what its script says, then its last line for ever; remembers whom it saw.

    A line is a status, a (status, headers) pair, an exception to raise, or an awaitable function of the request.
    """

    def __init__(self, name, *script):
        self.info = BackendInfo(name)
        self.script = list(script) or [200]
        self.seen = []
        self.closed = []
        self.opened = 0

    async def answer(self, request):
        self.seen.append(request)
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(line, Exception):
            raise line
        if callable(line):
            line = await line(request)
        status, headers = line if isinstance(line, tuple) else (line, ())
        number = len(self.seen)

        async def chunks():
            yield f"{self.info.name} said {status}, number {number}".encode()

        async def close():
            self.closed.append(number)

        return Answer(self.info.name, relay=Relay(status, tuple(headers), chunks(), close))

    async def answer_many(self, requests):
        return [await self.answer(request) for request in requests]

    async def health(self):
        return Health(self.opened > 0, "" if self.opened else "closed")

    async def __aenter__(self):
        self.opened += 1
        return self

    async def __aexit__(self, *_):
        self.opened -= 1


class Clock:
    """Seconds that pass only when told, or when slept through."""

    def __init__(self):
        self.seconds = 1_000.0
        self.slept = []

    def __call__(self):
        return self.seconds

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.seconds += seconds

    def now(self):
        return datetime.fromtimestamp(self.seconds, UTC)


@pytest.fixture
def stub():
    return Stub


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def every():
    """All sensitivities: an upstream that may take anything."""
    return frozenset(Sensitivity)
