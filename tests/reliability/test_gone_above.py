"""X5 and A5: a text that reached an upstream which no record names is told."""

from dataclasses import replace

import pytest

from insource.store.ledger_reader import LedgerRow
from insource.types import Decision, Outcome, Reason, Settlement
from reliability import a05_one_record as a05
from reliability.harness import Tally
from reliability.load import NOON
from reliability.mixed_requests import Asked
from reliability.noted_egress import ToldAway
from reliability.raw_http import Reply

HERE = Decision("r-1", NOON, Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, task="triage", version=1)
ROW = LedgerRow(1, HERE, Settlement("r-1", NOON, 200, "specialist", 0.1), (), None, b"", False)
TOLD = Reply(200, {"x-insource-request-id": "r-1"}, b"", True)
NOBODY = frozenset[str]()


def judged(kind, row, above):
    tally = Tally()
    a05._match_one(tally, 0, Asked(kind, reply=TOLD), [row], above)
    return [what for what in a05.WRONG if tally.counts[what]]


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.KEPT])
def test_a_request_whose_row_says_that_it_stayed_may_not_have_gone_above(outcome):
    row = replace(ROW, decision=replace(HERE, outcome=outcome))
    assert judged("served", row, above=False) == []
    assert judged("served", row, above=True) == ["asked above unsaid"]


@pytest.mark.parametrize("kind", sorted(a05.RESTRICTED))
def test_a_restricted_request_may_not_have_gone_above_whatever_its_row_says(kind):
    row = replace(ROW, decision=replace(HERE, outcome=Outcome.ESCALATED))
    assert judged(kind, row, above=True) == ["asked above unsaid"]
    assert judged("served", row, above=True) == []


def test_one_that_an_audit_sends_up_as_well_is_no_complaint():
    row = replace(ROW, decision=replace(HERE, audited=True, version=None))
    assert judged("shadowed", row, above=True) == []


@pytest.mark.parametrize(
    ("arrived", "stayed", "answered", "tiers", "elsewhere", "fits"),
    [
        (set(), True, NOBODY, NOBODY, False, True),
        ({"main"}, True, NOBODY, NOBODY, False, False),
        ({"main"}, False, {"main"}, NOBODY, False, True),
        (set(), False, {"main"}, NOBODY, False, False),
        ({"main", "house"}, False, {"main"}, NOBODY, False, False),
        ({"main", "house"}, False, {"main"}, {"house"}, False, True),
        ({"main", "down"}, False, {"main"}, NOBODY, False, True),
        ({"main"}, False, NOBODY, NOBODY, True, True),
    ],
)
def test_what_an_auditor_is_told_fits_what_arrived(arrived, stayed, answered, tiers, elsewhere, fits):
    told = ToldAway("r-1", stayed, frozenset(answered), frozenset(tiers), elsewhere)
    assert told.fits(arrived, {"down"}) is fits
