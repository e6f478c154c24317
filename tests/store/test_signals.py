"""What the ledger says of drift: scores and answers of all requests, and of the escalated whether they agree."""

from insource.store.ledger_reader import LedgerReader
from insource.store.signals import Signal
from insource.types import Outcome, Reason

UP = {"outcome": Outcome.ESCALATED, "reason": Reason.BELOW_THRESHOLD, "audited": False}


async def fill(ledger, make):
    await ledger.append(make.decision(1, answer=4))
    await ledger.append(make.decision(2, score=0.1, answer=0, **UP))
    await ledger.append(make.decision(3, task="other", score=0.5))
    await ledger.append(make.decision(4, tier="house", score=0.6))
    await ledger.append(make.decision(5, version=None, score=None, outcome=Outcome.ESCALATED, reason=Reason.NO_TASK))
    ledger.settle(make.settlement(1)).result()
    ledger.settle(make.settlement(2, agrees=False, reference=-1)).result()


async def test_scores_of_all_requests_and_references_of_the_escalated(open_ledger, make, noon):
    with open_ledger() as ledger:
        await fill(ledger, make)
        home = ledger.path.parent
    with LedgerReader(home) as reader:
        last = reader.last_row()
        found = list(reader.signals("triage", until=last))
        assert found == [
            Signal(2, noon, 3, 0.1 + 0.2, 4), Signal(3, noon, 3, 0.1, 0),
            Signal(8, noon, 3, agrees=False, reference=-1),
        ]  # fmt: skip
        assert last == 8  # the act of the start is row 1
        assert list(reader.signals("triage", after=2, until=7)) == found[1:2]
        assert [each.score for each in reader.signals("other", until=last)] == [0.5]


async def test_they_come_in_pages(open_ledger, make, monkeypatch):
    with open_ledger() as ledger:
        for n in range(9):
            await ledger.append(make.decision(n, score=n / 10, **UP))
            ledger.settle(make.settlement(n, agrees=n % 2 == 0)).result()
        home = ledger.path.parent
    monkeypatch.setattr("insource.store.evidence.PAGE", 4)
    with LedgerReader(home) as reader:
        found = list(reader.signals("triage", until=reader.last_row()))
    assert [each.score for each in found[::2]] == [n / 10 for n in range(9)]
    assert [each.agrees for each in found[1::2]] == [n % 2 == 0 for n in range(9)]
    assert [each.seq for each in found] == sorted(each.seq for each in found)


async def test_an_escalation_for_another_reason_is_no_comparison(open_ledger, make):
    with open_ledger() as ledger:
        await ledger.append(make.decision(1, score=0.9, outcome=Outcome.ESCALATED, reason=Reason.SUSPENDED))
        ledger.settle(make.settlement(1, agrees=True)).result()
        home = ledger.path.parent
    with LedgerReader(home) as reader:
        assert [each.agrees for each in reader.signals("triage", until=9)] == [None]
