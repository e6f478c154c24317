"""The turn of embeddings: its length, its blocks, and the way there and back."""

import numpy as np
import pytest

from insource.training.students.turning import Turn


@pytest.fixture
def embeddings():
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(500, 24)) * np.linspace(0.2, 2.0, 24) + chance.normal(size=24)
    rows[:, 8:16] *= 50.0
    return rows.astype(np.float32)


def test_turned_rows_are_centred_and_of_mean_squared_length_one(embeddings):
    rows = Turn(embeddings, 3, 1_000.0).rows
    assert rows.shape == embeddings.shape and np.abs(rows.mean(axis=0)).max() < 1e-4
    assert np.square(rows).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-4)


def test_a_long_block_does_not_outweigh_the_others_and_early_ones_are_light_with_few_rows(embeddings):
    many, few = (
        np.square(Turn(embeddings, 3, per).rows).mean(axis=0).reshape(3, 8).sum(axis=1) for per in (100.0, 9.0)
    )
    assert many.max() < 20 * many.min()
    assert few[2] > 1.5 * many[2] and few[0] < many[0] and few[1] < many[1]


@pytest.mark.parametrize("blocks", [1, 3])
def test_what_is_said_in_one_space_is_said_in_the_other(embeddings, blocks):
    turn = Turn(embeddings, blocks, 30.0)
    chance = np.random.default_rng(1)
    weights, bias = chance.normal(size=(24, 4)).astype(np.float32), chance.normal(size=4).astype(np.float32)
    own = turn.back(weights, bias)
    np.testing.assert_allclose(embeddings @ own[0] + own[1], turn.rows @ weights + bias, atol=2e-3)
    again = turn.into(*own)
    np.testing.assert_allclose(turn.rows @ again[0] + again[1], turn.rows @ weights + bias, atol=2e-3)


def test_a_direction_that_never_varies_is_survived(embeddings):
    embeddings[:, 5] = 1.0
    turn = Turn(embeddings, 3, 30.0)
    assert (
        np.isfinite(turn.rows).all()
        and np.isfinite(turn.into(np.ones((24, 2), np.float32), np.zeros(2, np.float32))[0]).all()
    )
