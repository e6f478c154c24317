"""The static student: the lexicon's words carry what is learned to words that no row has, and nothing leaks."""

import json

import numpy as np
import pytest
import scipy.sparse

from insource.backends.specialist import open_specialist
from insource.training.students.conformance import check_student
from insource.training.students.logistic import fit_logistic
from insource.training.students.static import StaticStudent
from insource.training.students.static_features import Beside, Units, Weighed, most_frequent, of_length_one
from insource.training.students.static_lexicon import Lexicon, make_lexicon, read_vocabulary
from insource.types import Task

MEANINGS = {"card": 0, "debit": 0, "plastic": 0, "refund": 1, "money": 1, "repay": 1, "the": 2, "my": 2}


@pytest.fixture(scope="module")
def lexicon():
    """Words that mean one of three things, each with a vector near that meaning's, in three blocks."""
    vectors = np.random.default_rng(0).normal(0, 0.1, (len(MEANINGS) + 1, 12)).astype(np.float32)
    for row, meaning in enumerate(MEANINGS.values()):
        vectors[row, meaning::3] += 1.0
    return Lexicon(list(MEANINGS), ["ing"], vectors, blocks=3)


@pytest.fixture(scope="module")
def rows(tickets):
    lines = tickets(60)
    names = sorted({line["gold"] for line in lines})
    return [line["text"] for line in lines], np.array([names.index(line["gold"]) for line in lines])


@pytest.mark.parametrize("choices", [{}, {"strength": 2.0, "most_values": 30}], ids=["", "small"])
def test_it_is_a_sound_student(rows, lexicon, choices):
    check_student(lambda: StaticStudent(lexicon, **choices), *rows)


class Leaking(StaticStudent):
    """Weighs by all texts, those it was not given included."""

    def fit(self, prepared, rows, classes, n_classes, start=None):
        super().fit(prepared, rows, classes, n_classes)
        self.engine_._bias = self.engine_._bias + np.float32(len(prepared) / 100) * np.arange(n_classes)
        return self


def test_a_leak_would_be_found(rows, lexicon):
    with pytest.raises(AssertionError, match="must not look at rows it was not given"):
        check_student(lambda: Leaking(lexicon), *rows)


def test_a_word_that_no_row_has_is_known_by_its_meaning(lexicon):
    texts = ["my card", "the card", "my refund", "the refund"] * 5
    classes = np.array([0, 0, 1, 1] * 5)
    student = StaticStudent(lexicon)
    student.fit(student.prepare(texts), np.arange(20), classes, 2)
    assert student.engine_.probabilities("plastic")[0] > 0.6 and student.engine_.probabilities("repay")[1] > 0.6
    blank = Lexicon(lexicon.words, (), np.zeros_like(lexicon.vectors[:-1]), blocks=3)
    student = StaticStudent(blank)
    student.fit(student.prepare(texts), np.arange(20), classes, 2)
    assert abs(student.engine_.probabilities("plastic")[0] - 0.5) < 0.1


def test_a_table_has_no_more_numbers_than_asked_for(rows, lexicon):
    texts, classes = rows
    student = StaticStudent(lexicon, most_values=3 * 40)
    student.fit(student.prepare(texts), np.arange(len(texts)), classes, 3)
    sizes = student.engine_.sizes
    assert sizes["words"] == 40 and sizes["pairs"] <= 40 and sizes["parts"] <= 2 * 40
    whole = StaticStudent(lexicon)
    whole.fit(whole.prepare(texts), np.arange(len(texts)), classes, 3)
    assert whole.engine_.sizes["words"] > 100


def test_the_words_of_a_vocabulary(tiny_base):
    words, pieces = read_vocabulary((tiny_base / "tokenizer.json").read_text())
    assert {"card", "lost", "where", "a", "?"} <= set(words) and pieces == ["ing"]
    assert not any("[" in word or "#" in word for word in words)
    marked = {"model": {"vocab": [["<s>", 0.0], ["▁Card", -1.0], ["s", -2.0], ["▁", -3.0], ["card", -4.0]]}}
    assert read_vocabulary(json.dumps(marked)) == (["card"], ["s"])


