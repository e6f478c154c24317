import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.bounds import binomial_upper_bound
from insource.risk.drift import AUDITED, DECIDES, DriftMonitor, Kind, Standing
from insource.risk.drift_answers import AnswerDrift, limits_of
from insource.risk.drift_by_answer import CutsByAnswer, ScoreDriftByAnswer
from insource.risk.drift_embeddings import EmbeddingDistance
from insource.risk.drift_reference import Reference
from insource.risk.drift_risk import WINDOW, RiskDrift
from insource.risk.drift_scores import Cuts, ScoreDrift
from insource.risk.recertify import patience
from insource.risk.restarts import FRACTIONS, RestartedBets, bets
from insource.risk.simulate import allowed


def stored(state):
    return json.loads(json.dumps(state))


def drift_of(values, length=1e5) -> ScoreDrift:
    return ScoreDrift(Cuts.of(values), average_run_length=length)


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
