"""An answer's own words as an example of it."""

import numpy as np
import pytest

from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.wording import FEW_ROWS, worded, wording


class Meanings:
    """A trunk of four dimensions, one for each word it knows."""

    blocks, dimension = 1, 4
    words = ("card", "arrival", "top", "up")

    def embed(self, texts, progress=None):
        return np.array([[float(word in text.split()) for word in self.words] for text in texts], np.float32)


@pytest.mark.parametrize(
    ("label", "words"),
    [("card_arrival", "card arrival"), ('{"intent":"top_up"}', "intent top up"), ("Überweisung?", "Überweisung"),
     ("7", None), ("__", None), ("", None)],
)  # fmt: skip
def test_a_label_gives_its_words_or_none(label, words):
    assert wording(label) == words


def test_where_rows_are_many_words_add_nothing():
    labels = ("card_arrival", "7", "top_up")
    texts, classes = worded(labels, FEW_ROWS * 3 - 1)
    assert texts == ["card arrival", "top up"] and classes.tolist() == [0, 2]
    assert worded(labels, FEW_ROWS * 3)[0] == []


def test_words_teach_what_no_row_has_shown():
    trunk = Meanings()
    prepared = trunk.embed(["card", "top", "arrival", "up"])
    rows, classes = np.array([0, 1]), np.array([0, 1])

    def right_about_the_rest(labels):
        student = EncoderFrozenStudent(trunk, trunk.embed, labels=labels).fit(prepared, rows, classes, 2)
        assert student.fresh().labels == labels
        return student.probabilities(prepared, np.array([2, 3])).argmax(axis=1).tolist()

    assert right_about_the_rest(("card_arrival", "top_up")) == [0, 1]
    assert right_about_the_rest(("top_up", "card_arrival")) == [1, 0], "the control: words that mislead are believed"
