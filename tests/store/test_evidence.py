"""Audits as pairs, feedback, references and requests to label: written, refused twice, and read in order."""

import asyncio
from datetime import timedelta

import apsw
import pytest

from insource.errors import StoreError
from insource.store import evidence
from insource.store.columns import Feedback, Source
from insource.store.ledger import FILE, Ledger
from insource.store.ledger_reader import LedgerReader
from insource.types import Outcome, Reason, Stage

UP = {"outcome": Outcome.ESCALATED, "reason": Reason.BELOW_THRESHOLD}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def say(noon):
    """Makes feedback on request number `n`."""

    def make(n, **changes):
        values = {"request_id": f"r-{n}", "time": noon, "task": "triage", "answer": "card", "who": "ada",
                  "source": Source.LABEL}  # fmt: skip
        return Feedback(**(values | changes))

    return make


async def written(*futures):
    return await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)


async def test_the_audits_of_one_request_are_pairs(open_ledger, make, home):
    ledger = open_ledger()
    await ledger.append(make.decision(1))
    pair = (
        make.audit(1, accepts=True, stage=Stage.ACTIVE, score=0.75, seconds=0.002),
        make.audit(1, version=4, accepted=False, agrees=False, accepts=False, stage=Stage.CANARY, score=0.1),
    )
    assert await written(*map(ledger.audit, pair)) == [None, None]
    with LedgerReader(home) as reader:
        assert reader.decision("r-1").audits == pair
        assert [audit for _, audit in reader.audits("triage")] == list(pair)


async def test_evidence_twice_is_refused_alone_and_counted(open_ledger, make, home, say):
    """The same audit with another score, the same feedback, and feedback on nothing, in commits with good rows."""
    ledger = open_ledger()
    await asyncio.gather(*[ledger.append(make.decision(n)) for n in range(12)])
    good = [make.audit(n, accepts=True, score=0.5) for n in range(12)]
    await written(*map(ledger.audit, good))
    await ledger.feedback(say(1))
    rows = [ledger.audit(make.audit(n, version=4)) for n in range(6)]
    rows += [ledger.audit(make.audit(3, score=0.9, agrees=False, accepts=False)), ledger.audit(make.audit("nobody"))]
    rows += [ledger.audit(make.audit(n, version=4)) for n in range(6, 12)]
    results = await asyncio.gather(
        *map(asyncio.wrap_future, rows), ledger.feedback(say(1)), ledger.feedback(say("nobody")),
        ledger.feedback(say(2)), ledger.feedback(say(3, source="hearsay")), return_exceptions=True,
    )  # fmt: skip
    assert [n for n, each in enumerate(results) if each is not None] == [6, 7, 14, 15, 17]
    assert all(isinstance(each, StoreError) and "refused a row" in str(each) for each in results if each)
    assert ledger.lost == 2  # feedback is waited for: whoever gave it is told
    with LedgerReader(home) as reader:
        found = [audit for _, audit in reader.audits()]
        assert found[:12] == good and [audit.version for audit in found[12:]] == [4] * 12
        assert reader.feedback("r-1") == (say(1),) and reader.feedback("r-2") == (say(2),)
        assert reader.feedback("nobody") == reader.feedback("r-3") == ()


async def test_audits_come_by_task_after_a_row_and_up_to_a_limit(open_ledger, make, home, monkeypatch):
    monkeypatch.setattr(evidence, "PAGE", 7)
    ledger = open_ledger()
    await asyncio.gather(*[ledger.append(make.decision(n)) for n in range(40)])
    await written(*[ledger.audit(make.audit(n, task="a" if n % 2 else "b")) for n in range(40)])
    with LedgerReader(home) as reader:
        found = list(reader.audits())
        assert [seq for seq, _ in found] == sorted({seq for seq, _ in found}) and len(found) == 40
        assert [audit.request_id for _, audit in reader.audits("a")] == [f"r-{n}" for n in range(1, 40, 2)]
        assert list(reader.audits(after=found[9][0])) == found[10:]
        assert list(reader.audits(after=found[9][0], limit=9)) == found[10:19]
        assert list(reader.audits("a", limit=0)) == list(reader.audits("c")) == []
        assert list(reader.audits(after=found[-1][0])) == []
        await written(ledger.audit(make.audit(1, version=9)))
        assert [audit.version for _, audit in reader.audits(after=found[-1][0])] == [9]


async def test_a_tail_that_is_read_while_it_grows_misses_nothing_and_holds_no_snapshot(open_ledger, make, home,
                                                                                       monkeypatch):  # fmt: skip
    monkeypatch.setattr(evidence, "PAGE", 5)
    ledger = open_ledger()
    await asyncio.gather(*[ledger.append(make.decision(n)) for n in range(30)])
    await written(*[ledger.audit(make.audit(n)) for n in range(5)])
    seen = []
    with LedgerReader(home) as reader:
        for _, audit in reader.audits():
            seen.append(audit.request_id)
            if len(seen) < 26:
                await written(ledger.audit(make.audit(len(seen) + 4)))
        assert not reader._connection.in_transaction
    assert seen == [f"r-{n}" for n in range(30)]


