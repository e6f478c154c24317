import math

import numpy as np
import pytest

from insource.risk.bounds import binomial_upper_bound
from insource.risk.calibrate import calibrate
from insource.risk.notes import rows_wanted
from insource.types import Calibration


def calibrated(
    scores: np.ndarray, wrong: np.ndarray, references: np.ndarray, guards: dict | None = None, **more: float
) -> Calibration:
    promise = {"target_risk": 0.05, "confidence_level": 0.95} | more
    return calibrate(scores, wrong, references, guards or {}, method="test", **promise)


def safety(rows: int = 2000, share: float = 0.05, missed: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of which `share` are 'unsafe'; `missed` of those are called safe, as surely as the safe ones."""
    generator = np.random.default_rng(7)
    unsafe = generator.random(rows) < share
    wrong = unsafe & (generator.random(rows) < missed)
    scores = np.clip(generator.normal(0.8, 0.1, rows), 0, 1)
    return scores, wrong, np.where(unsafe, "unsafe", "safe")


def test_the_result_holds_the_promise_and_its_figures() -> None:
    generator = np.random.default_rng(1)
    scores = generator.random(1000)
    wrong = generator.random(1000) < 0.5 * (1 - scores) ** 4
    result = calibrated(scores, wrong, np.where(generator.random(1000) < 0.5, 0, 1))
    accepted = scores >= result.threshold
    assert (result.accepted, result.errors) == (accepted.sum(), (accepted & wrong).sum())
    assert (result.method, result.rows, result.target_risk, result.confidence_level) == ("test", 1000, 0.05, 0.95)
    assert result.coverage == accepted.mean()
    assert result.risk_upper_bound <= 0.05
    assert 0.75 <= result.ranking <= 1
    assert (result.guards, result.notes) == ((), ())


def test_too_few_examples_say_how_many_are_needed() -> None:
    result = calibrated(np.linspace(0, 1, 41), np.zeros(41, dtype=bool), np.zeros(41), target_risk=0.02)
    assert result.threshold is None
    assert result.notes == (
        "41 calibration examples; target_risk 0.02 at confidence level 0.95 needs at least 149. "
        "Collect more, or raise target_risk.",
    )


def test_a_constant_specialist_fails_its_guard() -> None:
    """Always 'safe', and sure of it: within 5 % risk at full coverage, and worthless."""
    scores, wrong, references = safety(missed=1.0, share=0.03)
    naive = calibrated(scores, wrong, references)
    assert naive.coverage == 1.0
    result = calibrated(scores, wrong, references, {"unsafe": 0.1})
    (guard,) = result.guards
    assert result.threshold is None
    assert not guard.held
    assert guard.missed == guard.rows == (references == "unsafe").sum()
    assert guard.missed_upper_bound == 1.0
    assert "The guard on 'unsafe' lets no certified threshold through" in result.notes[0]


def test_a_constant_specialist_with_one_score_fails_its_guard() -> None:
    _, wrong, references = safety(missed=1.0, share=0.03)
    assert calibrated(np.full(2000, 0.97), wrong, references).coverage == 1.0
    assert calibrated(np.full(2000, 0.97), wrong, references, {"unsafe": 0.1}).threshold is None


def test_the_guard_broken_on_purpose_lets_the_misses_through() -> None:
    """The control: with a limit that allows all, the same rows are accepted, so it was the guard that stopped them."""
    scores, wrong, references = safety(missed=0.5)
    broken = calibrated(scores, wrong, references, {"unsafe": 0.999})
    missed = ((scores >= broken.threshold) & wrong).sum() / (references == "unsafe").sum()
    assert missed > 0.4
    guarded = calibrated(scores, wrong, references, {"unsafe": 0.1})
    assert guarded.threshold is None or guarded.guards[0].missed_upper_bound <= 0.1


def test_a_guard_raises_the_threshold_above_its_misses() -> None:
    generator = np.random.default_rng(3)
    rare = np.arange(3000) < 300
    scores = generator.random(3000)
    wrong = rare & (scores < 0.3)
    references = np.where(rare, 7, 1)
    free, guarded = calibrated(scores, wrong, references), calibrated(scores, wrong, references, {7: 0.1})
    (guard,) = guarded.guards
    assert free.coverage > guarded.coverage > 0.4
    assert guard.held
    assert guard.rows == 300
    assert guard.missed == ((scores >= guarded.threshold) & wrong).sum()
    assert guard.missed_upper_bound == binomial_upper_bound(guard.missed, 300, 0.95) <= 0.1


def test_a_guard_with_too_few_rows_accepts_nothing_and_says_so() -> None:
    references = np.array(["unsafe"] * 12 + ["safe"] * 988)
    result = calibrated(np.linspace(0, 1, 1000), np.zeros(1000, dtype=bool), references, {"unsafe": 0.1})
    (guard,) = result.guards
    assert result.threshold is None
    assert (guard.held, guard.rows, guard.rows_lacking) == (False, 12, 17)
    assert "The guard on 'unsafe' has 12 rows, needs at least 29; 17 are missing." in result.notes[0]


def test_a_guard_on_an_answer_never_seen_accepts_nothing() -> None:
    result = calibrated(np.linspace(0, 1, 500), np.zeros(500, dtype=bool), np.full(500, "a"), {"b": 0.1})
    assert result.threshold is None
    assert result.guards[0].rows_lacking == 29


def test_a_rare_answer_without_a_guard_gets_a_warning() -> None:
    references = np.array(["unsafe"] * 40 + ["safe"] * 960)
    scores, wrong = np.linspace(0, 1, 1000), np.zeros(1000, dtype=bool)
    (note,) = calibrated(scores, wrong, references).notes
    assert note.startswith("No guard on 'unsafe' 4.0%:")
    assert calibrated(scores, wrong, references, {"unsafe": 0.1}).notes == ()


def test_many_rare_answers_get_one_warning() -> None:
    (note,) = calibrated(np.linspace(0, 1, 1000), np.zeros(1000, dtype=bool), np.arange(1000) % 20).notes
    assert "and 17 more" in note


def test_a_score_that_does_not_rank_is_refused() -> None:
    """No error among the best 15 %, so certifiable; noise everywhere else."""
    generator = np.random.default_rng(5)
    scores = generator.random(2000)
    wrong = (scores < 0.85) & (generator.random(2000) < 0.3)
    result = calibrated(scores, wrong, np.zeros(2000))
    assert result.ranking < 0.75
    assert result.threshold is None
    assert (result.coverage, result.accepted, result.risk_upper_bound) == (0.0, 0, None)
    assert "area under the curve of 0." in result.notes[0]
    assert calibrated(scores, wrong, np.zeros(2000), min_ranking=0.5).threshold is not None


def test_the_gate_on_ranking_waits_for_ten_errors_and_for_a_choice_to_make() -> None:
    scores = np.linspace(0, 1, 200)
    nine = scores >= scores[-9]
    assert calibrated(scores, nine, np.zeros(200), target_risk=0.045).ranking < 0.1
    assert "area under the curve" not in " ".join(calibrated(scores, nine, np.zeros(200), target_risk=0.045).notes)
    thirty = np.linspace(0, 1, 2000) >= np.linspace(0, 1, 2000)[-30]
    everything = calibrated(np.linspace(0, 1, 2000), thirty, np.zeros(2000))
    assert (everything.threshold, everything.notes) == (-math.inf, ())


def test_a_target_out_of_reach_says_how_many_rows_it_would_take() -> None:
    scores = np.linspace(1, 0, 300)
    wrong = np.arange(300) % 30 == 0
    result = calibrated(scores, wrong, np.zeros(300), target_risk=0.04)
    assert result.threshold is None
    wanted = rows_wanted(scores, wrong, 0.04, 0.95)
    assert wanted > 300
    assert f"about {wanted} would give even odds" in result.notes[0]
    hopeless = calibrated(scores, np.ones(300, dtype=bool), np.zeros(300))
    assert "more examples of this kind will not certify it" in hopeless.notes[0]


def test_rows_wanted_is_the_rule_of_section_seven() -> None:
    # risk 0.02 at every prefix worth having, target 0.05: 5 * 0.05 * 0.95 / 0.03^2 = 264 accepted rows.
    scores = np.linspace(1, 0, 1000)
    wrong = np.zeros(1000, dtype=bool)
    wrong[::50] = True
    assert rows_wanted(scores, wrong, 0.05, 0.95) == 1001  # it has more than enough already
    assert rows_wanted(scores[:100], wrong[:100], 0.05, 0.95) == pytest.approx(270, abs=10)


def test_references_must_match_the_scores() -> None:
    with pytest.raises(ValueError, match="one for each score"):
        calibrated(np.zeros(3), np.zeros(3, dtype=bool), np.zeros(2))


def test_no_rows_are_a_value_not_an_error() -> None:
    result = calibrated(np.array([]), np.array([], dtype=bool), np.array([]))
    assert (result.threshold, result.ranking, result.rows) == (None, None, 0)


def test_settled_rows_count_for_guards_alone() -> None:
    """A guard is about all requests with its answer, whichever tier accepts them wrongly."""
    generator = np.random.default_rng(3)
    scores = generator.random(600)
    wrong = generator.random(600) < 0.3 * (1 - scores) ** 6
    references = np.where(np.arange(600) % 3 == 0, "unsafe", "safe")
    guards = {"unsafe": 0.1}
    alone = calibrated(scores, wrong, references, guards)
    none = np.zeros(100, bool)
    for flags, names in ((none, np.full(100, "safe")), (~none, np.full(100, "safe"))):  # of other answers
        assert calibrated(scores, wrong, references, guards, settled=(flags, names)) == alone
    right = calibrated(scores, wrong, references, guards, settled=(none, np.full(100, "unsafe")))
    assert (right.guards[0].rows, right.guards[0].missed) == (300, alone.guards[0].missed)
    assert (right.threshold, right.rows) == (alone.threshold, alone.rows)
    missed = np.arange(100) < 40
    spent = calibrated(scores, wrong, references, guards, settled=(missed, np.full(100, "unsafe")))
    assert alone.threshold is not None and spent.threshold is None and not spent.guards[0].held
    with pytest.raises(ValueError, match="40 settled rows have 2 references"):
        calibrated(scores, wrong, references, guards, settled=(missed[:40], np.array(["a", "b"])))
