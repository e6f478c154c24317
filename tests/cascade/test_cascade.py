import asyncio
from datetime import UTC, datetime

import pytest

from insource.backends.scripted import Scripted
from insource.cascade.cascade import Cascade
from insource.cascade.choice import Chooser, Toss
from insource.cascade.refusal import Refusal
from insource.errors import ArtifactDamaged, InsourceError, UpstreamError, UpstreamUnreachable
from insource.types import Message, Outcome, Reason, Request, Task

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ANSWERS = {"sure": "yes", "unsure": "no", "edge": "yes"}
SCORES = {"sure": 0.9, "unsure": 0.3, "edge": 0.5}
TASK = Task("triage")


def ask(text, id="r1", model="gpt-4o", **fields):
    return Request(id, (Message("user", text),), model, fields)


def scored(score=lambda request, _: SCORES[request.messages[0].content]):
    return Scripted(ANSWERS, score=score, name="specialist")


def cascade(specialist=None, upstream=None, threshold=0.5, **more):
    return Cascade(
        TASK,
        specialist=specialist,
        upstream=upstream,
        threshold=threshold,
        version=3,
        digest="d",
        clock=lambda: NOW,
        **more,
    )


class Raising(Scripted):
    """A specialist that fails in the way given."""

    def __init__(self, error):
        super().__init__(ANSWERS, score=0.9)
        self.error = error

    async def answer(self, request):
        raise self.error


async def test_at_or_above_the_threshold_the_specialist_answers():
    async with Scripted({}) as upstream, cascade(scored(), upstream) as c:
        assert isinstance(c, Chooser)
        for text in ("sure", "edge"):
            answer = await c.answer(ask(text))
            assert (answer.content, answer.served_by) == ("yes", "specialist")
            assert answer.decision.outcome is Outcome.ACCEPTED
            assert answer.decision.reason is Reason.ABOVE_THRESHOLD
        assert (answer.decision.score, answer.decision.threshold, answer.decision.time) == (0.5, 0.5, NOW)
        assert (answer.decision.version, answer.decision.digest, answer.decision.task) == (3, "d", "triage")
        assert upstream.asked == 0


async def test_below_it_the_upstream_answers_and_the_score_is_kept():
    async with Scripted({"unsure": "maybe"}, name="up") as upstream, cascade(scored(), upstream) as c:
        answer = await c.answer(ask("unsure"))
        assert (answer.content, answer.served_by) == ("maybe", "up")
        assert (answer.decision.reason, answer.decision.score) == (Reason.BELOW_THRESHOLD, 0.3)
        choice = await c.decide(ask("unsure"))
        assert choice.answer is None and choice.scored.label == "no"


@pytest.mark.parametrize(
    ("built", "request_", "reason", "detail"),
    [
        (lambda: cascade(), ask("sure"), Reason.NO_SPECIALIST, None),
        (
            lambda: cascade(refused=Refusal(Reason.ARTIFACT_DAMAGED, "digest differs")),
            ask("sure"),
            Reason.ARTIFACT_DAMAGED,
            "digest differs",
        ),
        (lambda: cascade(scored(), threshold=None), ask("sure"), Reason.NO_THRESHOLD, None),
        (lambda: cascade(scored()), ask("sure", n=2), Reason.UNSUPPORTED_FIELD, "n"),
        (lambda: cascade(scored()), ask("sure", stop="e"), Reason.UNSUPPORTED_FIELD, "stop"),
        (lambda: cascade(scored()), ask("   "), Reason.NO_INPUT, None),
        (
            lambda: cascade(scored(None)),
            ask("sure"),
            Reason.SPECIALIST_FAILED,
            "the specialist gave no score or no answer",
        ),
        (
            lambda: cascade(scored(float("nan"))),
            ask("sure"),
            Reason.SPECIALIST_FAILED,
            "the specialist gave no score or no answer",
        ),
        (lambda: cascade(Raising(ArtifactDamaged("bad bytes"))), ask("sure"), Reason.ARTIFACT_DAMAGED, "bad bytes"),
        (lambda: cascade(Raising(InsourceError("odd"))), ask("sure"), Reason.SPECIALIST_FAILED, "InsourceError: odd"),
        (lambda: Cascade(None), ask("sure"), Reason.NO_TASK, None),
    ],
)
async def test_every_other_reason_escalates(built, request_, reason, detail):
    async with built() as c:
        decision = (await c.decide(request_)).decision
    assert (decision.outcome, decision.reason, decision.detail) == (Outcome.ESCALATED, reason, detail)


