"""The shadow: it learns what a version would say, and nothing of it reaches the reply, whatever the version does."""

import asyncio
import threading
from dataclasses import replace

import pytest

from insource.backends.conformance import check_backend
from insource.backends.scripted import Scripted
from insource.cascade.aside import Aside
from insource.cascade.builder import Trial
from insource.cascade.cascade import Cascade
from insource.cascade.choice import Chooser
from insource.cascade.refusal import Refusal
from insource.cascade.shadow import Beside, Shadow
from insource.cascade.tier import Tier
from insource.errors import ArtifactDamaged, KeptLocal
from insource.types import Outcome, Reason, Stage, WhenKept
from tests.cascade.stacks import NEW, REFERENCES, TASK, ask, normalise, scored, stack, told, trial, uncertified, version


async def found(*texts, tried=None, **more):
    """Answer the texts with a shadow beside, and return the replies and what was found."""
    findings, replies = [], []
    async with Scripted(REFERENCES) as upstream, stack(upstream, findings, tried=tried or trial(), **more) as s:
        for text in texts:
            replies.append(await s.answer(ask(text, text)))
    return replies, findings


async def test_a_shadow_answers_what_has_a_reference_and_serves_nothing():
    replies, findings = await found(*REFERENCES)
    assert [reply.content for reply in replies] == ["yes", "yes", "no"]
    assert [reply.decision.version for reply in replies] == [1, 1, 1]
    assert told(findings) == {
        ("sure", 1): (True, True, True, Stage.ACTIVE), ("sure", 2): (False, True, False, Stage.SHADOW),
        ("wrong", 1): (True, True, False, Stage.ACTIVE), ("wrong", 2): (False, True, True, Stage.SHADOW),
        ("unsure", 1): (False, False, True, Stage.ACTIVE), ("unsure", 2): (False, False, True, Stage.SHADOW),
    }  # fmt: skip
    shadows = [finding for finding in findings if finding.beside]
    assert [finding.audit.score for finding in shadows] == [0.9, 0.8, 0.1]
    assert all(finding.audit.seconds >= 0 for finding in shadows)
    assert all(finding.reference is None and finding.usage is None for finding in shadows)


async def test_without_a_reference_the_shadow_is_not_asked():
    new = scored(NEW)
    await found("sure", tried=trial(specialist=new), coin=lambda _: 0.9)
    await found("sure", tried=trial(specialist=new), permits=lambda _: False)  # accepted, and no reference may be had
    assert new.asked == 0
    await found("sure", tried=trial(specialist=new))
    assert new.asked == 1


@pytest.mark.parametrize("when", list(WhenKept))
async def test_a_kept_request_is_nobodys_evidence(when):
    new = scored(NEW)
    with pytest.raises(KeptLocal) if when is not WhenKept.BEST else _nothing():
        await found("unsure", tried=trial(specialist=new), task=replace(TASK, when_kept=when), permits=lambda _: False)
    assert new.asked == 0


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


async def test_a_first_version_in_shadow_learns_from_every_request():
    replies, findings = await found("sure", "wrong", tried=trial(), active=False, coin=lambda _: 0.999)
    assert {reply.decision.reason for reply in replies} == {Reason.NO_SPECIALIST}
    assert told(findings) == {
        ("sure", 2): (False, True, False, Stage.SHADOW), ("wrong", 2): (False, True, True, Stage.SHADOW)
    }  # fmt: skip
    assert all(finding.beside for finding in findings)


async def test_requests_that_no_version_can_read_are_no_evidence():
    findings, new = [], scored(NEW)
    async with Scripted(REFERENCES) as upstream:
        async with stack(upstream, findings, tried=trial(specialist=new), active=False) as s:
            await s.answer(ask("sure", fields={"n": 2}))
        async with stack(upstream, findings, tried=trial(specialist=new)) as s:
            await s.answer(ask("sure", fields={"n": 2}))
    assert findings == [] and new.asked == 0


class Failing(Scripted):
    async def answer(self, request):
        raise ValueError(f"cannot read {request.messages[0].content!r}")


