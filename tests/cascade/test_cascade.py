import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from insource.backends.scripted import Scripted
from insource.cascade.cascade import Cascade
from insource.cascade.choice import Chooser, Toss
from insource.cascade.honour import UNNAMED
from insource.cascade.refusal import Refusal
from insource.cascade.tier import Tier
from insource.errors import (
    ArtifactDamaged,
    AwaitingReview,
    InsourceError,
    KeptLocal,
    UpstreamError,
    UpstreamUnreachable,
)
from insource.types import Message, Outcome, Reason, Request, Sensitivity, Task, WhenKept

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ANSWERS = {"sure": "yes", "unsure": "no", "edge": "yes"}
SCORES = {"sure": 0.9, "unsure": 0.3, "edge": 0.5}
TASK = Task("triage")


def ask(text, id="r1", model="gpt-4o", **fields):
    return Request(id, (Message("user", text),), model, fields)


def scored(score=lambda request, _: SCORES[request.messages[0].content]):
    return Scripted(ANSWERS, score=score, name="specialist")


def cascade(specialist=None, upstream=None, threshold=0.5, *, task=TASK, refused=None, deadline=None, **more):
    tiers = [Tier(specialist, threshold, 3, "d", refused=refused, deadline=deadline)] if specialist or refused else []
    more = {"permits": lambda _: True, "clock": lambda: NOW, **more}
    return Cascade(task, tiers=tiers, upstream=upstream, **more)


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
        (lambda: cascade(scored()), ask("sure", **{"Jane Roe": 1}), Reason.UNSUPPORTED_FIELD, UNNAMED),
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
        (lambda: cascade(task=None), ask("sure"), Reason.NO_TASK, None),
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


class Inline(Scripted):
    """A specialist that says of itself that it never waits."""

    @property
    def info(self):
        return replace(super().info, inline=True)


async def test_no_deadline_is_kept_for_what_answers_inline():
    seen = []

    class Watching(Inline):
        async def answer(self, request):
            seen.append(asyncio.current_task().cancelling())
            await asyncio.sleep(0)
            return await super().answer(request)

    async with cascade(Watching(ANSWERS, score=0.9), deadline=1e-9) as c:
        assert (await c.decide(ask("sure"))).decision.reason is Reason.ABOVE_THRESHOLD
    assert seen == [0]


def never(request):
    return False


def rated(text, sensitivity=Sensitivity.RESTRICTED):
    return replace(ask(text), sensitivity=sensitivity)


@pytest.mark.parametrize(
    ("when", "error", "detail"),
    [
        (WhenKept.REFUSE, KeptLocal, "below_threshold"),
        (WhenKept.REVIEW, AwaitingReview, "review: below_threshold"),
    ],
)
async def test_what_may_not_leave_is_kept_before_the_reply(when, error, detail):
    task = replace(TASK, when_kept=when)
    async with Scripted(ANSWERS) as upstream, cascade(scored(), upstream, task=task, permits=never) as c:
        choice = await c.decide(rated("unsure"), Toss(True, 0.5))
        decision = choice.decision
        assert (decision.outcome, decision.reason, decision.detail) == (Outcome.KEPT, Reason.KEPT_LOCAL, detail)
        assert (decision.version, decision.score, decision.threshold) == (3, 0.3, 0.5)
        assert decision.sensitivity is Sensitivity.RESTRICTED
        assert (decision.audited, decision.audit_rate) == (False, 0.0)  # nobody may give it a reference
        assert choice.answer is None and choice.scored.content == "no"
        with pytest.raises(error) as raised:
            await c.reply(rated("unsure"), choice)
        assert type(raised.value) is error and raised.value.decision == decision
        assert "unsure" not in str(raised.value)
        assert (await c.answer(rated("sure"))).content == "yes"
        assert upstream.asked == 0


async def test_the_best_answer_is_served_outside_the_promise():
    task = replace(TASK, when_kept=WhenKept.BEST)
    async with Scripted(ANSWERS) as upstream, cascade(scored(), upstream, task=task, permits=never) as c:
        answer = await c.answer(rated("unsure"))
        decision = answer.decision
        assert (answer.content, decision.outcome, decision.reason) == ("no", Outcome.ACCEPTED, Reason.KEPT_LOCAL)
        assert (decision.detail, decision.score, decision.audited) == ("below_threshold", 0.3, False)
        for unanswered in (replace(rated("unsure"), fields={"stop": "o"}), rated("unknown"), rated("  ")):
            with pytest.raises(KeptLocal) as raised:
                await c.answer(unanswered)
            assert raised.value.decision.outcome is Outcome.KEPT
    assert upstream.asked == 0
    assert raised.value.decision.detail == "no_input"


async def test_without_a_task_what_may_not_leave_is_refused():
    async with Scripted(ANSWERS) as upstream, cascade(task=None, upstream=upstream, permits=never) as c:
        with pytest.raises(KeptLocal) as raised:
            await c.answer(rated("sure"))
        assert raised.value.decision.detail == "no_task" and upstream.asked == 0


async def test_a_batch_is_kept_as_one_by_one():
    task = replace(TASK, when_kept=WhenKept.BEST)
    requests = [rated("sure"), rated("unsure"), rated("unknown"), ask("unsure", n=2)]
    async with cascade(scored(), task=task, permits=never) as c:
        assert await c.decide_many(requests) == [await c.decide(request) for request in requests]


async def test_the_egress_has_the_last_word():
    """Were `permits` wrong, what the egress refuses still carries the decision."""

    class Keeping(Scripted):
        async def answer(self, request):
            raise KeptLocal("kept")

    async with Keeping({}) as upstream, cascade(scored(), upstream) as c:
        with pytest.raises(KeptLocal) as raised:
            await c.answer(rated("unsure"))
    assert raised.value.decision.outcome is Outcome.ESCALATED


async def test_a_cascade_that_asks_nobody_lets_restricted_text_out():
    """The guard broken on purpose: with `permits` always true the same request does go up."""
    async with Scripted({"unsure": "maybe"}) as upstream, cascade(scored(), upstream) as c:
        assert (await c.answer(rated("unsure"))).content == "maybe"
    assert upstream.asked == 1
