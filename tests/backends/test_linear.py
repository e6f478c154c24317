"""The linear engine: what it serves is what was learned, whatever stands in the text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from insource.backends.linear import FILE, LinearEngine
from insource.backends.ngrams import ngrams
from insource.errors import ArtifactDamaged
from insource.training.students.linear import LinearStudent

LINES = [
    "my card was stolen",
    "card lost again!",
    "where is my refund",
    "refund not here",
    "Ünï çödé 🙂 card",
    "ok",
] * 3
CLASSES = np.array([0, 0, 1, 1, 0, 1] * 3)


@pytest.fixture(scope="module")
def student():
    made = LinearStudent()
    return made.fit(made.prepare(LINES), np.arange(len(LINES)), CLASSES, 2)


@pytest.fixture
def stored(student, tmp_path):
    student.to_artifact(tmp_path)
    return tmp_path


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(" ".join(LINES).split()), max_size=30).map(" ".join)))
def test_the_matrix_path_equals_the_served_engine_row_by_row(student, text):
    """The rows fitted come first, so that the n-grams of another text change none of their columns."""
    expected = student.probabilities(student.prepare([*LINES, text]), np.array([len(LINES)]))[0]
    served = student.engine().probabilities(text)
    assert np.abs(served - expected).max() < 1e-5 and abs(served.sum() - 1) < 1e-12


def test_many_is_one_at_a_time_exactly(stored):
    engine = LinearEngine.load(stored)
    texts = [*LINES, "", "zzz", "x" * 20_000]
    assert np.array_equal(engine.probabilities_many(texts), np.stack([engine.probabilities(text) for text in texts]))
    assert engine.probabilities_many([]).shape == (0, 2)


def test_a_text_without_a_known_n_gram_gets_the_bias_alone(stored):
    engine = LinearEngine.load(stored)
    bias = load_file(stored / FILE)["bias"].astype(float)
    expected = np.exp(bias) / np.exp(bias).sum()
    assert np.allclose(engine.probabilities("漢字"), expected)


def test_stored_in_half_precision_it_says_the_same(student, stored):
    engine, stored_engine = student.engine(), LinearEngine.load(stored)
    for text in LINES:
        assert np.abs(engine.probabilities(text) - stored_engine.probabilities(text)).max() < 2e-3
    assert load_file(stored / FILE)["weights"].dtype == np.float16


def test_the_evidence_adds_up_to_the_log_odds(student, stored):
    """All n-grams of a short text are shown, so with the biases they make the whole difference."""
    engine = LinearEngine.load(stored)
    text = "ok"
    p = engine.probabilities(text)
    bias = load_file(stored / FILE)["bias"]
    evidence = engine.explain(text, 1, 0)
    words, characters = ngrams(text)
    assert {each.text for each in evidence} <= {*words, *characters} and all(e.kind == "n-gram" for e in evidence)
    assert sum(each.weight for each in evidence) + float(bias[1] - bias[0]) == pytest.approx(
        np.log(p[1] / p[0]), abs=1e-4
    )
    weights = [abs(each.weight) for each in evidence]
    assert weights == sorted(weights, reverse=True)
    assert engine.explain("漢字", 0, 1) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: {**arrays, "weights": arrays["weights"][:-1]}, "weights"),
        (lambda arrays: {**arrays, "idf": arrays["idf"][:-1]}, "idf"),
        (lambda arrays: {**arrays, "bias": arrays["bias"] * np.float32(np.nan)}, "not finite"),
        (lambda arrays: {key: value for key, value in arrays.items() if key != "words"}, "KeyError"),
        (lambda arrays: {**arrays, "words": np.frombuffer(b"\xff\xfe", np.uint8)}, "UnicodeDecodeError"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(stored, change, said):
    save_file(change(load_file(stored / FILE)), stored / FILE)
    with pytest.raises(ArtifactDamaged, match=said) as caught:
        LinearEngine.load(stored)
    assert "one linear model were expected. Train the version again." in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x00" * 7, b"no safetensors at all"])
def test_a_file_that_is_none_is_refused(stored, data):
    (stored / FILE).write_bytes(data)
    with pytest.raises(ArtifactDamaged, match="linear.safetensors cannot be used"):
        LinearEngine.load(stored)
    (stored / FILE).unlink()
    with pytest.raises(ArtifactDamaged, match="linear.safetensors cannot be used"):
        LinearEngine.load(stored)


def test_one_text_is_quick_enough_for_the_event_loop(student):
    assert student.engine().inline


def test_an_n_gram_that_occurs_as_often_as_a_text_allows_counts_as_in_training():
    """The longest text that a specialist sees, 20,000 characters, holds one bigram 19,999 times."""
    texts = ["aa bb card", "bb cc refund", "cc aa card", "refund bb"] * 3
    made = LinearStudent()
    longest = "a" * 19_990 + " bb refund"
    prepared = made.prepare([*texts, longest])
    made.fit(prepared, np.arange(12), np.array([0, 1, 0, 1] * 3), 2)
    expected = made.probabilities(prepared, np.array([12]))[0]
    assert np.abs(made.engine().probabilities(longest) - expected).max() < 1e-5
