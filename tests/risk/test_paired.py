import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.paired import Comparison, PairedTest, Verdict
from insource.risk.simulate import allowed

ALPHA = 0.05
PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=120)


def drawn(generator, pairs, discordance, drop=0.0):
    """0/1 losses of the incumbent and of the candidate."""
    chance = generator.random(pairs)
    candidate_only = chance < (discordance + drop) / 2
    return (chance < discordance) & ~candidate_only, candidate_only


def decided(pairs, **settings) -> PairedTest:
    test = PairedTest(**settings)
    test.update(*(np.array(pairs, dtype=float).reshape(-1, 2).T))
    return test


@settings(deadline=None, max_examples=30)
@given(PAIRS, st.integers(0, 120), st.sampled_from([0.1, 0.3, None]), st.booleans())
def test_one_by_one_in_batches_and_resumed_are_the_same(pairs, cut, margin, bounded):
    chosen = {"margin": margin, "promote_alpha": 0.2, "roll_back_alpha": 0.2, "bounded": bounded}
    one_by_one = PairedTest(**chosen)
    for incumbent, candidate in pairs:
        one_by_one.update(incumbent, candidate)
    resumed = PairedTest.from_state(json.loads(json.dumps(decided(pairs[:cut], **chosen).to_state())))
    resumed.update(*(np.array(pairs[cut:], dtype=float).reshape(-1, 2).T))
    assert one_by_one.to_state() == resumed.to_state() == decided(pairs, **chosen).to_state()
    assert one_by_one.comparison() == resumed.comparison()


@settings(deadline=None, max_examples=30)
@given(PAIRS)
def test_exchanging_both_exchanges_the_verdicts(pairs):
    turned = [(candidate, incumbent) for incumbent, candidate in pairs]
    one, other = decided(pairs, margin=0.0), decided(turned, margin=0.0)
    swap = {Verdict.PROMOTE: Verdict.ROLL_BACK, Verdict.ROLL_BACK: Verdict.PROMOTE}
    assert other.verdict == swap.get(one.verdict, one.verdict) and other.decided_at == one.decided_at
    this, that = one.comparison(), other.comparison()
    assert (this.lower_bound, this.upper_bound) == pytest.approx((-that.upper_bound, -that.lower_bound), abs=1e-9)
    assert this.promote_e_value == pytest.approx(that.roll_back_e_value)


@settings(deadline=None, max_examples=30)
@given(PAIRS, st.data())
def test_a_worse_candidate_is_more_evidence_to_roll_back(pairs, data):
    better = [place for place, pair in enumerate(pairs) if pair[1] == 0]
    if not better:
        return
    place = data.draw(st.sampled_from(better))
    worse = [*pairs[:place], (pairs[place][0], 1), *pairs[place + 1 :]]
    before, after = decided(pairs).comparison(), decided(worse).comparison()
    assert after.roll_back_e_value >= before.roll_back_e_value
    assert after.promote_e_value <= before.promote_e_value
    assert after.lower_bound >= before.lower_bound - 1e-9


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_bounds_hold_the_mean_seen(pairs):
    comparison = decided(pairs, bounded=True).comparison()
    assert comparison.difference == pytest.approx(np.mean([theirs - ours for ours, theirs in pairs]), abs=1e-9)
    assert -1 <= comparison.lower_bound <= comparison.difference + 1e-9
    assert comparison.difference - 1e-9 <= comparison.upper_bound <= 1


def test_the_first_verdict_stands():
    worse, better = [(0, 1)] * 30, [(1, 0)] * 300
    test = decided(worse + better)
    assert test.verdict is Verdict.ROLL_BACK and test.decided_at < 15
    assert test.pairs == 330
    assert test.comparison().pairs_to_verdict == 0
    assert test.comparison().promote_e_value > 20, "which would promote, had it not been rolled back"


def test_nothing_seen_decides_nothing():
    empty = Comparison(Verdict.UNDECIDED, 0, None, pytest.approx(1.0), pytest.approx(1.0), None, -1.0, 1.0, None)
    assert PairedTest().comparison() == empty
    assert PairedTest().update([], []) is Verdict.UNDECIDED
    assert PairedTest(margin=None).comparison().promote_e_value is None


def test_without_a_margin_it_never_promotes():
    test = decided([(1, 0)] * 2000, margin=None)
    assert test.verdict is Verdict.UNDECIDED and test.comparison().pairs_to_verdict is None


def test_equal_answers_promote_within_the_margin_and_the_forecast_says_when():
    test = decided([(0, 0)] * 100)
    forecast = test.comparison().pairs_to_verdict
    assert decided([(0, 0)] * (100 + forecast)).decided_at == 100 + forecast
    assert decided([(0, 0)] * (99 + forecast)).verdict is Verdict.UNDECIDED


