"""Drift of answers, embeddings and risk, and the monitor that watches all of it together."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.bounds import binomial_upper_bound
from insource.risk.drift import AUDITED, DECIDES, DriftMonitor, Kind, Standing
from insource.risk.drift_answers import AnswerDrift, limits_of
from insource.risk.drift_embeddings import EmbeddingDistance
from insource.risk.drift_reference import Reference
from insource.risk.drift_risk import WINDOW, RiskDrift
from insource.risk.recertify import patience
from tests.risk.drift_states import drift_of, stored

# Answers


def test_limits_are_the_exact_bound_or_the_tolerance():
    answers, ups, limits = limits_of(np.array([500, 480, 20, 0]), 0.03)
    up = dict(zip(answers[ups].tolist(), limits[ups].tolist(), strict=True))
    assert up[0] == pytest.approx(binomial_upper_bound(500, 1_000, 1 - 1e-3 / 8))
    assert up[2] == pytest.approx(0.05) and up[3] == pytest.approx(0.03)
    assert set(answers[~ups].tolist()) == {0, 1}  # a share of 2 % cannot fall by more than the tolerance


def test_within_the_tolerance_is_harmless_and_beyond_it_is_found():
    false, found = 0, []
    for seed in range(10):
        random = np.random.default_rng([7, seed])
        mix = random.dirichlet(np.full(20, 3.0))
        drift = AnswerDrift(random.multinomial(1_000, mix), average_run_length=1e5)
        near = 0.985 * mix + 0.015 * np.eye(20)[3]
        false += drift.update(random.choice(20, p=near, size=5_000))
        far = 0.85 * mix + 0.15 * np.eye(20)[3]
        drift.update(random.choice(20, p=far, size=2_000))
        found.append((drift.alarmed_at or math.inf) - 5_000)
        assert drift.figures().answer == 3 and drift.figures().up
    assert false <= 1 and max(found) < 1_000


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(-1, 2), min_size=2, max_size=60), st.integers(0, 60), st.sampled_from([5, 1e5]))
def test_answers_in_batches_and_after_a_stop(answers, cut, length):
    whole, single, resumed = (AnswerDrift([30, 50, 20], average_run_length=length) for _ in range(3))
    whole.update(answers)
    for answer in answers:
        single.update(answer)
    part = AnswerDrift([30, 50, 20], average_run_length=length)
    part.update(np.array(answers[:cut], dtype=int))
    resumed.restore(stored(part.to_state()))
    resumed.update(np.array(answers[cut:], dtype=int))
    assert single.to_state() == whole.to_state() == resumed.to_state()
    whole.renew()
    assert whole.alarmed_at is None and whole.counts.sum() > 0


def test_answers_outside_the_set_and_bad_numbers():
    drift = AnswerDrift([500, 500], average_run_length=1e4)
    assert drift.update(np.full(200, -1)) and drift.figures().answer == 2
    with pytest.raises(ValueError, match="places in the set"):
        AnswerDrift([5, 5], average_run_length=9).update([2])
    with pytest.raises(ValueError, match="places in the set"):
        AnswerDrift([5, 5], average_run_length=9).update([0.5])
    with pytest.raises(ValueError, match="two or more answers"):
        AnswerDrift([5], average_run_length=9)
    with pytest.raises(ValueError, match="tolerance is -1"):
        AnswerDrift([5, 5], average_run_length=9, tolerance=-1)


# Embeddings


def test_distance_is_mahalanobis_by_hand_and_strangers_lie_farther():
    random = np.random.default_rng(8)
    classes = random.integers(3, size=600)
    centres = 5.0 * random.normal(size=(3, 4))
    vectors = centres[classes] + random.normal(size=(600, 4)) * [1.0, 2.0, 0.5, 1.0]
    fitted = EmbeddingDistance.fit(vectors, classes)
    means = np.array([vectors[classes == kind].mean(axis=0) for kind in range(3)])
    around = vectors - means[classes]
    covariance = around.T @ around / 600
    inverse = np.linalg.inv(covariance + 0.1 * np.trace(covariance) / 4 * np.eye(4))
    point = random.normal(size=4) * 3
    by_hand = min(math.sqrt((point - mean) @ inverse @ (point - mean)) for mean in means)
    assert fitted.distances(point[None])[0] == pytest.approx(by_hand, rel=1e-6)
    again = EmbeddingDistance.from_arrays(fitted.to_arrays())
    assert again.distances(vectors) == pytest.approx(fitted.distances(vectors))


def test_drift_on_embeddings_is_drift_of_their_distances():
    random = np.random.default_rng(9)
    centres = random.normal(size=(5, 100)) * 2

    def drawn(rows, shift=0.0):
        classes = random.integers(5, size=rows)
        return centres[classes] + random.normal(size=(rows, 100)) + shift, classes

    fitted = EmbeddingDistance.fit(*drawn(500))
    drift = drift_of(fitted.distances(drawn(300)[0]))
    assert fitted.projection.shape == (100, 32)
    assert not drift.update(fitted.distances(drawn(2_000)[0]))
    assert drift.update(fitted.distances(drawn(500, 0.8)[0])) and not drift.figures().low
    with pytest.raises(ValueError, match="one class for each row"):
        EmbeddingDistance.fit(np.ones((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="finite"):
        fitted.distances([[math.nan] * 100])


# Risk


def test_it_says_since_when_and_how_far():
    errors, covered = [], 0
    for seed in range(20):
        random = np.random.default_rng([10, seed])
        drift = RiskDrift(0.05, average_run_length=1e5)
        drift.update(random.random(2_000) < 0.02)
        while not drift.update(random.random() < 0.2):
            pass
        since = drift.since()
        errors.append(since.rows - (drift.figures().rows - 2_000))
        covered += since.lower <= 0.2 <= since.upper
    assert abs(np.median(errors)) <= 10 and covered >= 19


def test_the_beginning_is_the_most_likely_one_by_trying_all():
    flags = np.random.default_rng(11).random(200) < np.repeat([0.02, 0.3], 100)
    drift = RiskDrift(0.05, average_run_length=1e9)
    drift.update(flags)

    def gain(start):
        share = flags[start:].mean()
        if not 0.05 < share < 1:
            return 0.0
        ratio = share * math.log(share / 0.05) + (1 - share) * math.log((1 - share) / 0.95)
        return (200 - start) * ratio

    assert drift.since().rows == 200 - max(range(200), key=gain)
    quiet = RiskDrift(0.05, average_run_length=1e9)
    quiet.update(np.zeros(10))
    assert quiet.since() is None and quiet.figures().since is None


def test_the_risk_state_goes_on_and_stays_small():
    flags = np.random.default_rng(12).random(3_000) < 0.04
    drift = RiskDrift(0.05, average_run_length=1e9)
    drift.update(flags[:2_900])
    again = RiskDrift.from_state(stored(drift.to_state()))
    drift.update(flags[2_900:])
    again.update(flags[2_900:])
    assert again.figures() == drift.figures() and len(again.to_state()["recent"]) == WINDOW


# All together


def window_of(random, rows=1_000):
    return Reference.of(
        4,
        scores=random.random(rows),
        answers=random.integers(4, size=rows),
        escalated=random.integers(4, size=rows // 4),
        escalated_wrong=random.random(rows // 4) < 0.3,
    )


def feed(monitor, random, rows, risk=0.02, scores=None, step=20):
    """Feed requests of which three quarters are accepted, as a gateway would; stop where it is crossed."""
    for start in range(0, rows, step):
        values = random.random(step) if scores is None else scores[start : start + step]
        picked = random.random(step) < monitor.audit_rate(0.05) * 0.75
        monitor.requests(scores=values, answers=random.integers(4, size=step))
        monitor.escalated(references=random.integers(4, size=step // 4), wrong=random.random(step // 4) < 0.3)
        wrong = random.random(int(picked.sum())) < risk
        if monitor.audits(wrong=wrong, outside=np.zeros(wrong.size)) is Standing.CROSSED:
            return start + step
    return None


def test_harmless_drift_raises_doubt_and_is_cleared_but_never_suspends():
    random = np.random.default_rng(13)
    monitor = DriftMonitor(0.05, window_of(random))
    assert feed(monitor, random, 2_000) is None and monitor.standing is Standing.CALM
    assert monitor.audit_rate(0.05) == 0.05
    moved, doubted, rows = random.beta(2, 1, size=6_000), 0, 0
    while rows < 6_000:
        assert feed(monitor, random, 20, scores=moved[rows : rows + 20]) is None
        rows += 20
        if monitor.standing is Standing.DOUBT:
            doubted += 1
            assert monitor.audit_rate(0.05) == 1.0
    assert 0 < doubted < 60
    assert monitor.standing is Standing.CALM and monitor.alarms == ()
    assert monitor.cleared > 0 and monitor.lapsed == 0


def test_doubt_buys_evidence_so_that_harm_is_found_much_sooner():
    """A shift of the scores, and a risk of 12 % with it; without a reference nothing but the 5 % audits tells."""
    soon, late = [], []
    for seed in range(6):
        for found, watched in ((soon, True), (late, False)):
            random = np.random.default_rng([14, seed])
            monitor = DriftMonitor(0.05, window_of(random) if watched else Reference())
            feed(monitor, random, 1_000)
            moved = random.beta(2, 1, size=6_000)
            found.append(feed(monitor, random, 6_000, risk=0.12, scores=moved) or 6_000)
    assert np.median(soon) < 1_500 and np.median(soon) < np.median(late) / 2


def test_a_doubt_that_shows_nothing_lapses():
    assert patience(0.05) == 3_484
    random = np.random.default_rng(15)
    monitor = DriftMonitor(0.05, window_of(random))
    monitor.requests(scores=random.beta(3, 1, size=1_000), answers=random.integers(4, size=1_000))
    assert monitor.standing is Standing.DOUBT
    exactly = np.tile(np.arange(20) == 7, 200)  # 5 % wrong, evenly: nothing to be shown either way
    for start in range(0, exactly.size, 10):
        monitor.audits(wrong=exactly[start : start + 10])
    assert (monitor.cleared, monitor.lapsed) == (0, 1)


def test_a_teacher_that_changes_its_format_is_crossed():
    monitor = DriftMonitor(0.05, Reference())
    monitor.audits(outside=np.zeros(500))
    assert monitor.standing is Standing.CALM
    assert monitor.audits(outside=np.ones(30)) is Standing.CROSSED
    assert monitor.drift().alarms == (Kind.FORM,) and monitor.audit_rate(0.05) == 1.0


def test_budgets_add_up_to_the_whole():
    random = np.random.default_rng(16)
    monitor = DriftMonitor(0.05, window_of(random), average_run_length=200_000)
    rates = []
    for kind, figures in monitor.drift().figures.items():
        needed = (figures.figures if kind is Kind.SCORES_BY_ANSWER else figures).log_needed
        rates.append(math.exp(-needed) * (AUDITED if kind in DECIDES else 1.0))
    assert len(rates) == 7
    assert sum(rates) == pytest.approx(1 / 200_000)


def test_the_whole_state_goes_on():
    random = np.random.default_rng(17)
    reference = window_of(random)
    assert Reference.from_state(stored(reference.to_state())) == reference
    first = DriftMonitor(0.05, reference)
    while first.standing is not Standing.DOUBT:
        feed(first, random, 20, scores=random.beta(2, 1, size=20))
    again = DriftMonitor(0.05, Reference.from_state(stored(reference.to_state())))
    again.restore(stored(first.to_state()))
    assert again.drift() == first.drift() and first.standing is Standing.DOUBT
    ends = [(feed(monitor, np.random.default_rng(18), 1_500), monitor.to_state()) for monitor in (first, again)]
    assert ends[0] == ends[1]
    assert len(json.dumps(first.to_state())) < 60_000


def test_with_another_window_what_was_audited_goes_on():
    """What is compared begins anew; risk and form keep their evidence, and alarm at what the kinds now leave them."""
    random = np.random.default_rng(3)
    audits = random.random(300) < 0.08
    before = DriftMonitor(0.05, Reference())
    before.audits(wrong=audits, outside=audits[:50] & False)
    after = before.compared_with(Reference.of(2, scores=random.random(1_000)))
    old, new = (monitor.drift().figures for monitor in (before, after))
    assert set(new) == {Kind.RISK, Kind.FORM, Kind.SCORES} and set(old) == set(DECIDES)
    for kind in DECIDES:
        assert (new[kind].rows, new[kind].log_evidence) == (old[kind].rows, old[kind].log_evidence)
        assert new[kind].log_needed > old[kind].log_needed
    assert after.audits(wrong=np.ones(20)) is Standing.CROSSED
    assert before.drift().figures == old


def test_embeddings_and_answers_outside_are_watched_where_given():
    random = np.random.default_rng(19)
    reference = Reference.of(3, distances=random.random(200), answers=random.integers(-1, 3, size=200))
    monitor = DriftMonitor(0.05, reference)
    assert set(monitor.drift().figures) == {Kind.RISK, Kind.FORM, Kind.EMBEDDINGS, Kind.ANSWERS}
    assert monitor.requests(distances=1 + random.random(200), answers=[0, -1]) is Standing.DOUBT
    with pytest.raises(ValueError, match="places in the set"):
        Reference.of(3, answers=[3])
    with pytest.raises(ValueError, match="one of each"):
        Reference.of(3, scores=random.random(60), answers=[0])
