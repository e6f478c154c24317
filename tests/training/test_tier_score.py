"""The certificate of a tier: that it and the specialist's keep the promise together, and what happens without care."""

from types import SimpleNamespace

import numpy as np
import pytest

from insource.answers import learn_answers
from insource.risk.band import certify
from insource.risk.simulate import allowed
from insource.training.tier_score import Evidence, Replies, certify_tier, scores_of
from insource.types import Task

SPACE = learn_answers(["a", "b"] * 8)
TASK = Task("triage")
POOL, ROWS, RUNS, BROKEN_RUNS = 8_000, 1_000, 200, 40


def pool(generator):
    """Requests of all degrees of difficulty: where the specialist is unsure, the house is wrong more often, too."""
    hard, own = generator.random(POOL), generator.random(POOL)
    answers = np.array(["a", "b"])
    references = answers[generator.integers(0, 2, POOL)]
    first_wrong = generator.random(POOL) < 0.8 * hard**5
    first_score = 1.0 - hard
    house_wrong = generator.random(POOL) < np.where(hard > 0.8, 0.85 * own**4, 0.001)
    labels = np.where(house_wrong, np.where(references == "a", "b", "a"), references)
    return SimpleNamespace(
        references=references, first_wrong=first_wrong, first_score=first_score, labels=labels,
        house_wrong=house_wrong, probabilities=1.0 - 0.9 * own,
    )  # fmt: skip


def joint_violations(everything, runs):
    """Return the share of runs whose accepted requests, of both tiers, are wrong more often than promised.

    Beside it the mean share of what reaches the house that it accepts. With `everything` the house is certified on
    all rows instead of those that reach it: the control.
    """
    generator = np.random.default_rng(11)
    of = pool(generator)
    broken, shares = [], []
    for _ in range(runs):
        rows = generator.choice(POOL, ROWS, replace=False)
        first = certify(of.first_score[rows], of.first_wrong[rows], target_risk=0.05, confidence_level=0.95)
        accepts = of.first_score >= (np.inf if first.threshold is None else first.threshold)
        left = np.arange(ROWS) if everything else np.flatnonzero(~accepts[rows])
        half = generator.integers(0, 2, ROWS)
        evidence = Evidence(of.references[rows], half, left, (accepts & of.first_wrong)[rows])
        replies = Replies(of.labels[rows][left], of.probabilities[rows][left])
        score, calibration = certify_tier(evidence, replies, TASK, {}, SPACE)
        served = scores_of(score, SPACE, Replies(of.labels, of.probabilities))
        takes = ~accepts & (served >= (np.inf if calibration.threshold is None else calibration.threshold))
        wrong = int((accepts & of.first_wrong).sum() + (takes & of.house_wrong).sum())
        broken.append(wrong > 0.05 * (accepts.sum() + takes.sum()))
        shares.append(takes.sum() / (~accepts).sum())
    return float(np.mean(broken)), float(np.mean(shares))


def test_together_they_keep_the_promise():
    broken, accepted = joint_violations(everything=False, runs=RUNS)
    assert broken <= allowed(0.05, RUNS) and accepted > 0.1


def test_certified_on_all_rows_they_break_it():
    """The guard broken on purpose: the house looks better on what it never sees."""
    assert joint_violations(everything=True, runs=BROKEN_RUNS)[0] > 0.5


def evidence(wrong, left=None, settled_wrong=None):
    n = len(wrong)
    return Evidence(
        np.full(n, "a"),
        np.arange(n) % 2,
        np.arange(n) if left is None else left,
        np.zeros(n, bool) if settled_wrong is None else settled_wrong,
    )


def replies(wrong, probabilities):
    return Replies(np.where(wrong, "b", "a"), np.asarray(probabilities, float))


def test_the_score_rises_with_the_probability_and_all_rows_certify():
    p = np.linspace(0.2, 0.999, 400)
    wrong = (np.arange(400) % 3 == 0) & (p < 0.5)
    score, found = certify_tier(evidence(wrong), replies(wrong, p), TASK, {}, SPACE)
    served = scores_of(score, SPACE, replies(wrong, p))
    assert score.kind == "probability" and np.all(np.diff(served) > 0)
    assert found.rows == 400 and found.accepted == (served >= found.threshold).sum() > 200
    assert found.coverage == found.accepted / 400 and found.method == "tier"


def test_where_it_would_fall_the_plain_probability_stands():
    p = np.linspace(0.2, 0.999, 400)
    score, _ = certify_tier(evidence(p > 0.8), replies(p > 0.8, p), TASK, {}, SPACE)
    assert (score.slope, score.intercept) == (1.0, 0.0)


def test_one_missing_probability_makes_the_answer_the_score_and_halves_the_rows():
    wrong = np.arange(400) % 2 == 1
    wrong[:200] = False
    p = np.full(400, 0.9)
    p[7] = np.nan
    score, found = certify_tier(evidence(wrong), replies(wrong, p), TASK, {}, SPACE)
    assert score.kind == "answer" and len(score.rates) == 2 and found.rows == 200


def test_replies_outside_the_set_are_never_accepted_and_count_in_coverage():
    wrong = np.zeros(400, bool)
    given = replies(wrong, np.full(400, 0.9))
    given.labels[:100] = ""
    score, found = certify_tier(evidence(wrong), given, TASK, {}, SPACE)
    assert (found.accepted, found.rows, found.coverage, found.threshold) == (300, 400, 0.75, 0.0)
    assert (scores_of(score, SPACE, given)[:100] < found.threshold).all()


@pytest.mark.parametrize("n", [0, 12])
def test_nothing_to_go_on_certifies_nothing(n):
    wrong = np.zeros(40, bool)
    given = replies(wrong[:n], np.full(n, 0.9))
    given.labels[:] = ""
    _, found = certify_tier(evidence(wrong, left=np.arange(n)), given, TASK, {"a": 0.1}, SPACE)
    assert (found.threshold, found.coverage, found.rows) == (None, 0.0, 0 if not n else n // 2)


def test_a_guard_counts_what_was_accepted_wrongly_before():
    """The tier itself misses nothing, but the specialist has spent what the guard allows."""
    wrong = np.zeros(400, bool)
    left, before = np.arange(200, 400), np.arange(400) < 30
    given = replies(wrong[left], np.full(200, 0.9))
    _, free = certify_tier(evidence(wrong, left), given, TASK, {"a": 0.05}, SPACE)
    _, spent = certify_tier(evidence(wrong, left, before), given, TASK, {"a": 0.05}, SPACE)
    assert free.threshold == 0.0 and free.guards[0].rows == 400
    assert spent.threshold is None and spent.guards[0].missed == 30
