from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.store import columns
from insource.store.contents import content_digest
from insource.types import Audit, Content, Decision, Outcome, Reason, Settlement, Stage, Usage

TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.floats(allow_nan=False)
COUNTS = st.integers(0, 2**53)
MONEY = st.none() | st.decimals(allow_nan=False, allow_infinity=False)
maybe = lambda values: st.none() | values  # noqa: E731

DECISIONS = st.builds(
    Decision, NAMES, TIMES, st.sampled_from(Outcome), st.sampled_from(Reason), maybe(NAMES), maybe(COUNTS),
    maybe(NAMES), maybe(NUMBERS), maybe(NUMBERS), st.booleans(), NUMBERS, maybe(NAMES),
)  # fmt: skip
SETTLEMENTS = st.builds(
    Settlement, NAMES, TIMES, COUNTS, NAMES, NUMBERS, maybe(NUMBERS), maybe(st.builds(Usage, COUNTS, COUNTS)), MONEY,
    MONEY, maybe(NUMBERS), maybe(NAMES),
)  # fmt: skip
AUDITS = st.builds(
    Audit, NAMES, TIMES, NAMES, COUNTS, st.booleans(), maybe(st.booleans()), maybe(NAMES), maybe(st.booleans()),
    maybe(st.sampled_from(Stage)), maybe(NUMBERS), maybe(NUMBERS),
)  # fmt: skip
FEEDBACK = st.builds(columns.Feedback, NAMES, TIMES, NAMES, NAMES, NAMES, st.sampled_from(columns.Source))
ANY_TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too
CONTENTS = st.builds(
    Content, st.just("r-1"), st.just(datetime(2026, 1, 1, tzinfo=UTC)), st.none(), ANY_TEXT, maybe(ANY_TEXT),
    maybe(ANY_TEXT),
)  # fmt: skip


@given(DECISIONS)
def test_decisions_come_back_as_they_were(decision):
    values = columns.decision_values(decision, b"digest")
    assert columns.to_decision(values) == decision
    assert values[columns.DECISION.split(", ").index("content_digest")] == b"digest"
    assert len(values) == len(columns.DECISION.split(","))


@given(SETTLEMENTS)
def test_settlements_come_back_as_they_were(settlement):
    values = columns.settlement_values(settlement, None)
    read = columns.to_settlement(values)
    assert read == settlement and str(read.cost) == str(settlement.cost)
    assert len(values) == len(columns.SETTLEMENT.split(","))


@given(AUDITS)
def test_audits_come_back_as_they_were(audit):
    values = columns.audit_values(audit, None)
    assert columns.to_audit(values) == audit
    assert len(values) == len(columns.AUDIT.split(","))


@given(FEEDBACK)
def test_feedback_comes_back_as_it_was(feedback):
    values = columns.feedback_values(feedback)
    assert columns.to_feedback(values) == feedback
    assert len(values) == len(columns.FEEDBACK.split(","))


@given(CONTENTS, CONTENTS)
def test_only_equal_contents_share_a_digest_under_one_salt(one, other):
    assert (content_digest(b"salt", one) == content_digest(b"salt", other)) == (one == other)
    assert content_digest(b"salt", one) != content_digest(b"pepper", one)


def test_moving_text_between_fields_changes_the_digest():
    one = Content("r-1", datetime(2026, 1, 1, tzinfo=UTC), None, "a", "b\1c", "d")
    moved = Content("r-1", datetime(2026, 1, 1, tzinfo=UTC), None, "a\1b", "c", "d")
    assert content_digest(b"salt", one) != content_digest(b"salt", moved)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(TypeError):
        columns.micros(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_what_is_no_amount_is_refused(amount):
    with pytest.raises(ValueError, match="is not an amount of money"):
        columns.money(Decimal(amount))


def test_a_detail_that_utf8_cannot_hold_is_escaped():
    assert columns.plain("caf\u00e9 \ud800") == "caf\u00e9 \\ud800"