def test_the_forecast_is_about_the_median():
    """Drop 5 points: forecast from 100 pairs of exactly those shares, against the median seen."""
    waits = []
    for seed in range(100):
        test = PairedTest(margin=None)
        test.update(*drawn(np.random.default_rng([9, seed]), 5000, 0.10, 0.06))
        waits.append(test.decided_at)
    shares = [(0, 1)] * 8 + [(1, 0)] * 2 + [(0, 0)] * 90
    assert decided(shares, margin=None).comparison().pairs_to_verdict + 100 == pytest.approx(np.median(waits), rel=0.4)


def verdicts(streams, pairs, discordance, drop, seed, **chosen):
    found = []
    for stream in range(streams):
        test = PairedTest(**chosen)
        test.update(*drawn(np.random.default_rng([seed, stream]), pairs, discordance, drop))
        found.append((test.verdict, test.decided_at))
    return found


def share(found, verdict):
    return sum(each == verdict for each, _ in found) / len(found)


def test_false_alarms_and_false_promotions_are_bounded():
    alarms = verdicts(200, 8000, 0.06, 0.0, 1, margin=None)
    assert share(alarms, Verdict.ROLL_BACK) <= allowed(ALPHA, 200)
    # A loss of exactly the margin, and a roll back that is not asked for: every promotion is false.
    wrong = verdicts(60, 4000, 0.12, 0.02, 2, roll_back_margin=0.9)
    assert share(wrong, Verdict.PROMOTE) <= allowed(ALPHA, 60)


def test_control_a_test_for_one_look_breaks():
    alarms = 0
    for stream in range(100):
        incumbent, candidate = drawn(np.random.default_rng([3, stream]), 8000, 0.06)
        worse, better = np.cumsum(candidate), np.cumsum(incumbent)
        alarms += bool(np.any(worse - better > 1.645 * np.sqrt(worse + better + 1e-9)))
    assert alarms / 100 > 0.3


def test_a_candidate_that_loses_nothing_is_promoted():
    found = verdicts(60, 20_000, 0.12, 0.0, 4)
    promoted = [at for verdict, at in found if verdict is Verdict.PROMOTE]
    assert np.median(promoted) <= 2500 and len(promoted) >= 54


def test_bounded_losses_decide_too():
    generator = np.random.default_rng(5)
    incumbent = generator.uniform(0.1, 0.3, 4000)
    noise = generator.uniform(-0.1, 0.1, 4000)
    assert decided(np.column_stack([incumbent, incumbent + noise]), bounded=True).verdict is Verdict.PROMOTE
    assert decided(np.column_stack([incumbent, incumbent + noise + 0.05]), bounded=True).verdict is Verdict.ROLL_BACK


# Median pairs to promotion where nothing is lost; least power within 20,000 pairs; margin, discordance.
POWER = [
    (0.02, 0.06, 1100, 0.93),
    (0.02, 0.12, 2500, 0.93),
    (0.02, 0.20, 4300, 0.92),
    (0.03, 0.06, 500, 0.93),
    (0.03, 0.12, 1000, 0.93),
    (0.03, 0.20, 1800, 0.92),
]


@pytest.mark.slow
@pytest.mark.parametrize(("margin", "discordance", "most", "power"), POWER)
def test_power_and_error_of_a_promotion(margin, discordance, most, power):
    """The table in PairedTest's docstring."""
    found = verdicts(400, 20_000, discordance, 0.0, 7, margin=margin)
    assert np.median([at if verdict is Verdict.PROMOTE else math.inf for verdict, at in found]) <= most
    assert share(found, Verdict.PROMOTE) >= power
    assert share(found, Verdict.ROLL_BACK) <= allowed(ALPHA, 400)
    wrong = verdicts(200, 10_000, discordance, margin, 8, margin=margin, roll_back_margin=0.9)
    assert share(wrong, Verdict.PROMOTE) <= allowed(ALPHA, 200)


@pytest.mark.parametrize(
    ("incumbent", "candidate", "message"),
    [
        ([0, 1], [0], "2 losses of the incumbent and 1"),
        (math.nan, 0, "incumbent holds nan"),
        (0, 0.5, "candidate holds 0.5"),
        (0, None, "candidate holds nan"),
    ],
)
def test_what_is_no_pair_is_refused(incumbent, candidate, message):
    test = PairedTest()
    with pytest.raises(ValueError, match=message):
        test.update(incumbent, candidate)
    assert test.pairs == 0


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="promote_alpha is 0"):
        PairedTest(promote_alpha=0)
    with pytest.raises(ValueError, match="margin is 1"):
        PairedTest(roll_back_margin=1)
    with pytest.raises(ValueError, match="candidate holds 1.5"):
        PairedTest(bounded=True).update(0.5, 1.5)
