"""fp32 is taken only where it is significantly better on the same held-out rows."""

import numpy as np
import pytest

from insource.training.precision import check_precision, choose_precision

SIGNS = [(4, 0, "int8"), (5, 0, "fp32"), (12, 5, "int8"), (13, 4, "fp32"), (0, 9, "int8")]


class Fixed:
    """A student that is wrong on chosen texts, whatever it learned."""

    def __init__(self, wrong, shown):
        self.wrong, self.shown = wrong, shown

    def prepare(self, texts):
        return texts

    def fit(self, prepared, rows, classes, n_classes):
        self.shown.append({prepared[row] for row in rows})
        return self

    def probabilities(self, prepared, rows):
        self.shown.append({prepared[row] for row in rows})
        right = np.array([0 if prepared[row] in self.wrong else 1 for row in rows])
        return np.eye(2)[right]


def check(wrong_int8, wrong_fp32, n=700, seed=0):
    """Compare two students that are wrong on so many of the 200 held-out rows; all references are class 1."""
    texts = [f"text {number}" for number in range(n)]
    held = np.random.default_rng(seed).permutation(n)[int(n * 1000 / 1400) :]
    wrong = {
        "int8": {texts[i] for i in held[:wrong_int8]},
        "fp32": {texts[i] for i in held[len(held) - wrong_fp32 :]} if wrong_fp32 else set(),
    }
    shown = []
    found = check_precision(lambda name: Fixed(wrong[name], shown), texts, np.ones(n, np.intp), 2, seed)
    return found, shown


def test_equal_ones_give_int8():
    found, _ = check(0, 0)
    assert (found.chosen, found.rows, found.int8, found.fp32) == ("int8", 200, 1.0, 1.0)


@pytest.mark.parametrize(("only_fp32", "only_int8", "chosen"), SIGNS)
def test_a_sign_test_decides(only_fp32, only_int8, chosen):
    """One-sided binomial tail at 1/2: 4 of 4 is .0625, 5 of 5 .031, 12 of 17 .072, 13 of 17 .025."""
    found, _ = check(only_fp32, only_int8)
    assert found.chosen == chosen
    assert found.int8 == 1 - only_fp32 / 200 and found.fp32 == 1 - only_int8 / 200


def test_what_was_chosen_is_told_with_both_figures():
    assert str(check(20, 0)[0]) == "fp32 (on 200 held-out rows: int8 90.0%, fp32 100.0%)"


def test_both_learn_from_the_same_rows_and_are_asked_for_others():
    _, (learned, asked, learned_too, asked_too) = check(3, 3)
    assert learned == learned_too and asked == asked_too and not learned & asked


def test_at_most_1400_rows_are_looked_at():
    _, shown = check(0, 0, n=3000)
    assert [len(each) for each in shown] == [1000, 400, 1000, 400]


def test_a_seed_makes_it_the_same_again():
    texts = [f"text {number}" for number in range(40)]
    wrong = {"int8": set(texts[:20]), "fp32": set()}
    found = {choose_precision(lambda name: Fixed(wrong[name], []), texts, np.ones(40, np.intp), 2, 7) for _ in range(3)}
    assert found == {"fp32"}
