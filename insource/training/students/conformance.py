"""What every student must do, a user's own included: the suite that ours pass too.

Run `check_student(make_student, texts, classes)` in a test; it raises AssertionError naming the first thing amiss. It
knows no particular family.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from insource.answers import AnswerSpace
from insource.backends.engine import Engine
from insource.backends.specialist import open_specialist, write_specialist
from insource.errors import DataError
from insource.inputs import MAX_CHARACTERS, InputSettings
from insource.risk.scores import Scorer
from insource.training.students.contract import Classes, Probabilities, Rows, Student

FEWEST_ROWS = 12
EQUAL = 1e-6
HALF_PRECISION = 2e-3
FAR = 60.0
LONGEST = MAX_CHARACTERS
HARD_TEXTS = ("", " ", "\x00\x1b[2J\ufffd", "ﷺ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ಠ_ಠ", "zq" * (LONGEST // 2), "word " * (LONGEST // 5))
"""Nothing, blanks, noise, letters that no training row has, and the longest texts that a specialist sees."""

MakeStudent = Callable[[], Student]
OpenEngine = Callable[[Path], Engine]


def check_student(
    make_student: MakeStudent,
    texts: Sequence[str],
    classes: Classes,
    *,
    trunk: Any = None,
    open_engine: OpenEngine | None = None,
) -> None:
    """Check what `make_student` makes on 12 or more texts, whose `classes` int (n,) run from 0 without gaps.

    Checked: unfitted it refuses; `fit` gives itself and is deterministic; probabilities have shape, sum to one and are
    finite, on few rows, on one row an answer and on hard texts too; nothing looks at rows it was not given; `fresh`
    keeps the choices and none of the learning; `tilted` raises an answer in a copy; the artifact, served, says the same
    within half precision. `trunk` is the loaded trunk that serves a family with an encoder. `open_engine` opens the
    artifact of a family that `open_specialist` does not know.
    """
    texts, classes = list(texts), np.asarray(classes, np.intp)
    n_classes = int(classes.max()) + 1
    _require(len(texts) >= FEWEST_ROWS, f"{len(texts)} texts were given; at least {FEWEST_ROWS} are needed")
    _require(len(np.unique(classes)) == n_classes >= 2, "classes must run from 0 without gaps, at least two of them")
    _check_unfitted(make_student(), texts)
    fitted, prepared = _check_fit(make_student(), texts, classes, n_classes)
    _check_fresh(fitted, prepared, classes, n_classes)
    _check_tilted(fitted, prepared, np.arange(len(texts)), n_classes)
    _check_other_rows(make_student, texts, classes, n_classes)
    _check_few(make_student, texts, classes, n_classes)
    _check_artifact(fitted, prepared, [*texts, *HARD_TEXTS], n_classes, trunk, open_engine)


def _check_unfitted(student: Student, texts: list[str]) -> None:
    _require(bool(getattr(student, "family", "")), "a student names its family")
    prepared = student.prepare(texts)
    _require(len(prepared) == len(texts), f"{len(texts)} texts became {len(prepared)} rows")
    _require(len(student.prepare([])) == 0, "no texts must become no rows")
    _require(_refuses(student, prepared), "before fit, probabilities must raise DataError")


def _check_fit(student: Student, texts: list[str], classes: Classes, n_classes: int) -> tuple[Student, Any]:
    """Fit twice on the same rows, in between asking for hard texts too."""
    prepared = student.prepare([*texts, *HARD_TEXTS])
    rows, everything = np.arange(len(texts)), np.arange(len(texts) + len(HARD_TEXTS))
    _require(student.fit(prepared, rows, classes, n_classes) is student, "fit must give the student itself")
    found = _checked(student, prepared, everything, n_classes)
    again = student.fresh().fit(prepared, rows, classes, n_classes)
    _require(np.array_equal(_checked(again, prepared, everything, n_classes), found), "fit must be deterministic")
    after = _checked(student, prepared, everything, n_classes)
    _require(np.array_equal(after, found), "fitting another student must leave this one and the rows as they were")
    some = everything[::-2]
    _require(
        _near(_checked(student, prepared, some, n_classes), found[some], EQUAL),
        "a row's probabilities must not depend on which rows are asked for, nor on their order",
    )
    return student, prepared


def _check_fresh(fitted: Student, prepared: Any, classes: Classes, n_classes: int) -> None:
    rows = np.arange(len(classes))
    before = fitted.probabilities(prepared, rows)
    fresh = fitted.fresh()
    _require(type(fresh) is type(fitted) and fresh is not fitted, "fresh must give another student of the same kind")
    _require(_refuses(fresh, prepared), "a fresh student must have learned nothing")
    fresh.fit(prepared, rows, (classes + 1) % n_classes, n_classes)
    _require(np.array_equal(fitted.probabilities(prepared, rows), before), "a fresh student must share no learning")
    again = fresh.fresh().fit(prepared, rows, classes, n_classes)
    _require(np.array_equal(again.probabilities(prepared, rows), before), "a fresh student must have the same choices")


def _check_tilted(fitted: Student, prepared: Any, rows: Rows, n_classes: int) -> None:
    """Raise one answer above all others, and none."""
    before = fitted.probabilities(prepared, rows)
    shift = np.zeros(n_classes, np.float32)
    _require(
        _near(fitted.tilted(shift).probabilities(prepared, rows), before, EQUAL), "a shift of 0 must change nothing"
    )
    shift[-1] = FAR
    raised = _checked(fitted.tilted(shift), prepared, rows, n_classes)
    _require(bool((raised[:, -1] > 0.99).all()), "tilted must add the shift to the logits")
    _require(np.array_equal(fitted.probabilities(prepared, rows), before), "a tilted student must be another one")


def _check_other_rows(make_student: MakeStudent, texts: list[str], classes: Classes, n_classes: int) -> None:
    """Change every row but those given to `fit` and `probabilities`: nothing may come of it."""
    given = np.arange(2 * len(texts) // 3)
    kept = texts[: len(given)]
    found = []
    for others in (texts[len(given) :], [f"quite another text {number}" for number in range(3 * len(texts))]):
        student = make_student()
        prepared = student.prepare([*kept, *others])
        student.fit(prepared, given, classes[given], n_classes)
        found.append(_checked(student, prepared, given, n_classes))
    _require(_near(found[0], found[1], EQUAL), "a student must not look at rows it was not given")


def _check_few(make_student: MakeStudent, texts: list[str], classes: Classes, n_classes: int) -> None:
    """Fit on one row an answer, on two rows, and, unless heads name the answers, with an answer that no row has."""
    firsts = np.array([int(np.flatnonzero(classes == number)[0]) for number in range(n_classes)])
    two = np.array([firsts[0], firsts[1]])
    one = np.array([firsts[0]])
    everything = np.arange(len(texts))
    for rows, more in ((firsts, 0), (two, 0), (one, 0), (everything, 1)):
        student = make_student()
        most = n_classes + (more if getattr(student, "heads", None) is None else 0)
        prepared = student.prepare([*texts, *HARD_TEXTS])
        student.fit(prepared, rows, classes[rows], most)
        _checked(student, prepared, np.arange(len(texts) + len(HARD_TEXTS)), most)


def _check_artifact(
    fitted: Student, prepared: Any, texts: list[str], n_classes: int, trunk: Any, open_engine: OpenEngine | None
) -> None:
    expected = fitted.probabilities(prepared, np.arange(len(texts)))
    with TemporaryDirectory(prefix="insource-conformance-") as first, TemporaryDirectory() as second:
        told = fitted.to_artifact(Path(first))
        try:
            _require(json.loads(json.dumps(told, allow_nan=False)) == told, "the manifest's part must be plain JSON")
        except (TypeError, ValueError) as error:
            raise AssertionError(f"the manifest's part must be plain JSON: {error}") from error
        fitted.to_artifact(Path(second))
        _require(_files(Path(first)) == _files(Path(second)) != {}, "the same learning must write the same files")
        if open_engine is not None:
            served = open_engine(Path(first)).probabilities_many(texts)
        else:
            served = _served(Path(first), fitted, told, n_classes, trunk, texts)
    _require(_near(served, expected, HALF_PRECISION), "served, the artifact must say the same within half precision")
    top = np.sort(expected, axis=1)
    sure = top[:, -1] - top[:, -2] > 2 * HALF_PRECISION
    _require(
        bool((served.argmax(axis=1) == expected.argmax(axis=1))[sure].all()), "served, the labels must be the same"
    )


def _served(
    folder: Path, student: Student, told: dict[str, Any], n_classes: int, trunk: Any, texts: list[str]
) -> Probabilities:
    names = tuple(f"answer {number}" for number in range(n_classes))
    scorer = Scorer.fit(np.full((2, n_classes), 1.0 / n_classes), np.array([True, False]))
    manifest = write_specialist(
        folder,
        task="conformance",
        family=student.family,
        model=told,
        scorer=scorer,
        answers=AnswerSpace("label", names, names),
        inputs=InputSettings(),
        trunk=None if trunk is None else "0" * 64,
    )
    specialist = open_specialist(folder, manifest, name="conformance", digest=None, trunk=lambda _: trunk)
    return specialist.probabilities(texts)


def _checked(student: Student, prepared: Any, rows: Rows, n_classes: int) -> Probabilities:
    found = student.probabilities(prepared, rows)
    _require(found.shape == (len(rows), n_classes), f"probabilities have shape {found.shape}, not one row for each row")
    _require(found.dtype == np.float64, f"probabilities are {found.dtype}, not float64")
    _require(bool(np.isfinite(found).all() and (found >= 0.0).all()), "a probability is negative or not finite")
    _require(all(math.isclose(total, 1.0, abs_tol=EQUAL) for total in found.sum(axis=1)), "a row does not sum to one")
    return found


def _refuses(student: Student, prepared: Any) -> bool:
    try:
        student.probabilities(prepared, np.arange(1))
    except DataError:
        return True
    except Exception as error:
        raise AssertionError(f"before fit, probabilities must raise DataError, not {error!r}") from error
    return False


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _near(found: Probabilities, expected: Probabilities, tolerance: float) -> bool:
    return found.shape == expected.shape and bool(np.allclose(found, expected, rtol=0.0, atol=tolerance))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"this is not a sound student: {what}")
