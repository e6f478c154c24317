"""An answer's own words as an example of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from insource.training.develop import Promise, RowSet, develop
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.heads import Heads
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


def test_what_is_developed_from_few_rows_learns_from_its_labels():
    """Five words no row of an answer shows alone; the labels tell them apart."""
    trunk = Meanings()
    prepared = trunk.embed(["card", "top"] * 5 + ["arrival", "up"])
    material = SimpleNamespace(
        trunk_digest="t" * 64, fitted={},
        encoder=lambda labels=(): (EncoderFrozenStudent(trunk, trunk.embed, labels=labels), prepared),
    )  # fmt: skip

    def right_about_the_rest(labels):
        rows = RowSet(np.arange(10), np.arange(10) // 2, np.arange(0), np.array([0, 1] * 6), labels)
        student = develop(material, rows, Promise(0.5, 0.5, {}), "encoder-frozen").student
        return student.probabilities(prepared, np.array([10, 11])).argmax(axis=1).tolist()

    assert right_about_the_rest(("card_arrival", "top_up")) == [0, 1]
    assert right_about_the_rest(("top_up", "card_arrival")) == [1, 0], "the control: words that mislead are believed"


@pytest.mark.parametrize(("rows", "asked"), [(8, True), (100, False)])
def test_words_teach_where_answers_have_one_field_only(rows, asked):
    """Of several fields, nobody measured it: the words of a combination are no example of one field's value."""
    trunk, words = Meanings(), []
    prepared, classes = trunk.embed(["card", "top", "arrival", "up"] * 25)[:rows], np.arange(rows) % 4
    labels, fields = ("card", "top", "arrival", "up"), Heads(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))

    def embed(texts, progress=None):
        words.append(texts)
        return trunk.embed(texts)

    for heads, told in ((None, [list(labels)] if asked else []), (fields, [])):
        words.clear()
        EncoderFrozenStudent(trunk, embed, heads=heads, labels=labels).fit(prepared, np.arange(rows), classes, 4)
        assert words == told
