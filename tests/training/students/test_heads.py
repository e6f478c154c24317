"""One head a field: folded they are the product of the heads, every family learns them, and fewer rows are enough."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.answers import learn_answers
from insource.backends.engine import softmax
from insource.training.students.conformance import check_student
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.heads import Heads, fit_heads, heads_of, largest_head
from insource.training.students.linear import LinearStudent
from insource.training.students.logistic import fit_logistic
from insource.training.students.static import StaticStudent
from insource.training.students.static_lexicon import Lexicon
from insource.training.students.turning import Turn
from insource.training.students.two_tier import TwoTierStudent

THREE = Heads(np.array([[0, 0], [1, 0], [0, 1]]))
"""Of two fields of two values each, three of four combinations."""


@pytest.fixture(scope="module")
def rows(tickets):
    lines = tickets(60)
    names = sorted({line["gold"] for line in lines})
    return [line["text"] for line in lines], np.array([names.index(line["gold"]) for line in lines])


def encoder(trunk, **choices):
    return EncoderFrozenStudent(trunk, lambda texts, progress: trunk.embed(texts), **choices)


@st.composite
def combinations(draw):
    """Sizes of two to four fields, and distinct combinations in which every value occurs."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=2, max_size=4))
    every = max(sizes)
    whole = [[number % size for size in sizes] for number in range(every)]
    more = draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), max_size=12))
    return np.unique(np.array([*whole, *map(list, more)]), axis=0)


@given(combinations(), st.integers(0, 2**32 - 1))
def test_folded_heads_are_the_product_of_the_heads_renormalised(values, seed):
    heads, chance = Heads(values), np.random.default_rng(seed)
    assert heads.sizes == [len(np.unique(own)) for own in values.T]
    texts = chance.normal(size=(5, 7))
    weights, bias = chance.normal(size=(7, sum(heads.sizes))), chance.normal(size=sum(heads.sizes))
    product = np.ones((5, len(values)))
    place = 0
    for own, size in zip(values.T, heads.sizes, strict=True):
        cut = slice(place, place + size)
        product *= softmax(texts @ weights[:, cut] + bias[cut])[:, own]
        place += size
    joint, joint_bias = heads.fold((weights, bias))
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(texts @ joint + joint_bias), expected, atol=1e-9)
    again, again_bias = heads.fold(heads.unfold((joint, joint_bias)))
    np.testing.assert_allclose(again, joint, atol=1e-4)
    np.testing.assert_allclose(again_bias, joint_bias, atol=1e-4)


def test_the_heads_are_those_of_the_fields_that_vary():
    raws = ['{"b": "x", "a": 1, "v": 0}', '{"b": "y", "a": 1, "v": 0}', '{"b": "x", "a": 2, "v": 0}'] * 3
    space = learn_answers(raws)
    heads = heads_of(space)
    said = [space.values(label) for label in space.answers]
    assert heads.sizes == [2, 2] and len(heads.values) == 3
    for field in (0, 1):
        numbers = {(own[field], int(row[field])) for own, row in zip(said, heads.values, strict=True)}
        assert len(numbers) == 2
    assert largest_head(heads, 3) == 2 and largest_head(None, 3) == 3
    assert heads_of(learn_answers(['{"a": 1, "v": 0}', '{"a": 2, "v": 0}'] * 3)) is None
    assert heads_of(learn_answers(["a", "b"] * 3)) is None


def test_without_several_fields_a_head_is_fitted_as_ever(rows, tiny_trunk):
    texts, classes = rows
    everything = np.arange(len(texts))
    linear, frozen = LinearStudent(), encoder(tiny_trunk)
    counts, embeddings = linear.prepare(texts), frozen.prepare(texts)
    linear.fit(counts, everything, classes, 3)
    expected = fit_logistic(linear._vectors(counts, everything), classes, 3, strength=linear.strength)
    assert linear.weights_.tobytes() == expected[0].tobytes() and linear.bias_.tobytes() == expected[1].tobytes()
    frozen.fit(embeddings, everything, classes, 3)
    turn = Turn(embeddings, tiny_trunk.blocks, len(texts) / 3)
    expected = turn.back(
        *fit_logistic(turn.rows, classes, 3, strength=frozen.strength_, tolerance=3e-3, max_iterations=300)
    )
    assert frozen.weights_.tobytes() == expected[0].tobytes() and frozen.bias_.tobytes() == expected[1].tobytes()


