"""Labels bought for accepted requests near the threshold: picked, reserved, asked for after the reply, no evidence."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from insource.backends.scripted import Scripted
from insource.errors import StoreFull, UpstreamError
from insource.lifecycle.lessons import unbiased
from tests.cascade.stacks import NOW, REFERENCES, TASK, ask, stack, trial

NEAR = replace(TASK, audit_rate=0.0, content="full", labels_per_day=2)
LATE = NOW + timedelta(hours=23, minutes=59, seconds=59)
"""When what is left of a budget may go to whatever comes."""


class Counter:
    """Counts in memory as the registry does."""

    def __init__(self):
        self.taken = 0
        self.asked = 0

    def __call__(self, limit, now):
        self.asked += 1
        if self.taken >= limit:
            return None
        self.taken += 1
        return self.taken


class Broken(Scripted):
    """An upstream that fails."""

    async def answer(self, request):
        await super().answer(request)
        raise UpstreamError("down")


def build(upstream, findings, reserve, *, task=NEAR, now=LATE, **more):
    return stack(upstream, findings, task=task, reserve=reserve, coin=lambda _: 0.9, clock=lambda: now, **more)


async def told(upstream, reserve, texts=("wrong",) * 3, **more):
    """Ask the texts one after the other, each to its end; return what was found and said of each."""
    findings, answers = [], []
    async with upstream, build(upstream, findings, reserve, **more) as stacked:
        for n, text in enumerate(texts):
            answers.append(await stacked.answer(ask(text, f"r{n}")))
            await stacked.drain()
    return findings, answers


async def test_a_label_is_bought_and_is_no_evidence():
    upstream, reserve = Scripted(REFERENCES), Counter()
    findings, answers = await told(upstream, reserve)
    assert [answer.content for answer in answers] == ["yes"] * 3
    assert [(each.request.id, each.audit, each.reference, each.bought) for each in findings] == [
        ("r0", None, "no", True), ("r1", None, "no", True),
    ]  # fmt: skip
    assert findings[0].usage is not None and findings[0].served_by is not None
    assert upstream.asked == reserve.taken == 2
    assert not any(answer.decision.audited or unbiased(answer.decision) for answer in answers)


async def test_when_the_budget_is_known_to_be_spent_nobody_is_asked_for_more():
    reserve = Counter()
    reserve.taken = 2  # another worker was quicker
    upstream = Scripted(REFERENCES)
    findings, _ = await told(upstream, reserve)
    assert [(each.reference, each.bought) for each in findings] == [(None, False)]
    assert upstream.asked == 0 and reserve.asked == 1


async def test_a_call_that_fails_stays_counted_and_is_told(caplog):
    reserve = Counter()
    findings, _ = await told(Broken(REFERENCES), reserve)
    assert caplog.text.count("a label brought no reference") == 2
    assert [(each.reference, each.bought) for each in findings] == [(None, True)] * 2 and reserve.taken == 2


async def test_where_the_budget_cannot_be_counted_nothing_is_bought():
    def full(limit, now):
        raise StoreFull("no room")

    upstream = Scripted(REFERENCES)
    findings, answers = await told(upstream, full)
    assert upstream.asked == 0 and {each.bought for each in findings} == {False} and len(answers) == 3


@pytest.mark.parametrize(("text", "more"), [
    ("unsure", {}),  # escalated
    ("wrong", {"permits": lambda _: False}),
    ("wrong", {"task": replace(NEAR, labels_per_day=0)}),
    ("wrong", {"task": replace(NEAR, content="digest")}),
    ("wrong", {"suspended": True}),
    ("unsure", {"pacer": lambda _: False}),  # accepted as a budget was spent
])  # fmt: skip
async def test_no_label_and_no_count(text, more):
    reserve = Counter()
    findings, _ = await told(Scripted(REFERENCES), reserve, (text,) * 3, **more)
    assert reserve.asked == 0 and all(each.bought is None for each in findings)


async def test_without_an_upstream_there_is_no_label():
    findings, reserve = [], Counter()
    async with build(None, findings, reserve) as stacked:
        await stacked.answer(ask("wrong"))
    assert findings == [] and reserve.asked == 0


async def test_an_audited_request_is_not_bought_as_well():
    reserve, findings = Counter(), []
    task = replace(NEAR, audit_rate=0.5)
    async with Scripted(REFERENCES) as upstream, stack(upstream, findings, task=task, reserve=reserve,
                                                       clock=lambda: LATE) as stacked:  # fmt: skip
        await stacked.answer(ask("wrong"))
    assert [each.audit is not None for each in findings] == [True] and reserve.asked == 0


async def test_nothing_delays_the_reply():
    free, findings = threading.Event(), []

    def slow(limit, now):
        assert free.wait(60)
        return 1

    async with Scripted(REFERENCES) as upstream, build(upstream, findings, slow) as stacked:
        answers = [await stacked.answer(ask("wrong", f"r{n}")) for n in range(2)]
        await asyncio.sleep(0)
        assert [each.content for each in answers] == ["yes"] * 2 and upstream.asked == 0 and findings == []
        free.set()
    assert len(findings) == 2 == upstream.asked


async def test_the_ones_nearest_the_threshold_are_picked():
    """Of a day's 600 requests, one in three near the threshold; 60 labels go to those."""
    task, texts = replace(NEAR, labels_per_day=60), ("sure", "sure", "wrong") * 200
    moment = {f"r{n}": NOW + timedelta(seconds=144 * n) for n in range(len(texts))}
    now, findings, reserve = [NOW], [], Counter()
    async with Scripted(REFERENCES) as upstream:
        stacked = stack(upstream, findings, task=task, reserve=reserve, coin=lambda _: 0.9, clock=lambda: now[0])
        async with stacked:
            for n, text in enumerate(texts):
                now[0] = moment[f"r{n}"]
                await stacked.answer(ask(text, f"r{n}"))
                await stacked.drain()
    picked = [each.request.messages[0].content for each in findings]
    assert 50 <= len(picked) <= 60 and picked.count("wrong") >= 0.9 * len(picked)


async def test_a_version_on_trial_is_not_asked_about_what_was_picked_for_its_score():
    findings, reserve = [], Counter()
    async with Scripted(REFERENCES) as upstream, build(upstream, findings, reserve, tried=trial()) as stacked:
        await stacked.answer(ask("wrong"))
    assert [(each.audit, each.beside, each.bought) for each in findings] == [(None, False, True)]
