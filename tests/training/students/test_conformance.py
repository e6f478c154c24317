"""Every family passes the students' suite, and each of its checks fails a student that is broken on purpose."""

from typing import ClassVar

import numpy as np
import pytest

from insource.backends.linear import LinearEngine
from insource.training.students.conformance import check_student
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.linear import LinearStudent
from insource.training.students.two_tier import TwoTierStudent


@pytest.fixture(scope="module")
def rows(tickets):
    lines = tickets(60)
    names = sorted({line["gold"] for line in lines})
    return [line["text"] for line in lines], np.array([names.index(line["gold"]) for line in lines])


def encoder(trunk, **choices):
    return EncoderFrozenStudent(trunk, lambda texts, progress: trunk.embed(texts), **choices)


def test_linear(rows):
    check_student(LinearStudent, *rows)


def test_linear_with_few_weights(rows):
    check_student(lambda: LinearStudent(strength=2.0, most_weights=10), *rows)


def test_encoder_frozen(rows, tiny_trunk):
    check_student(lambda: encoder(tiny_trunk), *rows, trunk=tiny_trunk)


@pytest.mark.parametrize("exit_at", [0.01, 0.6, 2.0])
def test_two_tier(rows, tiny_trunk, exit_at):
    def make():
        return TwoTierStudent(LinearStudent(), encoder(tiny_trunk, strength=10.0), weight=0.3, exit_at=exit_at)

    check_student(make, *rows, trunk=tiny_trunk)


class Custom(LinearStudent):
    """A user's own family: the suite can be told how its artifact is opened."""

    family: ClassVar[str] = "linear, but mine"


def test_a_family_of_ones_own(rows):
    check_student(Custom, *rows, open_engine=LinearEngine.load)
    with pytest.raises(Exception, match="linear, but mine"):
        check_student(Custom, *rows)


class Eager(LinearStudent):
    """Answers before it has learned."""

    def probabilities(self, prepared, rows):
        if not hasattr(self, "weights_"):
            return np.full((len(rows), 3), 1 / 3)
        return super().probabilities(prepared, rows)


class Copying(LinearStudent):
    def fit(self, *given):
        fitted = self.fresh()
        LinearStudent.fit(fitted, *given)
        self.__dict__.update(fitted.__dict__)
        return fitted


class Peeping(LinearStudent):
    """Learns its bias from rows it was not given."""

    def fit(self, prepared, rows, classes, n_classes):
        super().fit(prepared, rows, classes, n_classes)
        self.bias_ = self.bias_ + np.float32(len(prepared) / 100) * np.arange(n_classes, dtype=np.float32)
        return self


class Moody(LinearStudent):
    def fit(self, prepared, rows, classes, n_classes):
        super().fit(prepared, rows, classes, n_classes)
        self.bias_ = self.bias_ + np.float32(id(self) % 1009)
        self.bias_[0] += np.float32((id(self) >> 4) % 1009 / 1e3)
        return self


class Logits(LinearStudent):
    def probabilities(self, prepared, rows):
        return 2.0 * super().probabilities(prepared, rows)


class Centred(LinearStudent):
    """Looks at all the rows asked for at once."""

    def probabilities(self, prepared, rows):
        found = super().probabilities(prepared, rows)
        found = found + (found.mean(axis=0) - found) * 0.5
        return found / found.sum(axis=1, keepdims=True)


class Forgetful(LinearStudent):
    """Does not hand its choices on."""

    def __init__(self, *, strength=3.0, most_weights=4_000_000):
        super().__init__(strength=strength, most_weights=most_weights)

    def fresh(self):
        return type(self)(strength=self.strength * 1.5)


class Clinging(LinearStudent):
    def fresh(self):
        return self


class Rounding(LinearStudent):
    """Writes something else than it learned."""

    def engine(self):
        engine = super().engine()
        engine._bias = engine._bias + np.arange(len(engine._bias), dtype=np.float32)
        return engine


class Chatty(LinearStudent):
    def to_artifact(self, folder):
        return {**super().to_artifact(folder), "weights": self.weights_}


class Choosy(LinearStudent):
    """Cannot do without some rows of every answer."""

    def fit(self, prepared, rows, classes, n_classes):
        super().fit(prepared, rows, classes, n_classes)
        if len(rows) < 3:
            self.bias_ = self.bias_ * np.float32(np.nan)
        return self


class Leaning(LinearStudent):
    """Tilts itself instead of a copy."""

    def tilted(self, shift):
        self.bias_ = self.bias_ + shift
        return self


class Upright(LinearStudent):
    def tilted(self, shift):
        return self


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (Eager, "before fit, probabilities must raise DataError"),
        (Copying, "fit must give the student itself"),
        (Peeping, "must not look at rows it was not given"),
        (Moody, "fit must be deterministic"),
        (Logits, "a row does not sum to one"),
        (Centred, "must not depend on which rows are asked for"),
        (Forgetful, "fit must be deterministic|same choices"),
        (Clinging, "fresh"),
        (Leaning, "a tilted student must be another one"),
        (Upright, "must add the shift to the logits"),
        (Rounding, "served, the artifact must say the same"),
        (Chatty, "must be plain JSON"),
        (Choosy, "negative or not finite"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_student_broken_on_purpose_is_found(rows, student, said):
    with pytest.raises(AssertionError, match=said):
        check_student(student, *rows)


def test_what_the_suite_itself_needs(rows):
    texts, classes = rows
    with pytest.raises(AssertionError, match="11 texts were given; at least 12"):
        check_student(LinearStudent, texts[:11], classes[:11])
    with pytest.raises(AssertionError, match="without gaps"):
        check_student(LinearStudent, texts, np.where(classes == 1, 2, classes))
