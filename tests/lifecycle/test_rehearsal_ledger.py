"""What stands around the cascade in a rehearsal: the log's clock, and the ledger as its readers page through it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from insource.answers import learn_answers
from insource.cascade.audit_sample import Finding
from insource.cascade.choice import Choice
from insource.lifecycle.rehearsal_ledger import EPOCH, LogClock, RehearsalLedger
from insource.types import Answer, Audit, Decision, Example, Message, Outcome, Reason, Request

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SPACE = learn_answers(["card", "refund", "card"])


def example(number, time=None):
    return Example(Request(f"r-{number}", (Message("user", "hello"),)), "card", time=time)


def choice(number, reason, *, label="card", version=1, audited=False):
    outcome = Outcome.ACCEPTED if reason is Reason.ABOVE_THRESHOLD else Outcome.ESCALATED
    scored = Answer("v", label, label=label, score=0.7) if version else None
    decision = Decision(f"r-{number}", NOON, outcome, reason, "triage", version, None, 0.7 if version else None,
                        audited=audited, answer=SPACE.index(label) if version else None)  # fmt: skip
    return Choice(decision, scored)


@pytest.fixture
def ledger():
    return RehearsalLedger(LogClock([example(0).request], [example(0)]))


def test_the_log_s_own_times_are_the_clock_and_a_second_passes_where_there_are_none():
    examples = [example(0), example(1, NOON), example(2), example(3, NOON - timedelta(days=1))]
    clock = LogClock([each.request for each in examples], examples)
    found = [clock.now() for clock.row in range(4)]
    assert found == [EPOCH, NOON, NOON + timedelta(seconds=1), NOON - timedelta(days=1)]


async def test_audits_come_in_pages_by_their_numbers(ledger):
    audit = Audit("r-0", NOON, "triage", 1, True, True)
    for number in range(5):
        ledger.decided(choice(number, Reason.ABOVE_THRESHOLD), "hello", SPACE)
        await ledger.record(Finding(replace(audit, request_id=f"r-{number}"), example(number).request))
        await ledger.record(Finding(None, example(number).request, "card"))  # no version was there: no audit
    assert [seq for seq, _ in ledger.audits("triage")] == [2, 4, 6, 8, 10] and ledger.last_row() == 10
    assert [audit.request_id for _, audit in ledger.audits("triage", after=4, limit=2)] == ["r-2", "r-3"]
    assert list(ledger.audits("triage", after=10)) == []


def test_a_reference_makes_a_lesson_and_is_kept_with_the_text(ledger):
    ledger.decided(choice(0, Reason.BELOW_THRESHOLD), "hello", SPACE)
    ledger.decided(choice(1, Reason.NO_SPECIALIST, version=None), "hi", None)
    assert ledger.decision("r-0").content.reference is None and ledger.lessons == []
    ledger.answered("r-0", "refund")
    ledger.answered("r-1", "card")
    assert ledger.decision("r-0").content.reference == "refund" and ledger.decision("r-9") is None
    assert [(each.request_id, each.text, each.answer, each.unbiased) for each in ledger.lessons] == [
        ("r-0", "hello", "refund", False), ("r-1", "hi", "card", True)
    ]  # fmt: skip


def test_signs_of_drift_are_those_that_the_gateway_writes(ledger):
    ledger.decided(choice(0, Reason.ABOVE_THRESHOLD, audited=True), "hello", SPACE)
    ledger.answered("r-0", "refund")  # of an accepted request the audit speaks, not this
    ledger.decided(choice(1, Reason.BELOW_THRESHOLD), "hello", SPACE)
    ledger.answered("r-1", "refund")
    ledger.decided(choice(2, Reason.NO_THRESHOLD), "hello", SPACE)
    ledger.answered("r-2", "something else")
    ledger.decided(choice(3, Reason.NO_SPECIALIST, version=None), "hello", None)
    found = [(each.seq, each.score, each.answer, each.agrees, each.reference)
             for each in ledger.signals("triage", until=ledger.last_row())]  # fmt: skip
    card, refund = SPACE.index("card"), SPACE.index("refund")
    assert found == [(1, 0.7, card, None, None), (3, 0.7, card, None, None), (4, None, None, False, refund),
                     (5, 0.7, card, None, None), (6, None, None, False, -1)]  # fmt: skip
    assert [each.seq for each in ledger.signals("triage", after=1, until=4)] == [3, 4]
