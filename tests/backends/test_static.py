"""The static engine: what it serves is what was learned, whatever stands in the text."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from insource.backends.engine import softmax
from insource.backends.static import (
    FILE,
    MOST_CHARACTERS,
    StaticEngine,
    Table,
    pair_parts,
    units,
    word_parts,
)
from insource.errors import ArtifactDamaged

K = 3
WORDS = ("my", "card", "lost", "?")
PAIRS = ("my card", "card lost")
PARTS = ("<c", "ca", "rd>", "d l", "y c")
UNKNOWN = (4.0, 5.0)
TEXTS = ["my card lost ?", "My CARD", "cards", "lost my card card", "zzz", "", "\x00 漢字", "x" * 20_000, "ab " * 6_000]


def table(names, seed, weights):
    vectors = np.random.default_rng(seed).normal(size=(len(names), K)).astype(np.float32)
    return Table.rounded(names, vectors, np.array(weights, np.float32))


def vector(tables, name):
    row = tables.names.index(name)
    return tables.values[row] * tables.scales[row]


@pytest.fixture(scope="module")
def tables():
    return table(WORDS, 1, [2, 3, 2.5, 1]), table(PAIRS, 2, [2, 4]), table(PARTS, 3, [1, 2, 3, 1, 2])


@pytest.fixture(scope="module")
def engine(tables):
    return StaticEngine(*tables, UNKNOWN, np.array([0.1, -0.2, 0.3], np.float32))


@pytest.fixture
def stored(engine, tmp_path):
    engine.save(tmp_path)
    return tmp_path


def test_words_and_pairs_count_once_in_order():
    words = "my card , is my card ?".split()
    assert units("My card, is my CARD?") == (
        ["my", "card", ",", "is", "?"],
        list(dict.fromkeys(f"{first} {second}" for first, second in zip(words, words[1:], strict=False))),
    )
    assert units(" \n ") == ([], [])


def test_parts_of_words_and_pairs():
    assert word_parts("ab") == ["<a", "ab", "b>", "<ab", "ab>"]
    assert word_parts("?") == ["<?", "?>"]
    assert word_parts("z" * 10_000) == word_parts("z" * MOST_CHARACTERS)
    assert pair_parts("card lost") == ["d l", "d lo", "d los", "rd l", "rd lo", "ard l"]
    assert pair_parts("a ?") == ["a ?"]


def test_a_text_of_known_units_is_their_sum_over_the_length_of_their_weights(engine, tables):
    words, pairs, _ = tables
    said = sum(vector(words, name) for name in WORDS) / math.sqrt(2**2 + 3**2 + 2.5**2 + 1)
    found = units("my card lost ?")[1]
    assert found == [*PAIRS, "lost ?"]
    beside = sum(vector(pairs, name) for name in PAIRS) / math.sqrt(2**2 + 4**2 + UNKNOWN[1] ** 2)
    expected = softmax(np.array([0.1, -0.2, 0.3]) + said + beside)
    assert np.abs(engine.probabilities("my card lost ?") - expected).max() < 1e-6


def test_an_unknown_word_is_made_of_its_known_parts(engine, tables):
    parts = tables[2]
    said = (vector(parts, "<c") + vector(parts, "ca")) / math.sqrt(1 + 4)  # "cards" has <c and ca, not rd>
    expected = softmax(np.array([0.1, -0.2, 0.3]) + said)
    assert np.abs(engine.probabilities("cards") - expected).max() < 1e-6
    assert np.allclose(engine.probabilities("zzz"), softmax(np.array([0.1, -0.2, 0.3])), atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from([*WORDS, "cards", "z"]), max_size=30).map(" ".join)))
def test_the_evidence_adds_up_to_the_log_odds(engine, text):
    p = engine.probabilities(text)
    assert abs(p.sum() - 1) < 1e-12
    words, pairs = units(text)
    evidence = engine.explain(text, 1, 0)
    assert all(each.kind == "n-gram" and each.text in {*words, *pairs} for each in evidence)
    assert [abs(each.weight) for each in evidence] == sorted((abs(each.weight) for each in evidence), reverse=True)
    if len(words) + len(pairs) <= 12:
        assert sum(each.weight for each in evidence) - 0.3 == pytest.approx(math.log(p[1] / p[0]), abs=1e-4)


def test_many_is_one_at_a_time_exactly(stored):
    engine = StaticEngine.load(stored)
    assert np.array_equal(engine.probabilities_many(TEXTS), np.stack([engine.probabilities(text) for text in TEXTS]))
    assert engine.probabilities_many([]).shape == (0, K) and engine.inline


def test_what_is_stored_is_what_was_saved(engine, stored):
    loaded = StaticEngine.load(stored)
    assert np.array_equal(engine.probabilities_many(TEXTS), loaded.probabilities_many(TEXTS))
    assert loaded.sizes == {"words": 4, "pairs": 2, "parts": 5}


def test_a_vector_is_rounded_to_a_127th_of_its_largest_number():
    vectors = np.array([[1.0, -0.5, 0.25], [1e3, 1.0, 0.0], [0, 0, 0]], np.float32)
    rounded = Table.rounded(("a", "b", "c"), vectors, np.ones(3, np.float32))
    found = np.stack([vector(rounded, name) for name in rounded.names])
    assert (np.abs(found - vectors) <= np.abs(vectors).max(axis=1, keepdims=True) / 254 * 1.001).all()
    assert np.abs(rounded.values).max() == 127


def changed(name, change):
    return lambda arrays: {**arrays, name: change(arrays[name])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("words.values", lambda a: a[:-1]), "words: 4 names, values"),
        (changed("pairs.scales", lambda a: a[:-1]), "pairs: 2 names"),
        (changed("parts.weights", lambda a: a[:-1]), "parts: 5 names"),
        (changed("words.values", lambda a: a.astype(np.int16)), "int16"),
        (changed("words.scales", lambda a: a * np.float32(np.nan)), "not finite"),
        (changed("parts.weights", lambda a: a * np.float32(0)), "not above 0"),
        (changed("bias", lambda a: a * np.float32(np.inf)), "a bias is not finite"),
        (changed("bias", lambda a: a[:1]), "two answers or more"),
        (changed("bias", lambda a: a[None]), "two answers or more"),
        (changed("unknown", lambda a: -a), "not above 0"),
        (changed("unknown", lambda a: a[:1]), "unpack"),
        (changed("words", lambda a: np.frombuffer(b"my\nmy\nlost\n?", np.uint8)), "a name stands twice"),
        (changed("words", lambda a: np.frombuffer(b"\xff\xfe", np.uint8)), "UnicodeDecodeError"),
        (lambda arrays: {key: value for key, value in arrays.items() if key != "pairs"}, "KeyError"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(stored, change, said):
    save_file(change(load_file(stored / FILE)), stored / FILE)
    with pytest.raises(ArtifactDamaged, match=said) as caught:
        StaticEngine.load(stored)
    assert "the tables of one static model were expected. Train the version again." in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x00" * 7, b"\x80\x04N.", b"no safetensors at all"])
def test_a_file_that_is_none_is_refused(stored, data):
    (stored / FILE).write_bytes(data)
    with pytest.raises(ArtifactDamaged, match="static.safetensors cannot be used"):
        StaticEngine.load(stored)
    (stored / FILE).unlink()
    (stored / FILE).symlink_to("/dev/zero")
    with pytest.raises(ArtifactDamaged, match="static.safetensors cannot be used"):
        StaticEngine.load(stored)
