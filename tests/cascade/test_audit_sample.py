import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from insource.backends.scripted import Scripted
from insource.cascade.builder import Active, build_task
from insource.errors import KeptLocal
from insource.types import (
    Answer,
    Calibration,
    Message,
    Reason,
    Relay,
    Request,
    SpecialistVersion,
    Stage,
    Task,
    WhenKept,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CALIBRATION = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
VERSION = SpecialistVersion("triage", 2, "linear", "d", Stage.ACTIVE, NOW, CALIBRATION)
TASK = Task("triage", audit_rate=0.5)
SPECIALIST = {"sure": "yes", "wrong": "yes", "unsure": "no"}
SCORES = {"sure": 0.9, "wrong": 0.8, "unsure": 0.1}
REFERENCES = {"sure": "Yes", "wrong": "no", "unsure": "NO"}


def ask(text, id="r1"):
    return Request(id, (Message("user", text),))


def normalise(raw):
    return raw.lower() if raw.lower() in ("yes", "no") else None


def stack(upstream, audits, coin=lambda _: 0.0, record=None, task=TASK, number=None, **more):
    async def keep(finding):
        audits.append((finding.audit, finding.usage))

    specialist = Scripted(SPECIALIST, score=lambda request, _: SCORES[request.messages[0].content], name="specialist")
    active = Active(VERSION, specialist, normalise, number=number)
    return build_task(
        task,
        active=active,
        upstream=upstream,
        record=record or keep,
        coin=coin,
        clock=lambda: NOW,
        **{"permits": lambda _: True, **more},
    )


@pytest.mark.parametrize(
    ("text", "accepted", "agrees"), [("sure", True, True), ("wrong", True, False), ("unsure", False, True)]
)
async def test_an_audited_request_is_compared_with_the_reference(text, accepted, agrees):
    audits = []
    async with Scripted(REFERENCES) as upstream, stack(upstream, audits) as s:
        answer = await s.answer(ask(text))
    ((audit, usage),) = audits
    assert (audit.request_id, audit.task, audit.version, audit.time) == ("r1", "triage", 2, NOW)
    assert (audit.accepted, audit.agrees) == (accepted, agrees)
    assert answer.decision.audited and answer.decision.audit_rate == 0.5
    assert (answer.served_by == "specialist") is accepted
    assert upstream.asked == 1
    assert (usage is not None) is accepted  # an escalated request's tokens are its reply's


async def test_a_request_the_coin_spared_costs_nothing_more():
    audits = []
    async with Scripted(REFERENCES) as upstream, stack(upstream, audits, coin=lambda _: 0.5) as s:
        answer = await s.answer(ask("sure"))
    assert not audits and upstream.asked == 0
    assert (answer.decision.audited, answer.decision.audit_rate) == (False, 0.5)


async def test_the_coin_is_tossed_before_deciding_and_the_same_in_a_batch():
    requests = [ask(text, f"r{n}") for n, text in enumerate([*SCORES] * 4)]
    coin = {request.id: n % 3 / 3 for n, request in enumerate(requests)}.__getitem__
    async with stack(None, [], coin=coin) as s:
        single = [await s.decide(request) for request in requests]
        batch = await s.decide_many(requests)
    assert batch == single
    assert [choice.decision.audited for choice in batch] == [n % 3 / 3 < 0.5 for n in range(len(requests))]


@pytest.mark.parametrize(("told", "rate"), [
    ({}, 0.5),
    ({"doubted": True}, 1.0),
    ({"doubted": True, "task": replace(TASK, audit_rate=0.0)}, 0.0),  # never audited, by its owner's will
    ({"doubted": True, "upstream": None}, 0.5),  # nobody to give a reference
])  # fmt: skip
async def test_in_doubt_every_request_is_audited_and_the_coin_says_so(told, rate):
    async with Scripted(REFERENCES) as upstream, stack(**({"upstream": upstream, "audits": []} | told)) as s:
        choice = await s.decide(ask("sure"))
    assert (choice.decision.audited, choice.decision.audit_rate) == (rate > 0.0, rate)


async def test_in_doubt_what_may_not_leave_gets_no_reference_either():
    audits = []
    async with Scripted(REFERENCES) as upstream, stack(upstream, audits, doubted=True, permits=lambda _: False) as s:
        await s.answer(ask("sure"))
    assert upstream.asked == 0
    assert [(audit.agrees, audit.detail) for audit, _ in audits] == [(None, "no reference: kept_local")]


@pytest.mark.parametrize(("content", "numbers"), [("full", [1, 0, None]), ("digest", [None, None, None])])
async def test_a_decision_says_the_answer_by_number_where_contents_are_kept(content, numbers):
    task = replace(TASK, content=content)
    async with stack(None, [], task=task, number=("no", "yes").index) as s:
        choices = await s.decide_many([ask(text, text) for text in ("sure", "unsure", " ")])
    assert [choice.decision.answer for choice in choices] == numbers


async def test_a_missing_reference_is_recorded_as_missing():
    audits = []
    async with Scripted({"other": "yes"}) as upstream, stack(upstream, audits) as s:
        assert (await s.answer(ask("sure"))).content == "yes"
    assert [(audit.agrees, audit.detail) for audit, _ in audits] == [(None, "no reference: upstream_failed")]
    audits.clear()
    async with stack(None, audits) as s:
        await s.answer(ask("sure"))
    assert [(audit.agrees, audit.detail) for audit, _ in audits] == [(None, "no upstream is configured")]


async def test_a_reference_outside_the_closed_set_disagrees():
    audits = []
    async with Scripted({"sure": "I cannot say."}) as upstream, stack(upstream, audits) as s:
        await s.answer(ask("sure"))
    assert audits[0][0].agrees is False


async def test_the_reply_does_not_wait_for_the_audit_but_closing_does():
    audits, gate = [], asyncio.Event()

    class Held(Scripted):
        async def answer(self, request):
            await gate.wait()
            return await super().answer(request)

    async with Held(REFERENCES) as upstream, stack(upstream, audits) as s:
        assert (await s.answer(ask("sure"))).content == "yes"
        assert not audits
        gate.set()
    assert len(audits) == 1


async def test_a_full_backlog_gives_up_the_reference_not_the_reply():
    audits, gate = [], asyncio.Event()

    class Held(Scripted):
        async def answer(self, request):
            await gate.wait()
            return await super().answer(request)

    async with Held(REFERENCES) as upstream, stack(upstream, audits) as s:
        s._backlog = 2
        for n in range(4):
            await s.answer(ask("sure", f"r{n}"))
        gate.set()
    assert upstream.asked == 2
    assert sorted(audit.detail or "" for audit, _ in audits) == ["", ""] + ["2 audits were waiting already"] * 2


@pytest.mark.parametrize(
    ("chunks", "read", "agrees", "detail"),
    [
        ([b'{"choices":[{"message":{"con', b'tent":"no"}}],"usage":{"prompt_tokens":3}}'], 2, True, None),
        (
            [b'{"choices":[{"message":{"con', b'tent":"no"}}]}'],
            1,
            None,
            "the reply is not in the chat format",
        ),
    ],
)
async def test_a_relayed_reply_is_read_as_it_passes(chunks, read, agrees, detail):
    audits = []

    class Relaying(Scripted):
        async def answer(self, request):
            async def send():
                for chunk in chunks:
                    yield chunk

            async def close():
                return None

            return Answer("up", relay=Relay(200, (("Content-Type", "application/json"),), send(), close))

    async with Relaying({}) as upstream, stack(upstream, audits) as s:
        answer = await s.answer(ask("unsure"))
        got = []
        async for chunk in answer.relay.chunks:
            got.append(chunk)
            if len(got) == read:
                break
        await answer.relay.chunks.aclose()
    assert got == chunks[:read]
    assert [(audit.accepted, audit.agrees, audit.detail) for audit, _ in audits] == [(False, agrees, detail)]


@pytest.mark.parametrize(("dialect", "body"), [
    ("chat", b'{"choices":[{"message":{"content":"no"}}]}'),
    ("messages", b'{"content":[{"type":"text","text":"no"}],"stop_reason":"end_turn"}'),
])  # fmt: skip
async def test_a_reply_that_is_there_as_a_whole_is_read_at_once_in_its_dialect(dialect, body):
    audits = []

    class Whole(Scripted):
        async def answer(self, request):
            async def send():
                raise AssertionError("nobody has to iterate over it")
                yield b""

            async def close():
                return None

            return Answer("up", relay=Relay(200, (("Content-Type", "application/json"),), send(), close, body))

    async with Whole({}) as upstream, stack(upstream, audits) as s:
        answer = await s.answer(replace(ask("unsure"), dialect=dialect))
        assert answer.relay.whole == body
    assert [(audit.accepted, audit.agrees, audit.detail) for audit, _ in audits] == [(False, True, None)]


async def test_what_may_not_leave_gets_no_reference():
    audits = []
    async with Scripted(REFERENCES) as upstream, stack(upstream, audits, permits=lambda _: False) as s:
        assert (await s.answer(ask("sure"))).content == "yes"
    assert [(audit.accepted, audit.agrees, audit.detail) for audit, _ in audits] == [
        (True, None, "no reference: kept_local")
    ]
    assert upstream.asked == 0
    async with Scripted(REFERENCES) as upstream, stack(upstream, audits) as s:  # the guard broken on purpose
        await s.answer(ask("sure"))
    assert upstream.asked == 1


@pytest.mark.parametrize("when", list(WhenKept))
async def test_a_kept_request_is_no_evidence(when):
    """Neither the best answer nor a refusal: nobody may give such a request a reference."""
    audits, task = [], replace(TASK, when_kept=when)
    async with Scripted(REFERENCES) as upstream, stack(upstream, audits, task=task, permits=lambda _: False) as s:
        with suppress(KeptLocal):
            answer = await s.answer(ask("unsure"))
            assert answer.decision.reason is Reason.KEPT_LOCAL and not answer.decision.audited
    assert audits == [] and upstream.asked == 0