class Slow(Scripted):
    async def answer(self, request):
        await asyncio.Event().wait()


@pytest.mark.parametrize(("made", "detail"), [
    (Failing(NEW), "specialist_failed: ValueError in answer, line"),
    (Slow(NEW), "specialist_slow: no answer within 1 ms"),
    (Scripted(NEW, score=float("nan")), "specialist_failed: the specialist gave no score or no answer"),
    (Scripted({}, score=0.9), "specialist_failed: UpstreamError"),
])  # fmt: skip
async def test_a_shadow_that_fails_is_evidence_and_no_error(made, detail):
    replies, findings = await found("sure", tried=trial(specialist=made), task=replace(TASK, deadline_ms=1))
    assert replies[0].content == "yes"
    (audit,) = [finding.audit for finding in findings if finding.beside]
    assert (audit.agrees, audit.accepts, audit.score) == (None, False, None)
    assert audit.detail.startswith(detail) and "sure" not in audit.detail


async def test_a_shadow_that_could_not_be_opened_is_evidence_too():
    refused = Trial(version(2, Stage.SHADOW), None, lambda _: None, Refusal(Reason.ARTIFACT_DAMAGED, "digest 0a"))
    _, findings = await found("sure", tried=refused)
    (audit,) = [finding.audit for finding in findings if finding.beside]
    assert (audit.detail, audit.agrees, audit.stage) == ("artifact_damaged: digest 0a", None, Stage.SHADOW)


class Blocking(Scripted):
    """A specialist that computes on its loop and does not come back until it is let go."""

    def __init__(self, answers):
        super().__init__(answers, score=0.9)
        self.entered, self.let_go = threading.Event(), threading.Event()

    @property
    def info(self):
        return replace(super().info, inline=True)

    async def answer(self, request):
        self.entered.set()
        self.let_go.wait(60)
        return await super().answer(request)


def shadow(specialist, findings, dropped, **more):
    async def record(finding):
        findings.append(finding)

    inner = Cascade(TASK, upstream=None, permits=lambda _: True)
    beside = Beside(Tier(specialist, 0.5, 2), normalise, 2, Stage.SHADOW)
    return Shadow(inner, [beside], task=replace(TASK, deadline_ms=1), record=record, opens=[specialist],
                  dropped=dropped.append, **more)  # fmt: skip


async def offer(shadow, number):
    from insource.cascade.audit_sample import Finding

    for n in range(number):
        await shadow.take(Finding(None, ask("sure", f"r{n}"), "yes"))


async def test_a_shadow_that_hangs_holds_its_own_thread_only():
    findings, dropped, hung = [], [], Blocking(NEW)
    try:
        async with shadow(hung, findings, dropped, grace=0.05) as s:
            await offer(s, 3)
            await s.drain()  # comes back though the version does not
            assert hung.entered.is_set()
            assert [finding.audit.detail for finding in findings] == ["specialist_slow: it has not come back"]
            await offer(s, 5)  # left alone while it hangs
            assert sum(dropped) == 7
            hung.let_go.set()
            while not s._aside.free:
                await asyncio.sleep(0.001)
            await offer(s, 1)
            await s.drain()
            assert findings[-1].audit.agrees is False  # it is asked again once it has come back
    finally:
        hung.let_go.set()


async def test_a_backlog_is_bounded():
    findings, dropped, hung = [], [], Blocking(NEW)
    async with shadow(hung, findings, dropped, backlog=4, grace=60) as s:
        await offer(s, 10)
        assert sum(dropped) == 5  # one is under way, four wait
        hung.let_go.set()
        await s.drain()
    assert len(findings) == 5


async def test_the_shadow_answers_on_a_thread_of_its_own():
    threads = set()

    class Watching(Scripted):
        async def answer(self, request):
            threads.add(threading.current_thread().name)
            return await super().answer(request)

    await found("sure", tried=trial(specialist=Watching(NEW, score=0.9)))
    assert threads == {"shadow:triage"}