def test_a_word_is_the_mean_of_its_pieces(lexicon):
    card, refund, ing = (lexicon.vectors[row] for row in (0, 3, 8))
    found = lexicon.vectors_of(["card", "carding", "refund-zcard", "zz", ""])
    assert np.allclose(found[:3], [card, (card + ing) / 2, (refund + card) / 2]) and not found[3:].any()


def test_the_encoder_reads_its_vocabulary_once(tiny_base, tiny_trunk):
    asked = []

    def embed(texts, progress):
        asked.extend(texts)
        return tiny_trunk.embed(texts)

    lexicon = make_lexicon((tiny_base / "tokenizer.json").read_text(), embed, tiny_trunk.blocks)
    assert len(asked) == len(set(asked)) == len(lexicon.vectors) and lexicon.dimension == tiny_trunk.dimension
    assert np.array_equal(lexicon.vectors_of(["card"])[0], tiny_trunk.embed_one("card"))


def test_columns_side_by_side_learn_what_one_matrix_learns():
    random = np.random.default_rng(0)
    sparse = scipy.sparse.random(40, 12, 0.3, format="csr", dtype=np.float32, rng=random)
    dense = random.normal(size=(40, 5)).astype(np.float32)
    for n_classes in (2, 3):
        classes = random.integers(0, n_classes, 40)
        one = scipy.sparse.hstack([sparse, scipy.sparse.csr_matrix(dense)], format="csr")
        expected, bias = fit_logistic(one, classes, n_classes, strength=3.0)
        found, found_bias = fit_logistic(Beside(sparse, dense), classes, n_classes, strength=3.0)
        assert np.abs(found - expected).max() < 1e-3 and np.abs(found_bias - bias).max() < 1e-3


def test_units_are_weighed_by_the_given_rows_alone():
    units = Units.of([["a", "b"], ["a"], [], ["c"]], ["d"], lambda name: [name, "same"])
    assert units.names == ("a", "b", "c", "d") and units.part_names == ("a", "same", "b", "c", "d")
    found = Weighed.of(units, np.array([0, 1, 2]), 2, 100)
    assert found.columns.tolist() == [0, 1] and found.counts.tolist() == [2, 1]
    common, unknown = np.log(4 / 3) + 1, np.log(4) + 1
    assert np.allclose(found.weights, [common, unknown]) and found.unknown == pytest.approx(unknown)
    assert np.allclose(found.rows.toarray()[0], np.array([common, unknown]) / np.hypot(common, unknown))
    assert not found.rows.toarray()[2].any() and [units.part_names[part] for part in found.kept] == ["same"]


def test_rows_of_length_one():
    rows = scipy.sparse.csr_matrix(np.array([[3, 4, 0], [0, 0, 0], [0, 0, 2], [0, 0, 0]], np.float32))
    assert np.allclose(of_length_one(rows).toarray(), [[0.6, 0.8, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert of_length_one(scipy.sparse.csr_matrix((0, 3), dtype=np.float32)).shape == (0, 3)


def test_the_most_frequent_are_kept_in_order():
    counts = np.array([3, 0, 5, 1, 3])
    assert most_frequent(counts, 1, 10).tolist() == [0, 2, 3, 4]
    assert most_frequent(counts, 2, 2).tolist() == [0, 2] and most_frequent(counts, 0, 9).tolist() == [0, 2, 3, 4]


def test_it_trains_certifies_and_serves_without_its_encoder(tickets, home, tiny_base, trained, examples):
    done = trained(examples(240), Task("triage"), family="static", base=str(tiny_base))
    told = done.to_json()
    assert (told["family"], told["why"], told["precision"]) == ("static", "static was asked for", None)
    assert done.version.calibration is not None and done.version.calibration.coverage > 0.3
    manifest = json.loads((done.artifact / "manifest.json").read_text())
    assert manifest["trunk"] is None and set(manifest["model"]) == {"units", "strength", "words", "pairs", "parts"}
    opened = open_specialist(done.artifact, manifest, name="t", digest=None, trunk=lambda _: pytest.fail("no trunk"))
    assert opened.answer_text("my card was stolen")[0] == "card" and opened.info.inline
    again = trained(examples(240), Task("triage"), family="static", base=str(tiny_base), method="none")
    assert again.version.family == "static" and again.version.lineage["trunk"] is None