def test_linear_is_sound_with_heads(rows):
    check_student(lambda: LinearStudent(heads=THREE), *rows)


def test_encoder_frozen_is_sound_with_heads(rows, tiny_trunk):
    check_student(lambda: encoder(tiny_trunk, heads=THREE), *rows, trunk=tiny_trunk)


def test_two_tier_is_sound_with_heads(rows, tiny_trunk):
    def make():
        student = TwoTierStudent(LinearStudent(), encoder(tiny_trunk), weight=0.3, exit_at=0.6)
        student.heads = THREE
        return student

    assert make().fresh().linear.heads is make().fresh().encoder.heads is THREE
    check_student(make, *rows, trunk=tiny_trunk)


def test_static_is_sound_with_heads(rows):
    vectors = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    lexicon = Lexicon(["card", "refund", "money"], ["ing"], vectors, blocks=3)
    check_student(lambda: StaticStudent(lexicon, heads=THREE), *rows)


def test_a_start_changes_nothing_but_the_time(rows):
    texts, classes = rows
    student = LinearStudent(heads=THREE)
    counts = student.prepare(texts)
    begun = student.fresh().fit(counts, np.arange(40), classes[:40], 3)
    cold = student.fresh().fit(counts, np.arange(60), classes, 3)
    warm = student.fresh().fit(counts, np.arange(60), classes, 3, begun)
    everything = np.arange(60)
    found = warm.probabilities(counts, everything)
    np.testing.assert_allclose(found, cold.probabilities(counts, everything), atol=0.02)
    assert not np.array_equal(warm.weights_, cold.weights_)


def made_up(n, seed):
    """Rows of twelve numbers: the first five tell one field's value of five, the next five the other's."""
    chance = np.random.default_rng(seed)
    fields = chance.integers(0, 5, (n, 2))
    rows = chance.normal(0, 0.4, (n, 12)).astype(np.float32)
    for field in (0, 1):
        rows[np.arange(n), 5 * field + fields[:, field]] += 1.5
    return rows, 5 * fields[:, 0] + fields[:, 1]


def accuracy(heads, fit, n=100):
    rows, classes = made_up(n, 1)
    others, references = made_up(2_000, 2)
    weights, bias = fit_heads(heads, fit(rows), classes, 25)
    return float(((others @ weights + bias).argmax(axis=1) == references).mean())


def test_heads_need_fewer_rows_than_one_head_over_the_combinations():
    def fit(rows):
        return lambda classes, count, _: fit_logistic(rows, classes, count, strength=15.0)

    heads = Heads(np.array([[number // 5, number % 5] for number in range(25)]))
    shuffled = Heads(heads.values[np.random.default_rng(0).permutation(25)])
    one, several = accuracy(None, fit), accuracy(heads, fit)
    assert several > 0.85 and several > one + 0.05
    assert accuracy(shuffled, fit) < one  # heads of fields that are none do not help


def test_a_value_that_no_row_has_is_next_to_never_said():
    rows, classes = made_up(200, 3)
    heads = Heads(np.array([[number // 5, number % 5] for number in range(25)]))
    some = classes // 5 != 4
    weights, bias = fit_heads(
        heads, lambda own, count, _: fit_logistic(rows[some], own, count, strength=15.0), classes[some], 25
    )
    said = softmax(rows @ weights + bias)
    assert np.isfinite(said).all() and said[some].reshape(-1, 5, 5)[:, 4].sum(axis=1).max() < 0.1
