import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from insource.risk.betting import log_evidence_above, log_evidence_below
from insource.risk.mean_sequence import MeanSequence, ShareSequence
from insource.risk.simulate import allowed

ALPHA = 0.05


def share_of(wrong) -> ShareSequence:
    sequence = ShareSequence()
    sequence.update(wrong)
    return sequence


def mean_of(losses, largest=1.0) -> MeanSequence:
    sequence = MeanSequence(largest)
    sequence.update(losses)
    return sequence


@settings(deadline=None, max_examples=40)
@given(st.lists(st.booleans(), max_size=60))
def test_one_by_one_is_all_at_once_and_the_mean_lies_inside(wrong):
    one_by_one = ShareSequence()
    for flag in wrong:
        one_by_one.update(flag)
    at_once = share_of(wrong)
    assert one_by_one.to_state() == at_once.to_state()
    low, high = at_once.interval(0.95)
    assert 0.0 <= low <= (at_once.mean if wrong else 0.5) <= high <= 1.0
    assert ShareSequence.from_state(json.loads(json.dumps(at_once.to_state()))).interval(0.95) == (low, high)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), max_size=40))
def test_the_same_for_bounded_losses(losses):
    one_by_one = MeanSequence()
    for loss in losses:
        one_by_one.update(loss)
    at_once = mean_of(losses)
    low, high = at_once.interval(0.95)
    assert one_by_one.interval(0.95) == pytest.approx((low, high), abs=1e-9)
    assert low <= (at_once.mean if losses else 0.5) + 1e-9 and (at_once.mean if losses else 0.5) - 1e-9 <= high
    assert MeanSequence.from_state(json.loads(json.dumps(at_once.to_state()))).interval(0.95) == (low, high)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 300), st.integers(0, 300))
def test_right_and_wrong_turned_round_turn_the_bounds_round(wrong, right):
    low, high = share_of([1] * wrong + [0] * right).interval(0.9)
    assert share_of([0] * wrong + [1] * right).interval(0.9) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_the_bound_is_where_the_evidence_reaches_one_over_alpha():
    sequence = share_of(np.arange(400) % 10 == 0)
    lower, upper = sequence.lower_bound(0.95), sequence.upper_bound(0.95)
    assert sequence.log_evidence_above(lower) == pytest.approx(math.log(20))
    assert sequence.log_evidence_below(upper) == pytest.approx(math.log(20))
    # Near the bound for one look, and wider: (.0765, .1278) one-sided for 40 of 400.
    assert 0.05 < lower < beta.ppf(0.05, 40, 361) and beta.ppf(0.95, 41, 360) < upper < 0.16


def test_01_losses_are_bounded_losses():
    wrong = np.random.default_rng(4).random(2000) < 0.05
    assert mean_of(wrong).interval(0.95) == pytest.approx(share_of(wrong).interval(0.95), abs=1e-4)


def test_more_wrong_answers_never_lower_a_bound():
    bounds = [share_of([1] * wrong + [0] * (200 - wrong)).interval(0.95) for wrong in range(0, 201, 10)]
    assert all(np.all(np.diff(ends) >= 0) for ends in zip(*bounds, strict=True))


def test_a_small_spread_is_worth_evidence():
    """Losses near their mean bound it far more closely than 0/1 losses of that mean do."""
    generator = np.random.default_rng(1)
    narrow = mean_of(generator.uniform(0.15, 0.25, 500)).interval(0.95)
    wide = mean_of(generator.random(500) < 0.2).interval(0.95)
    assert narrow[0] < 0.2 < narrow[1] and narrow[1] - narrow[0] < (wide[1] - wide[0]) / 3


def test_weighted_losses_bound_the_mean_of_all():
    """Seen with chance 1 where unsure and .1 where sure; a plain mean of what was seen would be far off."""
    generator = np.random.default_rng(2)
    unsure = generator.random(20_000) < 0.3
    wrong = generator.random(20_000) < np.where(unsure, 0.3, 0.02)
    chance = np.where(unsure, 1.0, 0.1)
    seen = generator.random(20_000) < chance
    weighted = mean_of(np.where(seen, wrong / chance, 0.0), largest=10.0)
    low, high = weighted.interval(0.95)
    assert low < 0.104 < high < 0.13
    assert weighted.mean == pytest.approx(0.104, abs=0.01)
    assert share_of(wrong[seen]).lower_bound(0.99) > 0.2, "unweighted, the control is sure of the wrong share"


def test_constant_losses_and_none():
    assert mean_of([]).interval(0.95) == (0.0, 1.0) == share_of([]).interval(0.95)
    assert mean_of([]).mean is None and share_of([]).mean is None
    assert mean_of([0.25] * 3000).interval(0.95) == pytest.approx((0.25, 0.25), abs=0.01)
    assert mean_of([0.0] * 300).lower_bound(0.95) == 0.0
    assert share_of([1] * 300).upper_bound(0.95) == 1.0


def crossings(log_evidence, truth, mean, streams, rows, seed):
    """The share of streams in which the evidence ever reached 1/alpha."""
    generator = np.random.default_rng(seed)
    ever = 0
    for _ in range(streams):
        ones = np.cumsum(generator.random(rows) < truth)
        ever += bool(np.any(log_evidence(ones, np.arange(1, rows + 1) - ones, mean) >= -math.log(ALPHA)))
    return ever / streams


def one_look_bound(ones, zeros, mean):
    """Clopper and Pearson's, looked at all the time: the broken guard."""
    return np.where(beta.cdf(mean, np.maximum(ones, 1e-9), zeros + 1) <= ALPHA, 10.0, 0.0)


@pytest.mark.parametrize("log_evidence", [log_evidence_above, log_evidence_below])
def test_looking_at_every_row_the_truth_is_seldom_rejected(log_evidence):
    assert crossings(log_evidence, 0.05, 0.05, 300, 3000, 3) <= allowed(ALPHA, 300)


def test_control_a_bound_for_one_look_breaks():
    assert crossings(one_look_bound, 0.05, 0.05, 100, 2000, 3) > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("log_evidence", [log_evidence_above, log_evidence_below])
def test_the_same_at_length(log_evidence, truth):
    assert crossings(log_evidence, truth, truth, 2000, 10_000, 5) <= allowed(ALPHA, 2000)


def test_what_is_no_loss_is_refused():
    with pytest.raises(ValueError, match="losses holds 1.5"):
        mean_of([0.2, 1.5])
    with pytest.raises(ValueError, match="losses holds nan"):
        mean_of(math.nan)
    with pytest.raises(ValueError, match="wrong holds 0.5"):
        share_of(0.5)
    with pytest.raises(ValueError, match="largest is 0"):
        MeanSequence(0)
    with pytest.raises(ValueError, match="limit is 12"):
        MeanSequence(10).log_evidence_above(12)
    with pytest.raises(ValueError, match="confidence_level is 1"):
        share_of([0]).lower_bound(1.0)
    with pytest.raises(ValueError, match="3 errors among 2 rows"):
        ShareSequence.from_state({"errors": 3, "rows": 2})


def test_a_refused_batch_counts_nothing():
    sequence = mean_of([0.5])
    with pytest.raises(ValueError, match="losses holds"):
        sequence.update([0.1, math.nan])
    assert sequence.rows == 1 and sequence.mean == pytest.approx(0.5)
