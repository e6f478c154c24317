"""Bets begun anew, and drift of scores: of all answers together, and of each."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.drift_by_answer import CutsByAnswer, ScoreDriftByAnswer
from insource.risk.drift_scores import Cuts, ScoreDrift
from insource.risk.restarts import FRACTIONS, RestartedBets, bets
from insource.risk.simulate import allowed
from tests.risk.drift_states import drift_of, stored

# Bets begun anew


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)), min_size=1, max_size=8))
def test_restarted_bets_are_the_sum_over_all_beginnings(factors):
    rows = np.array(factors)
    detector = RestartedBets(2, average_run_length=1e9)
    detector.take(rows)
    begun = sum(rows[start:].prod(axis=0) for start in range(len(rows)))
    assert math.exp(detector.log_evidence) == pytest.approx(float(np.mean(begun)))


def test_a_bet_on_a_set_is_worth_one_at_its_limit_and_less_under_it():
    factors = bets([[True], [False]], [0.2])
    assert 0.2 * factors[0] + 0.8 * factors[1] == pytest.approx(np.ones(FRACTIONS.size))
    assert np.all(0.1 * factors[0] + 0.9 * factors[1] < 1)
    assert np.all(factors >= 0) and np.all(bets([True], [1.0]) == 1.0)


def test_alarms_add_up_to_what_the_run_length_allows():
    """Expected alarms within H are at most H / length (fair coins); with one beginning's threshold they are not."""

    def alarms(length, seed):
        random = np.random.default_rng(seed)
        detector, count = RestartedBets(FRACTIONS.size, average_run_length=length), 0
        for part in np.array_split(random.random(40_000) < 0.1, 400):
            if detector.take(bets(part[:, None], np.array([0.1]))):
                count += 1
                detector.reset()
        return count

    assert sum(alarms(2_000, seed) for seed in range(5)) <= 100 + 2 * math.sqrt(100)
    assert alarms(20, 0) > 200  # 1 / 0.05, as if begun once


def test_impossible_bets_and_strange_states_are_refused():
    with pytest.raises(ValueError, match="0 gamblers"):
        RestartedBets(0, average_run_length=10)
    with pytest.raises(ValueError, match="average_run_length is 0"):
        RestartedBets(1, average_run_length=0)
    with pytest.raises(ValueError, match="another reference"):
        RestartedBets(2, average_run_length=9).restore({"observations": 1, "alarmed_at": None, "capitals": [1.0]})


# Scores


def test_the_chance_of_a_cell_is_exactly_its_weight():
    """Every order of 20 window values and one more is equally likely: count into which cell the last one falls."""
    window = np.arange(1.0, 21.0)
    cuts = Cuts.of(window)
    falls = np.searchsorted(cuts.edges, np.arange(0.5, 21.0), side="right")  # one value for each of 21 places
    assert np.bincount(falls, minlength=len(cuts.weights)).tolist() == list(cuts.weights)
    assert sum(cuts.weights) == 21


def test_two_more_values_fall_as_the_urn_says():
    """The second value's chance, given the first's cell, by enumeration of all places of both among the window."""
    cuts = Cuts.of(np.arange(1.0, 21.0))
    cell_of_place = np.repeat(np.arange(len(cuts.weights)), np.array(cuts.weights, dtype=int))
    joint = np.zeros((len(cuts.weights),) * 2)
    for first in range(21):
        for second in range(22):  # 22 places once the first is in: those up to its own, then those from it on
            joint[cell_of_place[first], cell_of_place[second - (second > first)]] += 1
    given_first = joint / joint.sum(axis=1, keepdims=True)
    urn = (np.array(cuts.weights) + np.eye(len(cuts.weights))) / 22
    assert given_first == pytest.approx(urn)


def test_after_one_value_its_expectation_is_exactly_one():
    weights = np.array(Cuts.of(np.arange(1.0, 21.0)).weights)
    expected = 0.0
    for place, weight in zip(np.arange(0.5, 21.0), np.full(21, 1 / 21), strict=True):
        drift = drift_of(np.arange(1.0, 21.0))
        drift.update(place)
        expected += weight * math.exp(drift.figures().log_evidence)
    assert expected == pytest.approx(1.0) and weights.sum() == 21


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(-3, 3), min_size=2, max_size=60), st.integers(0, 60), st.sampled_from([30, 1e5]))
def test_batches_and_a_stop_between_change_nothing(values, cut, length):
    window = np.random.default_rng(0).normal(size=50)
    whole, single, stopped = (drift_of(window, length) for _ in range(3))
    whole.update(values)
    for value in values:
        single.update(value)
    stopped.update(values[:cut])
    resumed = drift_of(window, length)
    resumed.restore(stored(stopped.to_state()))
    resumed.update(values[cut:])
    assert resumed.figures() == single.figures() == whole.figures()
    assert resumed.to_state() == whole.to_state()


