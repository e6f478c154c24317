"""`insource audit erase`, as a person runs it."""

import json

import pytest

from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.types import Content, Decision, Outcome, Reason
from reliability.load import NOON


@pytest.fixture
def filled(home):
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for who in ("customer-81", "customer-82"):
            decision = Decision(who, NOON, Outcome.ESCALATED, Reason.NO_SPECIALIST, task="t")
            ledger.append_now(decision, Content(who, NOON, "t", "a text", subject=who), keep_text=True)
    return home


def test_a_subject_is_erased_and_the_ledger_has_it_at_once(run, filled):
    done = run("audit", "erase", "--subject", "customer-81", "--who", "dpo", "--why", "ticket 7", "--yes")
    assert done.code == 0, done.err
    assert "1 texts or digests in the ledger, 0 reviews, 0 rows in 0 snapshots" in " ".join(done.out.split())
    assert "No specialist learned from it." in done.out
    with LedgerReader(filled) as ledger:
        assert ledger.decision("customer-81").content is None
        assert ledger.decision("customer-82").content.text == "a text"
        (act,) = [act for act in ledger.acts() if act.what == "erase"]
    assert act.who == "dpo" and "customer-81" not in f"{act.subject} {act.detail}"
    assert run("audit", "verify").code == 0


def test_beside_a_gateway_the_text_is_gone_at_once_and_the_act_follows(run, filled):
    with Ledger.open(filled, clock=lambda: NOON):
        done = run("audit", "erase", "--subject", "customer-81", "--why", "ticket 7", "--json", "-")
        told = json.loads(done.out)
        assert (told["texts"], told["reviews"], told["snapshots"], told["learned"]) == (1, [], {}, [])
        assert "the running gateway" in done.err.lower()
        with LedgerReader(filled) as ledger:
            assert ledger.decision("customer-81").content is None


@pytest.mark.parametrize(
    ("subject", "why", "said"),
    [(" ", "ticket 7", "--subject is blank"), ("customer-81", "customer-81 asked", "--why names the subject")],
)
def test_what_would_erase_nobody_or_name_somebody_for_good_is_refused(run, filled, subject, why, said):
    done = run("audit", "erase", "--subject", subject, "--why", why, "--yes")
    assert done.code != 0 and said in done.err
    with LedgerReader(filled) as ledger:
        assert ledger.decision("customer-81").content is not None and not ledger.acts("erase")