async def test_a_reference_is_the_upstreams_or_gold_and_never_an_accepted_answer(open_ledger, make, home, noon, say):
    ledger = open_ledger()
    full = {"keep_text": True}
    for n, more in ((1, UP), (2, {}), (3, {"tier": "llama"}), (4, UP), (5, UP)):
        time = noon + timedelta(minutes=n)
        await ledger.append(make.decision(n, time=time, **more), make.content(n, answer=None), keep_text=n != 4)
    said = lambda n: make.content(n, answer="card", reference="card")  # noqa: E731
    await written(
        ledger.settle(make.settlement(1), said(1), **full),
        ledger.audit(make.audit(1, accepted=False), said(1), **full),  # the same reference once more
        ledger.audit(make.audit(1, version=4, accepted=False), said(1), **full),
        ledger.settle(make.settlement(2)),
        ledger.audit(make.audit(2), make.content(2, answer=None, reference="refund"), **full),
        ledger.settle(make.settlement(3), said(3), **full),  # what a tier in the house said, and was accepted
        ledger.settle(make.settlement(4), said(4), keep_text=False),  # digest only
        ledger.settle(make.settlement(5), make.content(5, answer="fault", reference=None), **full),  # no reference
    )
    for n, answer in ((1, "refund"), (3, "card"), (4, "card"), (5, "other")):
        await ledger.feedback(say(n, answer=answer, source=Source.REVIEW))
    await ledger.feedback(say(5, answer="card \ud800", who="grace"))
    await ledger.feedback(say(2, task="elsewhere"))
    with LedgerReader(home) as reader:
        found = list(reader.references("triage"))
        assert [(each.request_id, each.reference, each.source) for each in found] == [
            ("r-1", "card", "upstream"), ("r-2", "refund", "upstream"), ("r-1", "refund", "gold"),
            ("r-3", "card", "gold"), ("r-5", "other", "gold"), ("r-5", "card \\ud800", "gold"),
        ]  # fmt: skip
        assert found[0].text == "where is my card 1?" and found[3].time == noon + timedelta(minutes=3)
        assert [each.seq for each in found] == sorted(each.seq for each in found)
        assert list(reader.references("triage", found[1].seq)) == found[2:]
        assert list(reader.references("triage", found[1].seq, 2)) == found[2:4]
        assert list(reader.references("elsewhere"))[0].request_id == "r-2" and not list(reader.references("c"))
        seq, request_id, _, text, reference, source, seal = found[0]
        assert (request_id, reference, source, len(seal)) == ("r-1", "card", "upstream", 1)


async def test_references_come_in_pages_and_go_when_erased(open_ledger, make, home, later, monkeypatch, say):
    monkeypatch.setattr(evidence, "PAGE", 3)
    ledger = open_ledger()
    for n in range(10):
        await ledger.append(make.decision(n, **UP), make.content(n), keep_text=True)
        await written(ledger.settle(make.settlement(n), make.content(n, reference="card"), keep_text=True))
        if n % 3 == 0:
            await ledger.feedback(say(n))
    with LedgerReader(home) as reader:
        found = list(reader.references("triage"))
        assert [each.source for each in found].count("gold") == 4 and len(found) == 14
        assert len({each.seq for each in found}) == 14
        await ledger.purge(later)
        assert list(reader.references("triage")) == []


async def test_what_to_label_is_uncertain_kept_and_not_labelled_yet(open_ledger, make, home, noon, say):
    ledger = open_ledger()
    for n, more in enumerate(({}, UP, {"audited": False}, UP, {**UP, "task": "other"}, UP)):
        time = noon + timedelta(minutes=n)
        await ledger.append(make.decision(n, time=time, **more), make.content(n), keep_text=n != 3)
    await ledger.feedback(say(1))
    with LedgerReader(home) as reader:
        rows = reader.unlabelled("triage")
        assert [row.decision.request_id for row in rows] == ["r-5", "r-0"]
        assert rows[0].content.text == "where is my card 5?"
        assert len(reader.unlabelled("triage", 1)) == 1 and reader.unlabelled("nobody") == ()
        assert reader.knows("r-1") and not reader.knows("r-9")


async def test_feedback_shares_the_one_sequence(open_ledger, make, home, say, noon):
    ledger = open_ledger()
    await ledger.append(make.decision(1))
    await ledger.feedback(say(1))
    ledger.close()
    with Ledger.open(home, clock=lambda: noon) as again:
        again.feedback_now(say(1, answer="refund", who="grace"))
    connection = apsw.Connection(str(home / FILE))
    tables = ("decisions", "acts", "feedback")
    numbers = sorted(row[0] for table in tables for row in connection.execute(f"SELECT seq FROM {table}"))
    assert numbers == [1, 2, 3, 4, 5]
    for change in ("UPDATE feedback SET answer = 'x'", "DELETE FROM feedback"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            connection.execute(change)
    connection.execute("DROP TRIGGER feedback_are_not_deleted")  # the control
    connection.execute("DELETE FROM feedback")
    assert connection.changes() == 2
    connection.close()


async def test_of_accepted_requests_only_a_label_that_was_bought_is_a_reference(open_ledger, make, home):
    """What a tier in the house answered itself lies in its settlement as well, and is never one."""
    ledger, spared = open_ledger(), {"audited": False, "audit_rate": 0.0}
    for n, tier, said in ((1, None, None), (2, "llama", "card"), (3, None, "card"), (4, "llama", None)):
        await ledger.append(make.decision(n, tier=tier, **spared))
        content = make.content(n, answer=said, reference="refund")
        await written(ledger.settle(make.settlement(n), content, keep_text=True))
    with LedgerReader(home) as reader:
        found = [(each.request_id, each.reference, each.source) for each in reader.references("triage")]
    assert found == [("r-1", "refund", "upstream")]
