"""Choosing a family and certifying it, with students whose every answer is known beforehand."""

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from insource.training.develop import Promise, RowSet, develop, develop_or_forget
from insource.types import Require

ROWS = 1_000


class Known:
    """A student that answers as it was made to; `prepared` holds its probabilities."""

    family: ClassVar[str] = "known"

    def fit(self, prepared, rows, classes, n_classes, start=None):
        return self

    def probabilities(self, prepared, rows):
        return prepared[rows]

    def fresh(self):
        return type(self)()


class Stuff:
    """Material of two known students; counts how often an encoder is asked for."""

    trunk_digest = "t" * 64

    def __init__(self, linear, encoder):
        self._linear, self._encoder, self.encoders, self.fitted = linear, encoder, 0, {}

    def linear(self):
        return Known(), self._linear

    def encoder(self, labels=()):
        self.encoders += 1
        return Known(), self._encoder


def answering(classes, accuracy, seed, unsure=0.3):
    """Probabilities that are right in a share of rows, and unsure where they are wrong."""
    chance = np.random.default_rng(seed)
    wrong = chance.random(len(classes)) >= accuracy
    said = np.where(wrong, 1 - classes, classes)
    top = np.where(wrong | (chance.random(len(classes)) < unsure), chance.uniform(0.5, 0.75, len(classes)), 0.97)
    found = np.empty((len(classes), 2))
    found[np.arange(len(classes)), said], found[np.arange(len(classes)), 1 - said] = top, 1 - top
    return found


@pytest.fixture
def rows():
    chance = np.random.default_rng(0)
    classes = chance.integers(0, 2, ROWS)
    return RowSet(np.arange(ROWS), np.arange(ROWS) % 5, np.arange(0), classes, ("no", "yes"))


@pytest.fixture
def stuff(rows):
    return lambda linear, encoder: Stuff(answering(rows.classes, linear, 1), answering(rows.classes, encoder, 2))


ANY = Require()


def promise(require=ANY, guards=None, target=0.05):
    return Promise(target, 0.95, guards or {}, require)


def test_auto_stops_at_linear_where_nothing_larger_can_add_much(stuff, rows):
    material = stuff(0.995, 0.999)
    found = develop(material, rows, promise(), "auto")
    assert found.family == "linear" and found.trunk is None and material.encoders == 0
    assert found.why.startswith("linear certifies 100.0% (accuracy 99.") and found.why.endswith("can add much")


@pytest.mark.parametrize("require", [Require(accuracy=0.8), Require(coverage=0.2), Require(accuracy=0.8, coverage=0.2)])
def test_auto_stops_at_linear_where_it_meets_the_bar(stuff, rows, require):
    material = stuff(0.85, 0.999)
    found = develop(material, rows, promise(require), "auto")
    assert found.family == "linear" and material.encoders == 0
    assert found.why.endswith("it meets the task's bar")


def test_auto_takes_the_smallest_that_meets_the_bar(stuff, rows):
    found = develop(stuff(0.8, 0.97), rows, promise(Require(accuracy=0.9)), "auto")
    assert found.family == "two-tier" and found.trunk == "t" * 64
    assert found.why.endswith("two-tier, the smallest that meets the task's bar")
    assert found.why.count("certifies") == 3 and found.accuracy >= 0.9


def test_auto_takes_the_best_where_none_meets_the_bar(stuff, rows):
    found = develop(stuff(0.7, 0.8), rows, promise(Require(accuracy=0.99)), "auto")
    assert "none meets the task's bar, so the best" in found.why


def test_auto_without_a_bar_takes_the_smallest_within_two_points(stuff, rows):
    found = develop(stuff(0.8, 0.97), rows, promise(), "auto")
    assert found.family in ("two-tier", "encoder-frozen") and "within 2 points of the best coverage" in found.why
    found = develop(Stuff(*(answering(rows.classes, 0.85, 3),) * 2), rows, promise(), "auto")
    assert found.family == "linear" and "linear, the smallest within 2 points of the best coverage" in found.why


def test_where_nothing_certifies_accuracy_decides(stuff, rows):
    found = develop(stuff(0.6, 0.9), rows, promise(target=0.001), "auto")
    assert found.calibration.threshold is None
    assert "within 2 points of the best accuracy" in found.why and found.family != "linear"


@pytest.mark.parametrize("family", ["linear", "two-tier", "encoder-frozen"])
def test_a_family_that_was_asked_for_is_taken(stuff, rows, family):
    found = develop(stuff(0.9, 0.9), rows, promise(), family)
    assert (found.family, found.why) == (family, f"{family} was asked for")


def test_the_two_tiers_are_never_worse_than_the_linear_tier_s_promise(stuff, rows):
    """The exit of the linear tier tolerates a fifth of the target and needs 100 rows."""
    found = develop(stuff(0.9, 0.97), rows, promise(), "two-tier")
    first = found.student.exit_at <= answering(rows.classes, 0.9, 1).max(axis=1)
    assert 100 <= first.sum() and found.wrong[first].mean() <= 0.01