async def test_an_upstream_is_asked_once_whatever_stands_beside():
    """No call of the shadow's own: the reference is the audit's, or the reply."""
    async with Scripted(REFERENCES) as upstream, stack(upstream, [], tried=trial()) as s:
        for text in REFERENCES:
            await s.answer(ask(text, text))
        await s.drain()
        assert upstream.asked == len(REFERENCES)


async def test_the_suite_holds_for_a_shadow():
    requests = [ask(text, text) for text in REFERENCES]

    async def record(finding):
        return None

    def build():
        inner = Cascade(TASK, tiers=[Tier(scored(REFERENCES), 0.0)], upstream=None, permits=lambda _: True)
        made = Shadow(inner, [Beside(Tier(scored(NEW), 0.5), normalise, 2, Stage.SHADOW)], task=TASK, record=record)
        assert isinstance(made, Chooser)
        return made

    await check_backend(build, requests)


async def test_suspended_nothing_is_accepted_and_everything_is_evidence():
    replies, findings = await found(*REFERENCES, suspended=True, coin=lambda _: 0.999)
    decisions = [reply.decision for reply in replies]
    assert [reply.content for reply in replies] == ["yes", "no", "no"]  # the references
    assert [(decision.outcome, decision.reason) for decision in decisions] == [
        (Outcome.ESCALATED, Reason.SUSPENDED), (Outcome.ESCALATED, Reason.SUSPENDED),
        (Outcome.ESCALATED, Reason.BELOW_THRESHOLD),
    ]  # fmt: skip
    assert told(findings) == {
        ("sure", 1): (False, True, True, Stage.ACTIVE), ("sure", 2): (False, True, False, Stage.SHADOW),
        ("wrong", 1): (False, True, False, Stage.ACTIVE), ("wrong", 2): (False, True, True, Stage.SHADOW),
        ("unsure", 1): (False, False, True, Stage.ACTIVE), ("unsure", 2): (False, False, True, Stage.SHADOW),
    }  # fmt: skip


async def test_suspended_not_even_the_best_answer_is_served_and_no_budget_accepts():
    task = replace(TASK, when_kept=WhenKept.BEST)
    async with (
        Scripted(REFERENCES) as upstream,
        stack(upstream, [], task=task, suspended=True, permits=lambda _: False, pacer=lambda score: False) as s,
    ):
        for text in REFERENCES:
            with pytest.raises(KeptLocal):
                await s.answer(ask(text))
        for choice in await s.decide_many([ask(text) for text in REFERENCES]):
            assert choice.decision.outcome is Outcome.KEPT
    assert upstream.asked == 0


async def test_a_version_that_fails_while_it_decides_is_on_record():
    async with Scripted(REFERENCES) as upstream:
        findings = []
        s = stack(upstream, findings, active=False, tried=trial(Stage.CANARY, 1.0, Failing(NEW)))
        async with s:
            await s.answer(ask("sure"))
    (audit,) = [finding.audit for finding in findings]
    assert (audit.version, audit.accepted, audit.accepts, audit.agrees) == (2, False, False, None)
    assert audit.detail.startswith("specialist_failed: ValueError")


async def test_an_uncertified_version_is_asked_about_every_request():
    _, findings = await found("sure", calibration=uncertified(), tried=trial(), coin=lambda _: 0.999)
    assert told(findings)["sure", 1] == (False, False, True, Stage.ACTIVE)


async def test_a_thread_beside_gives_up_in_time_and_can_be_closed_while_it_hangs():
    said, gate, aside = [], threading.Event(), Aside("test", 0.01)

    async def hang():
        gate.wait(60)
        return 1

    done = asyncio.Event()

    def hear(result):
        said.append(result)
        done.set()

    try:
        aside.run(hang, hear)
        await done.wait()
        assert said == [None] and aside.stuck and not aside.free
        aside.close()
    finally:
        gate.set()
    aside = Aside("test", 60)
    done.clear()

    async def quick():
        raise ArtifactDamaged("x")

    aside.run(quick, hear)
    await done.wait()
    assert said == [None, None] and aside.free
    aside.close()