@pytest.mark.parametrize(
    "error", [ValueError("could not read 'my secret text'"), TimeoutError("my secret text"), MemoryError()]
)
async def test_a_failing_specialist_is_a_reason_and_never_quotes_the_request(error):
    async with cascade(Raising(error)) as c:
        decision = (await c.decide(ask("my secret text"))).decision
    assert decision.reason is Reason.SPECIALIST_FAILED
    assert type(error).__name__ in decision.detail
    assert "secret" not in decision.detail


async def test_a_slow_specialist_is_left_behind():
    class Stuck(Scripted):
        async def answer(self, request):
            await asyncio.Event().wait()

    async with cascade(Stuck({}), deadline=0.001) as c:
        decision = (await c.decide(ask("sure"))).decision
    assert (decision.reason, decision.detail) == (Reason.SPECIALIST_SLOW, "no answer within 1 ms")


async def test_cancelling_the_caller_is_not_a_slow_specialist():
    started = asyncio.Event()

    class Stuck(Scripted):
        async def answer(self, request):
            started.set()
            await asyncio.Event().wait()

    async with cascade(Stuck({}), deadline=60) as c:
        job = asyncio.create_task(c.decide(ask("sure")))
        await started.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job


async def test_a_spent_budget_keeps_unsure_requests_and_says_so():
    asked = []
    pacer = lambda score: asked.append(score) or len(asked) < 2  # noqa: E731
    async with cascade(scored(), pacer=pacer) as c:
        choices = await c.decide_many([ask("unsure", "a"), ask("sure", "b"), ask("unsure", "c")])
    assert [choice.decision.reason for choice in choices] == [
        Reason.BELOW_THRESHOLD,
        Reason.ABOVE_THRESHOLD,
        Reason.BUDGET_SPENT,
    ]
    assert asked == [0.3, 0.3]
    assert choices[2].answer.content == "no"


@pytest.mark.parametrize("specialist", [scored, lambda: Raising(ValueError()), lambda: None, lambda: scored(None)])
async def test_many_at_once_are_decided_as_one_by_one(specialist):
    requests = [
        ask("sure", "a"),
        ask("unsure", "b", n=3),
        ask("edge", "c"),
        ask("unknown", "d"),
        ask("", "e"),
        ask("unsure", "f"),
    ]
    tosses = [Toss(n % 2 == 0, 0.5) for n in range(len(requests))]
    async with cascade(specialist()) as c:
        single = [await c.decide(request, toss) for request, toss in zip(requests, tosses, strict=True)]
        batch = await c.decide_many(requests, tosses)
    assert batch == single
    assert [choice.decision.audited for choice in batch] == [True, False] * 3


@pytest.mark.parametrize(("upstream", "error"), [(None, UpstreamUnreachable), (Scripted({}), UpstreamError)])
async def test_a_failing_upstream_raises_with_the_decision(upstream, error):
    async with cascade(scored(), upstream) as c:
        with pytest.raises(error) as raised:
            await c.answer(ask("unsure"))
        assert raised.value.decision.reason is Reason.BELOW_THRESHOLD
        assert (await c.answer(ask("sure"))).content == "yes"


async def test_a_closed_cascade_says_so():
    async with cascade(scored()) as c:
        assert (await c.health()).ready
    assert not (await c.health()).ready
    with pytest.raises(InsourceError, match="task:triage is closed"):
        await c.decide(ask("sure"))


async def test_the_upstream_sees_its_own_model_name():
    seen = []

    class Recording(Scripted):
        async def answer(self, request):
            seen.append((request.model, request.body))
            return await super().answer(request)

    async with Recording({"unsure": "maybe"}) as upstream, cascade(scored(), upstream, upstream_model="gpt-x") as c:
        await c.answer(Request("r", (Message("user", "unsure"),), "task:triage", body=b'{"model":"task:triage"}'))
    assert seen == [("gpt-x", b'{"model":"gpt-x"}')]