def test_only_order_counts():
    random = np.random.default_rng(1)
    window, values = random.normal(size=100), random.normal(size=300)
    plain, bent = drift_of(window), drift_of(np.exp(window))
    plain.update(values)
    bent.update(np.exp(values))
    assert plain.figures().log_evidence == pytest.approx(bent.figures().log_evidence)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_stable_scores_are_left_in_peace_ties_or_not_and_a_fixed_window_is_not_enough(decimals):
    """Within H the chance is at most H / length. The control trusts the window's shares as if they were the truth."""

    def draw(random, rows):
        values = random.normal(size=rows)
        return values if decimals is None else np.round(values, decimals)

    false, broken = 0, 0
    marks = np.array([-1.5, -0.5, 0.5, 1.5])
    for seed in range(20):
        random = np.random.default_rng([2, seed])
        window, values = draw(random, 50), draw(random, 4_000)
        false += drift_of(window, 40_000).update(values)
        shares = np.clip((window[:, None] < marks).mean(axis=0), 0.02, 0.98)
        trusting = RestartedBets(2 * marks.size * FRACTIONS.size, average_run_length=40_000)
        low = values[:, None] < marks
        trusting.take(bets(np.concatenate([low, ~low], axis=1), np.concatenate([shares, 1.0 - shares])))
        broken += trusting.alarmed_at is not None
    assert false / 20 <= allowed(0.1, 20)
    assert broken > 10


def test_a_late_shift_of_a_tenth_is_found_and_told():
    found = []
    for seed in range(8):
        random = np.random.default_rng([3, seed])
        drift = drift_of(random.normal(size=500), 1e6)
        assert not drift.update(random.normal(size=5_000))
        late = random.normal(size=2_000)
        late[random.random(2_000) < 0.1] -= 2.5
        drift.update(late)
        found.append((drift.alarmed_at or math.inf) - 5_000)
        figures = drift.figures()
        assert figures.low and figures.seen > figures.expected
    assert np.median(found) < 900 and max(found) < 2_000


def test_after_renewal_the_new_distribution_is_the_window():
    random = np.random.default_rng(4)
    drift = drift_of(random.normal(size=500), 1e5)
    assert drift.update(random.normal(1, size=1_000))
    drift.renew()
    assert drift.alarmed_at is None and not drift.update(random.normal(1, size=3_000))
    assert drift.update(random.normal(2, size=1_000))


def test_unusable_scores_are_refused():
    with pytest.raises(ValueError, match="3 values"):
        Cuts.of([1, 2, 3])
    with pytest.raises(ValueError, match="NaN"):
        drift_of(np.arange(30)).update([0.5, math.nan])
    with pytest.raises(ValueError, match="tolerance is 1"):
        ScoreDrift(Cuts.of(np.arange(30)), average_run_length=10, tolerance=1.0)
    constant = drift_of(np.ones(50))
    assert not constant.update(np.ones(2_000)) and Cuts.from_state(stored(Cuts.of(np.ones(50)).to_state()))


# Scores of each answer


def test_a_stranger_taken_for_one_answer_is_found_sooner_there_than_among_all():
    soon, late = [], []
    for seed in range(6):
        random = np.random.default_rng([5, seed])
        window, answers = random.normal(size=1_000), random.integers(8, size=1_000)
        own = ScoreDriftByAnswer(CutsByAnswer.of(window, answers), average_run_length=1e5)
        every = drift_of(window)
        stable = random.normal(size=3_000)
        assert not own.update(stable, random.integers(8, size=3_000)) and not every.update(stable)
        values, given_as = random.normal(size=4_000), random.integers(8, size=4_000)
        strange = random.random(4_000) < 0.08
        values[strange] -= 1.0
        given_as[strange] = 3
        for start in range(0, 4_000, 50):
            own.update(values[start : start + 50], given_as[start : start + 50])
            if own.alarmed_at is not None:
                break
        soon.append(start)
        every.update(values)
        late.append((every.alarmed_at or 7_000) - 3_000)
        assert own.figures().answer == 3
    assert np.median(soon) < np.median(late) / 2


def test_rare_answers_share_a_window_and_states_go_on():
    random = np.random.default_rng(6)
    scores, answers = random.random(300), random.choice(4, p=[0.4, 0.4, 0.1, 0.1], size=300)
    cuts = CutsByAnswer.of(scores, answers)
    assert set(cuts.answers) == {0, 1} and cuts.rest is not None
    assert CutsByAnswer.from_state(stored(cuts.to_state())) == cuts
    first = ScoreDriftByAnswer(cuts, average_run_length=1e4)
    first.update(scores, answers)
    again = ScoreDriftByAnswer(cuts, average_run_length=1e4)
    again.restore(stored(first.to_state()))
    assert again.figures() == first.figures()
    with pytest.raises(ValueError, match="no answer has a window"):
        ScoreDriftByAnswer(CutsByAnswer({}, None), average_run_length=10)
    with pytest.raises(ValueError, match="one of each"):
        first.update([0.1, 0.2], [1])


@pytest.mark.slow
def test_false_alarms_of_scores_at_length():
    """One in 20,000 requests or fewer, each kind of its own, over a million stable requests."""
    alarms = 0
    for seed, rows in itertools.product(range(50), (20_000,)):
        random = np.random.default_rng([20, seed])
        drift = drift_of(random.normal(size=300), 20_000)
        for part in np.array_split(random.normal(size=rows), 40):
            if drift.update(part):
                alarms += 1
                drift = drift_of(random.normal(size=300), 20_000)
    assert alarms <= 50 + 2 * math.sqrt(50)
