"""The suite over our own backends, and over broken ones that it must find."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from insource.backends.conformance import check_backend
from insource.backends.contract import Health
from insource.backends.scripted import Scripted, scripted_app
from insource.backends.upstream import Upstream
from insource.cascade.builder import Active, build_task
from insource.cascade.cascade import Cascade
from insource.cascade.tier import Tier
from insource.gateway.server import ServerThread
from insource.policy.egress import Egress
from insource.types import Calibration, Message, Request, Sensitivity, SpecialistVersion, Stage, Task

TEXTS = {f"text {n}": ("yes", "no", "perhaps")[n % 3] for n in range(6)}
REQUESTS = [
    Request(
        f"r{n}",
        (Message("user", text),),
        "m",
        body=b'{"messages":[{"role":"user","content":"%s"}]}' % text.encode(),
        stream=False,
    )
    for n, text in enumerate(TEXTS)
]
RATED = [replace(request, sensitivity=Sensitivity.INTERNAL) for request in REQUESTS]


def specialist():
    return Scripted(TEXTS, score=lambda request, _: int(request.id[1:]) / 10, name="triage@1")


@pytest.fixture(scope="module")
def upstream_url():
    with ServerThread(scripted_app(TEXTS), drain=1) as server:
        yield server.url + "/v1"


async def test_scripted():
    await check_backend(lambda: Scripted(TEXTS, score=0.5), REQUESTS)


async def test_upstream_and_its_egress(upstream_url):
    await check_backend(lambda: Upstream("main", upstream_url), REQUESTS)
    await check_backend(lambda: Egress(Upstream("main", upstream_url), frozenset(Sensitivity)), RATED)


@pytest.mark.parametrize("threshold", [0.0, 0.25, None])
async def test_cascade_before_a_live_upstream(upstream_url, threshold):
    async with Upstream("main", upstream_url) as upstream:
        await check_backend(
            lambda: Cascade(
                Task("triage"), tiers=[Tier(specialist(), threshold)], upstream=upstream, permits=lambda _: True
            ),
            REQUESTS,
        )


async def test_audit_sample_before_a_live_upstream(upstream_url):
    calibration = Calibration("band", 0.05, 0.95, 100, 0.25, 0.5, 50, 0, 0.04, 0.9)
    version = SpecialistVersion("triage", 1, "linear", "d", Stage.ACTIVE, datetime.now(UTC), calibration)
    findings = []

    async def record(finding):
        findings.append(finding)

    async with Upstream("main", upstream_url) as upstream:

        def build():
            active = Active(version, specialist(), lambda raw: raw)
            return build_task(
                Task("triage", audit_rate=1.0),
                active=active,
                upstream=upstream,
                permits=lambda _: True,
                record=record,
                coin=lambda _: 0.0,
            )

        await check_backend(build, REQUESTS)
    assert findings and all(finding.audit.agrees for finding in findings if finding.audit.detail is None)


class Unordered(Scripted):
    async def answer_many(self, requests):
        return sorted(await super().answer_many(requests), key=lambda answer: answer.content)


class Short(Scripted):
    async def answer_many(self, requests):
        return (await super().answer_many(requests))[:-1]


class OtherInBatch(Scripted):
    async def answer_many(self, requests):
        return [replace(answer, score=0.4) for answer in await super().answer_many(requests)]


class Mixing(Scripted):
    """Keeps the request in a place that all share."""

    async def answer(self, request):
        self.current = request
        await asyncio.sleep(0)
        return await super().answer(self.current)


class NeverReady(Scripted):
    async def health(self):
        return Health(False, "no")


class AlwaysReady(Scripted):
    async def health(self):
        return Health(True)


class AnswersWhenClosed(Scripted):
    async def __aexit__(self, *_):
        return None

    async def health(self):
        self.asked_health = getattr(self, "asked_health", 0) + 1
        return Health(self.asked_health == 1)


class Foreign(Scripted):
    async def answer(self, request):
        if not self._open:
            raise KeyError("closed")
        return await super().answer(request)


class Nameless(Scripted):
    async def answer(self, request):
        return replace(await super().answer(request), served_by="")


class BreaksOnCancel(Scripted):
    async def answer(self, request):
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._open = False
            raise
        return await super().answer(request)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Unordered, "in the order"),
        (Short, "in the order"),
        (OtherInBatch, "what answer gives"),
        (Mixing, "must not mix"),
        (NeverReady, "must be ready"),
        (AlwaysReady, "must not be ready"),
        (AnswersWhenClosed, "not answer"),
        (Foreign, "not KeyError"),
        (Nameless, "what served it"),
    ],
)
async def test_the_suite_finds_what_is_broken(broken, says):
    with pytest.raises(AssertionError, match=says):
        await check_backend(lambda: broken(TEXTS, score=0.5), REQUESTS)


async def test_the_suite_finds_a_backend_that_a_cancelled_request_breaks():
    with pytest.raises(Exception, match="is closed"):
        await check_backend(lambda: BreaksOnCancel(TEXTS, score=0.5), REQUESTS)


async def test_the_suite_asks_for_two_requests():
    with pytest.raises(AssertionError, match="1 requests were given"):
        await check_backend(lambda: Scripted(TEXTS), REQUESTS[:1])


async def test_the_suite_finds_what_is_no_backend():
    with pytest.raises(AssertionError, match="lacks a part"):
        await check_backend(lambda: object(), REQUESTS)
