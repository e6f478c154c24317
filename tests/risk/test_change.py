import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.betting import FRACTIONS
from insource.risk.change import LOG_SHARES, ChangeDetector
from insource.risk.mean_sequence import ShareSequence
from insource.risk.simulate import allowed


def watched(outcomes, limit=0.05, average_run_length=20_000) -> ChangeDetector:
    detector = ChangeDetector(limit, average_run_length=average_run_length)
    detector.update(outcomes)
    return detector


def by_definition(outcomes, limit):
    """The sum over beginnings of the e-process begun there, for each fraction, mixed."""
    factors = 1 + FRACTIONS * (np.asarray(outcomes)[:, None] - limit) / limit
    begun = sum(factors[start:].prod(axis=0) for start in range(len(outcomes)))
    return float(np.exp(LOG_SHARES) @ begun)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.02, 0.98))
def test_it_is_the_sum_over_all_beginnings(outcomes, limit):
    assert math.exp(watched(outcomes, limit).log_evidence) == pytest.approx(by_definition(outcomes, limit), rel=1e-9)


@pytest.mark.parametrize("limit", [0.05, 0.5])
def test_after_n_outcomes_at_the_limit_its_expectation_is_exactly_n(limit):
    """What the run length rests on (Shin, Ramdas and Rinaldo 2024), by enumeration."""
    for rows in (1, 3, 8):
        expected = sum(
            limit ** sum(drawn) * (1 - limit) ** (rows - sum(drawn)) * math.exp(watched(drawn, limit).log_evidence)
            for drawn in itertools.product((0, 1), repeat=rows)
        )
        assert expected == pytest.approx(rows, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.integers(1, 40))
def test_batches_and_a_stop_between_change_nothing(outcomes, cut):
    one_by_one = ChangeDetector(0.1, average_run_length=30)
    for outcome in outcomes:
        one_by_one.update(outcome)
    stopped = watched(outcomes[:cut], 0.1, 30)
    resumed = ChangeDetector.from_state(json.loads(json.dumps(stopped.to_state())))
    resumed.update(outcomes[cut:])
    assert resumed.alarmed_at == one_by_one.alarmed_at == watched(outcomes, 0.1, 30).alarmed_at
    assert resumed.log_evidence == pytest.approx(one_by_one.log_evidence, abs=1e-9)
    assert resumed.observations == len(outcomes)


def test_long_batches_are_short_ones():
    outcomes = np.random.default_rng(0).random(10_000) < 0.04
    short = ChangeDetector(0.05, average_run_length=20_000)
    for part in np.array_split(outcomes, 30):
        short.update(part)
    assert short.log_evidence == pytest.approx(watched(outcomes).log_evidence, abs=1e-6)


def test_a_worse_outcome_is_more_evidence():
    outcomes = np.random.default_rng(1).random(100) < 0.1
    here = watched(outcomes).log_evidence
    outcomes[np.flatnonzero(~outcomes)[-1]] = True
    assert watched(outcomes).log_evidence > here


def test_a_rise_after_long_good_times_is_found_soon_and_by_a_plain_sequence_late():
    """3 % wrong for 20,000 rows, then 10 %: median rows until found, limit 5 %."""
    soon, late = [], []
    for seed in range(10):
        generator = np.random.default_rng([2, seed])
        good, bad = generator.random(20_000) < 0.03, generator.random(20_000) < 0.10
        detector = watched(good, average_run_length=400_000)
        assert detector.alarmed_at is None
        detector.update(bad)
        soon.append(detector.alarmed_at - 20_000)
        sequence = ShareSequence()
        sequence.update(good)
        sequence.update(bad[:5000])
        late.append(sequence.log_evidence_above(0.05) >= math.log(20))
    assert np.median(soon) < 400
    assert not any(late)


def run_lengths(limit, truth, average_run_length, streams, seed):
    generator = np.random.default_rng(seed)
    lengths = []
    for _ in range(streams):
        detector = ChangeDetector(limit, average_run_length=average_run_length)
        while not detector.update(generator.random(1024) < truth):
            pass
        lengths.append(detector.alarmed_at)
    return np.array(lengths)


def test_the_average_run_length_is_kept_and_a_change_cuts_it():
    lengths = run_lengths(0.1, 0.1, 100, 200, 3)
    assert lengths.mean() - 2 * lengths.std() / math.sqrt(200) > 100
    assert run_lengths(0.1, 0.3, 100, 50, 4).mean() < 30


def false_alarms(detector_of, limit, horizon, streams, seed):
    generator = np.random.default_rng(seed)
    return sum(detector_of().update(generator.random(horizon) < limit) for _ in range(streams)) / streams


def test_over_a_horizon_false_alarms_are_bounded_and_without_the_sum_in_the_threshold_they_are_not():
    def shipped():
        return ChangeDetector.over_horizon(0.05, horizon=1000, alpha=0.05)

    def broken():  # as if one e-process were watched, begun once
        return ChangeDetector(0.05, average_run_length=1 / 0.05)

    assert shipped().average_run_length == pytest.approx(20_000)
    assert false_alarms(shipped, 0.05, 1000, 200, 5) <= allowed(0.05, 200)
    assert false_alarms(broken, 0.05, 1000, 50, 5) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.02, 0.1, 0.4])
def test_the_same_at_length(limit):
    lengths = run_lengths(limit, limit, 500, 400, 6)
    assert lengths.mean() + 2 * lengths.std() / math.sqrt(400) > 500
    shares = false_alarms(lambda: ChangeDetector.over_horizon(limit, horizon=1000, alpha=0.05), limit, 1000, 1000, 7)
    assert shares <= allowed(0.05, 1000)


def test_bounded_outcomes_and_beginning_anew():
    detector = watched(np.full(200, 0.5), 0.4, 100)
    assert detector.alarmed_at is not None
    detector.reset()
    assert detector.alarmed_at is None and detector.log_evidence == -math.inf and detector.observations == 0
    assert not detector.update(np.full(200, 0.35))
    assert ChangeDetector.from_state(ChangeDetector(0.4, average_run_length=9).to_state()).log_evidence == -math.inf


def test_impossible_settings_and_outcomes_are_refused():
    with pytest.raises(ValueError, match="limit is 0"):
        ChangeDetector(0, average_run_length=10)
    with pytest.raises(ValueError, match="average_run_length is 0.5"):
        ChangeDetector(0.1, average_run_length=0.5)
    with pytest.raises(ValueError, match="horizon is 0"):
        ChangeDetector.over_horizon(0.1, horizon=0, alpha=0.05)
    with pytest.raises(ValueError, match="outcomes holds nan"):
        watched([0, math.nan])
    detector = watched([0, 1])
    with pytest.raises(ValueError, match="outcomes holds 2"):
        detector.update([0, 2])
    assert detector.observations == 2
