"""Cascades of three tiers: in which order they are asked, what stands on record, and what a failing tier does."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from insource.answers import learn_answers
from insource.backends.house_tier import HouseTier, TierScore, behind
from insource.backends.scripted import Scripted, scripted_app
from insource.backends.upstream import Upstream
from insource.cascade.builder import Active, ActiveTier, build_task, standing_tiers
from insource.cascade.cascade import Cascade
from insource.cascade.coin import coin_rate
from insource.cascade.refusal import Refusal
from insource.cascade.tier import Tier
from insource.errors import ArtifactDamaged, KeptLocal, UpstreamTimeout
from insource.gateway.server import ServerThread
from insource.types import (
    Calibration,
    Message,
    Outcome,
    Reason,
    Request,
    Sensitivity,
    SpecialistVersion,
    Stage,
    Task,
    WhenKept,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SPECIALIST = {"easy": "yes", "middling": "no", "hard": "no", "wrong": "no"}
HOUSE = {"easy": "no", "middling": "yes", "hard": "yes", "wrong": "yes"}
UPSTREAM = {"easy": "yes", "middling": "yes", "hard": "no", "wrong": "no"}
TASK = Task("triage", audit_rate=0.5)


def ask(text, id="r1", **more):
    return Request(id, (Message("user", text),), **more)


def says(answers, sure, name):
    return Scripted(answers, score=lambda request, _: 0.9 if request.messages[0].content in sure else 0.1, name=name)


def cascade(upstream=None, *, first=None, house=None, task=TASK, permits=lambda _: True, **tier):
    tiers = [
        Tier(first or says(SPECIALIST, {"easy"}, "triage@2"), 0.5, 2, "s"),
        Tier(house or says(HOUSE, {"easy", "middling"}, "house"), 0.6, 7, "h", "house", **tier),
    ]
    return Cascade(task, tiers=tiers, upstream=upstream, permits=permits, clock=lambda: NOW)


@pytest.mark.parametrize(("text", "content", "outcome", "reason", "version", "tier"), [
    ("easy", "yes", Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, 2, None),
    ("middling", "yes", Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, 7, "house"),
    ("hard", "no", Outcome.ESCALATED, Reason.BELOW_THRESHOLD, 7, "house"),
])  # fmt: skip
async def test_the_first_that_is_sure_enough_answers(text, content, outcome, reason, version, tier):
    async with Scripted(UPSTREAM) as upstream, cascade(upstream) as c:
        answer = await c.answer(ask(text))
        assert (await c.decide_many([ask(text)]))[0] == await c.decide(ask(text))
    decision = answer.decision
    assert (answer.content, decision.outcome, decision.reason) == (content, outcome, reason)
    assert (decision.version, decision.tier) == (version, tier)
    assert (decision.digest, decision.threshold) == (("s", 0.5) if tier is None else ("h", 0.6))
    assert decision.score == (0.1 if outcome is Outcome.ESCALATED else 0.9)


async def test_the_house_is_asked_only_about_what_the_specialist_escalates():
    house = says(HOUSE, {"easy"}, "house")
    async with cascade(house=house) as c:
        await c.decide(ask("easy"))
        assert house.asked == 0
        for request in (ask("hard", fields={"n": 2}), ask(" ")):
            await c.decide(request)
        assert house.asked == 0
        await c.decide(ask("hard"))
        assert house.asked == 1


class Raising(Scripted):
    def __init__(self, error):
        super().__init__({})
        self.error = error

    async def answer(self, request):
        raise self.error


@pytest.mark.parametrize(("error", "reason", "detail"), [
    (KeptLocal("not to this server"), Reason.SPECIALIST_FAILED, "KeptLocal: not to this server"),
    (UpstreamTimeout("no reply had begun"), Reason.SPECIALIST_SLOW, "its server did not answer in time"),
    (ValueError("secret text"), Reason.SPECIALIST_FAILED, None),
])  # fmt: skip
async def test_a_house_that_fails_is_a_reason_never_an_error(error, reason, detail):
    async with Scripted(UPSTREAM) as upstream, cascade(upstream, house=Raising(error)) as c:
        answer = await c.answer(ask("middling"))
    assert (answer.content, answer.decision.reason, answer.decision.tier) == ("yes", reason, "house")
    assert answer.decision.score is None and "secret" not in answer.decision.detail
    assert detail is None or answer.decision.detail == detail


async def test_a_late_house_is_left_behind():
    class Stuck(Scripted):
        async def answer(self, request):
            await asyncio.Event().wait()

    async with cascade(house=Stuck({}), deadline=0.001) as c:
        decision = (await c.decide(ask("hard"))).decision
    assert (decision.reason, decision.tier, decision.detail) == (
        Reason.SPECIALIST_SLOW,
        "house",
        "no answer within 1 ms",
    )


async def test_where_the_specialist_fails_the_house_is_not_asked():
    """Its certificate is about what the specialist was unsure of, not about what it could not be asked."""
    house = says(HOUSE, HOUSE, "house")
    async with cascade(first=Raising(ArtifactDamaged("bad bytes")), house=house) as c:
        decision = (await c.decide(ask("easy"))).decision
    assert (decision.reason, decision.tier, house.asked) == (Reason.ARTIFACT_DAMAGED, None, 0)


async def test_a_reply_outside_the_set_escalates():
    class Rambling(Scripted):
        async def answer(self, request):
            return replace(await super().answer(request), content=None, label=None, score=None)

    async with cascade(house=Rambling(HOUSE)) as c:
        decision = (await c.decide(ask("hard"))).decision
    assert (decision.outcome, decision.reason) == (Outcome.ESCALATED, Reason.BELOW_THRESHOLD)
    assert decision.detail == "the reply is outside the closed set"


async def test_the_best_answer_kept_is_that_of_the_last_tier_that_spoke():
    task, restricted = replace(TASK, when_kept=WhenKept.BEST), {"sensitivity": Sensitivity.RESTRICTED}
    async with cascade(task=task, permits=lambda _: False) as c:
        answer = await c.answer(ask("hard", **restricted))
        assert (answer.content, answer.decision.tier, answer.decision.reason) == ("yes", "house", Reason.KEPT_LOCAL)
    async with cascade(house=Raising(ValueError()), task=task, permits=lambda _: False) as c:
        answer = await c.answer(ask("hard", **restricted))
        assert (answer.content, answer.decision.tier, answer.decision.version) == ("no", None, 2)
        assert answer.decision.detail.startswith("specialist_failed: ValueError")


def version(task, number, coverage=0.5, threshold=0.5, before=None, digest=None):
    calibration = Calibration("tier", 0.05, 0.95, 100, threshold, coverage, 50, 0, 0.04, 0.9)
    lineage = {} if before is None else {"behind": before}
    return SpecialistVersion(task, number, "x", digest or task, Stage.ACTIVE, NOW, calibration, lineage)


def active(of, backend=None, refused=None):
    return Active(of, backend, lambda raw: raw.lower(), refused)


def test_a_tier_stands_only_behind_what_it_was_certified_behind():
    first = version("triage", 2)
    here = behind([first])
    tier = ActiveTier("house", active(version("triage/house", 1, before=here)))
    second = ActiveTier("more", active(version("triage/more", 1, before=[*here, *behind([tier.active.version])])))
    assert [each.name for each in standing_tiers(first, [tier, second])] == ["house", "more"]
    assert standing_tiers(first, [second]) == []
    assert standing_tiers(version("triage", 3, threshold=0.4), [tier, second]) == []
    assert standing_tiers(version("triage", 3, digest="other"), [tier]) == []
    assert standing_tiers(None, [tier]) == []
    alone = ActiveTier("house", active(version("triage/house", 1, before=[])))
    assert standing_tiers(None, [alone]) == [alone] == standing_tiers(version("triage", 3, threshold=None), [alone])
    uncertified = ActiveTier("house", active(version("triage/house", 1, threshold=None, before=here)))
    assert standing_tiers(first, [uncertified]) == []


def build(upstream, audits, tier_before, coin=lambda _: 0.0, house=None, refused=None):
    async def keep(finding):
        audits.append(finding.audit)

    first = version("triage", 2, coverage=0.5)
    tier = version("triage/house", 7, coverage=0.4, before=tier_before(first))
    house = house or says(HOUSE, {"middling", "wrong"}, "house")
    return build_task(
        TASK,
        active=active(first, says(SPECIALIST, {"easy"}, "triage@2")),
        tiers=[ActiveTier("house", active(tier, None if refused else house, refused))],
        upstream=upstream,
        permits=lambda _: True,
        record=keep,
        coin=coin,
        clock=lambda: NOW,
    )


async def test_an_audit_belongs_to_the_tier_that_accepted():
    audits = []
    async with Scripted(UPSTREAM) as upstream, build(upstream, audits, lambda first: behind([first])) as s:
        for text in ("middling", "wrong", "easy", "hard"):
            answer = await s.answer(ask(text))
            assert answer.decision.audit_rate == coin_rate(0.5, 0.5 + 0.5 * 0.4)
    found = [(audit.task, audit.version, audit.accepted, audit.agrees) for audit in audits]
    assert sorted(found) == sorted(
        [
            ("triage/house", 7, True, True),
            ("triage/house", 7, True, False),
            ("triage", 2, True, True),
            ("triage/house", 7, False, False),
        ]
    )


async def test_a_tier_certified_behind_another_version_is_not_asked():
    """And with the check broken on purpose (it says what stands there now) it is."""
    house = says(HOUSE, HOUSE, "house")
    async with Scripted(UPSTREAM) as upstream:
        async with build(upstream, [], lambda first: behind([replace(first, digest="old")]), house=house) as s:
            assert (await s.answer(ask("middling"))).decision.tier is None
        assert house.asked == 0
        async with build(upstream, [], lambda first: behind([first]), house=house) as s:
            assert (await s.answer(ask("middling"))).decision.tier == "house"


async def test_a_tier_that_could_not_be_opened_is_a_reason():
    refused = Refusal(Reason.ARTIFACT_DAMAGED, "digest differs")
    async with Scripted(UPSTREAM) as upstream, build(upstream, [], lambda v: behind([v]), refused=refused) as s:
        decision = (await s.answer(ask("middling"))).decision
    assert (decision.reason, decision.detail, decision.tier) == (Reason.ARTIFACT_DAMAGED, "digest differs", "house")


def house_app(received):
    """A model server as vLLM and llama.cpp have it: chat completions in a piece, with log-probabilities."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while message := await receive():
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = json.loads(body)
        received.append((asked, dict(scope["headers"])))
        text = asked["messages"][-1]["content"]
        content = [{"token": "Yes", "logprob": -0.01 if text == "middling" else -2.0}, {"token": ".", "logprob": 0.0}]
        choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
        reply = json.dumps({"choices": [{**choice, "logprobs": {"content": content}}]}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": reply})

    return app


async def test_three_tiers_over_http():
    received, space = [], learn_answers(["yes", "no"] * 5)
    with ServerThread(house_app(received), drain=1) as inside, ServerThread(scripted_app(UPSTREAM), drain=1) as outside:
        async with Upstream("house", inside.url + "/v1") as house, Upstream("main", outside.url + "/v1") as upstream:
            tier = HouseTier("triage/house@7", house, "qwen", space, TierScore("probability"), "h")
            async with cascade(upstream, house=tier) as c:
                answers = {}
                for text in ("easy", "middling", "hard"):
                    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
                    request = ask(text, model="m", body=body, headers={"authorization": "Bearer secret"})
                    answers[text] = await c.answer(request)
                async for _ in answers["hard"].relay.chunks:
                    pass
    served = {text: (answer.served_by, answer.decision.tier) for text, answer in answers.items()}
    assert served == {
        "easy": ("triage@2", None),
        "middling": ("tier:triage/house@7", "house"),
        "hard": ("main", "house"),
    }
    assert answers["middling"].score == pytest.approx(0.990, abs=1e-3) and answers["middling"].content == "yes"
    assert [(asked["model"], asked["logprobs"], asked["stream"]) for asked, _ in received] == [
        ("qwen", True, False)
    ] * 2
    assert all(b"authorization" not in headers for _, headers in received)