def constant(share, n=ROWS, top=0.95):
    """Rows of which `share` have the rare answer, and a student that never gives it."""
    classes = (np.arange(n) % round(1 / share) == 0).astype(np.intp)
    rows = RowSet(np.arange(n), np.arange(n) // 7 % 5, np.arange(0), classes, ("fair", "unfair"))
    said = np.full(n, top) if isinstance(top, float) else top
    return Stuff(np.stack([said, 1 - said], axis=1), None), rows


def test_a_constant_specialist_fails_its_guard_for_want_of_rows():
    material, rows = constant(1 / 50)
    found = develop(material, rows, promise(guards={"unfair": 0.1}), "linear").calibration
    assert found.threshold is None and found.coverage == 0.0
    (guard,) = found.guards
    assert not guard.held and guard.rows == 20 and guard.rows_lacking == 9
    assert "guard on 'unfair' has 20 rows, needs at least 29; 9 are missing" in " ".join(found.notes)


def test_a_constant_specialist_fails_its_guard_however_many_rows_there_are():
    material, rows = constant(1 / 50, 5_000)
    found = develop(material, rows, promise(guards={"unfair": 0.1}), "linear").calibration
    assert found.threshold is None and found.coverage == 0.0
    (guard,) = found.guards
    assert not guard.held and (guard.rows, guard.rows_lacking) == (100, 0)
    assert "lets no certified threshold through" in " ".join(found.notes)


def test_a_constant_answer_with_idle_scores_is_held_to_the_share_that_may_be_missed():
    """Scores that say nothing let through about as many requests as the guard tolerates, and no more."""
    material, rows = constant(1 / 50, 5_000, np.random.default_rng(5).uniform(0.9, 0.99, 5_000))
    found = develop(material, rows, promise(guards={"unfair": 0.1}), "linear").calibration
    (guard,) = found.guards
    assert guard.held and guard.missed_upper_bound <= 0.1 and found.coverage < 0.1


def test_control_without_its_guard_the_constant_specialist_is_certified_with_a_warning():
    """The guard taken away on purpose: the target alone certifies a specialist that misses every unfair clause."""
    material, rows = constant(1 / 50)
    found = develop(material, rows, promise(), "linear").calibration
    assert found.coverage == 1.0 and found.threshold == 0.0
    assert "No guard on 'unfair' 2.0%" in " ".join(found.notes)


def test_a_guard_on_an_answer_that_never_occurs_accepts_nothing(stuff, rows):
    found = develop(stuff(0.99, 0.99), rows, promise(guards={"maybe": 0.1}), "linear").calibration
    assert found.threshold is None
    assert SimpleNamespace(rows=found.guards[0].rows, held=found.guards[0].held) == SimpleNamespace(rows=0, held=False)
    assert "The guard on 'maybe' has 0 rows, needs at least 29; 29 are missing" in " ".join(found.notes)


def test_out_of_fold_scores_are_those_the_threshold_was_found_on(stuff, rows):
    found = develop(stuff(0.9, 0.9), rows, promise(), "linear")
    accepted = found.scores >= found.calibration.threshold
    assert accepted.sum() == found.calibration.accepted and found.wrong[accepted].sum() == found.calibration.errors


class Contradicted(Known):
    """Answers rightly unless it learned from a row that is out of date."""

    def fit(self, prepared, rows, classes, n_classes, start=None):
        self.misled = bool((rows >= 600).any())
        return self

    def probabilities(self, prepared, rows):
        return 1.0 - prepared[rows] if self.misled else prepared[rows]


@pytest.mark.parametrize(("student", "told"), [(Known, "without the 400"), (Contradicted, "without the 400")])
def test_older_rows_teach_only_where_that_certifies_more(stuff, rows, student, told):
    material = stuff(0.99, 0.99)
    material.linear = lambda: (student(), material._linear)
    own = RowSet(np.arange(600), rows.folds[:600], np.arange(0), rows.classes, rows.labels)
    found = develop_or_forget(material, own, np.arange(600, ROWS), promise(), "linear")
    assert told in found.why and found.calibration.coverage > 0.5
    assert "rows from before" not in develop_or_forget(material, own, np.arange(0), promise(), "linear").why


def test_older_rows_teach_where_they_help(stuff, rows):
    class Learning(Known):
        def fit(self, prepared, rows, classes, n_classes, start=None):
            self.few = not (rows >= 600).any()
            return self

        def probabilities(self, prepared, rows):
            return 1.0 - prepared[rows] if self.few else prepared[rows]

    material = stuff(0.99, 0.99)
    material.linear = lambda: (Learning(), material._linear)
    own = RowSet(np.arange(600), rows.folds[:600], np.arange(0), rows.classes, rows.labels)
    found = develop_or_forget(material, own, np.arange(600, ROWS), promise(), "linear")
    assert "with the 400 rows from before the suspension" in found.why and found.calibration.coverage > 0.5
