"""Cross-fitting with a student that notes what it is shown."""

import threading
from typing import ClassVar

import numpy as np
import pytest

from insource.training.crossfit import cross_fit, side_by_side


class Spy:
    """Notes the rows of each fit with the rows it was then asked for; says how often it saw each class."""

    family: ClassVar[str] = "spy"

    def __init__(self, seen):
        self.seen = seen

    def prepare(self, texts, progress=None):
        return list(texts)

    def fit(self, prepared, rows, classes, n_classes, start=None):
        assert [prepared[row] for row in rows] == [f"text {row}" for row in rows]
        self.rows_, self.shares_ = set(rows.tolist()), np.bincount(classes, minlength=n_classes) / len(rows)
        self.start_ = start
        self.learned_ = dict(zip(rows.tolist(), classes.tolist(), strict=True))
        return self

    def probabilities(self, prepared, rows):
        self.seen.append((self.rows_, set(rows.tolist())))
        return np.tile(self.shares_, (len(rows), 1))

    def fresh(self):
        return type(self)(self.seen)

    def to_artifact(self, folder):
        return {}


@pytest.fixture
def fitted():
    seen = []
    chance = np.random.default_rng(0)
    evidence, also = np.arange(0, 60, 2), np.arange(1, 30, 2)
    folds = chance.integers(0, 5, len(evidence))
    classes = np.full(100, -1)
    classes[:60] = chance.integers(0, 3, 60)
    student = Spy(seen)
    prepared = [f"text {number}" for number in range(100)]
    found = cross_fit(student, prepared, evidence=evidence, folds=folds, also=also, classes=classes, n_classes=3)
    return found, seen, evidence, also, folds, classes


def test_a_held_out_fold_is_never_shown(fitted):
    found, seen, evidence, also, folds, _ = fitted
    asked = set()
    for learned, held in seen:
        assert not learned & held
        assert learned | held == set(evidence) | set(also)
        assert len({folds[evidence == row][0] for row in held}) == 1
        asked |= held
    assert len(seen) == 5 and asked == set(evidence.tolist())
    assert found.probabilities.shape == (len(evidence), 3)


def test_control_a_cross_fit_that_shows_all_is_seen(fitted):
    """The guard broken on purpose: one student fitted on everything and asked for its own rows."""
    _, seen, evidence, *_ = fitted
    student = Spy(seen).fit([f"text {number}" for number in range(100)], evidence, evidence % 3, 3)
    student.probabilities([], evidence)
    assert any(learned & held for learned, held in seen)


def test_rows_that_only_teach_are_in_every_fit_and_certify_nothing(fitted):
    found, seen, evidence, also, *_ = fitted
    assert all(set(also.tolist()) <= learned for learned, _ in seen)
    assert len(found.probabilities) == len(evidence)


def test_the_last_student_learned_from_everything_with_the_right_answers(fitted):
    found, _, evidence, also, _, classes = fitted
    assert found.student.learned_ == {row: classes[row] for row in [*evidence, *also]}


def refit(fitted, folds):
    """Cross-fit once more on the same rows, placed in `folds`, starting at the cross-fit before."""
    found, seen, evidence, also, _, classes = fitted
    prepared = [f"text {number}" for number in range(100)]
    return cross_fit(
        Spy(seen), prepared, evidence=evidence, folds=folds, also=also, classes=classes, n_classes=3, before=found
    )


def test_a_fit_starts_at_its_own_fold_before(fitted):
    found, *_, folds, _ = fitted
    again = refit(fitted, folds)
    assert set(again.fits) == {None, *folds.tolist()}
    assert all(student.start_ is found.fits[fold][0] for fold, (student, _) in again.fits.items())


def test_no_fit_starts_at_one_that_has_seen_what_is_held_out(fitted):
    found, _, evidence, _, folds, _ = fitted
    again = refit(fitted, (folds + 1) % 5)
    for student, rows in again.fits.values():
        held = set(evidence.tolist()) - set(rows.tolist())
        assert student.start_ is None or not held & set(student.start_.learned_)
    assert again.fits[None][0].start_ is found.student and sum(s.start_ is None for s, _ in again.fits.values()) == 5


def test_control_a_start_at_the_student_on_everything_has_seen_what_is_held_out(fitted):
    """The guard broken on purpose: every fold of the cross-fit before stands for the student that saw all."""
    found, _, evidence, _, folds, _ = fitted
    everything = found.fits[None]
    found = type(found)(found.probabilities, found.student, dict.fromkeys(found.fits, everything))
    assert all(np.isin(evidence[folds == fold], everything[1]).any() for fold in np.unique(folds))
    again = refit((found, *fitted[1:]), folds)
    assert all(student.start_ is None for fold, (student, _) in again.fits.items() if fold is not None)


def test_side_by_side_keeps_the_order_and_passes_a_failure_on():
    assert side_by_side(lambda number: number * number, range(20)) == [number * number for number in range(20)]
    names = side_by_side(lambda _: threading.current_thread().name, range(3))
    assert all(name.startswith("fit") for name in names)
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda number: 1 // number, [1, 0])
