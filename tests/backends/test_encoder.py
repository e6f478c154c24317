"""The frozen-encoder engine and the two tiers, on a tiny random encoder."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from insource.backends.encoder import (
    FILE,
    KEPT_NEIGHBOURS,
    NEIGHBOURS,
    TIERS_FILE,
    EncoderEngine,
    TwoTierEngine,
    pool,
)
from insource.errors import ArtifactDamaged
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.linear import LinearStudent
from insource.training.students.two_tier import NO_EXIT, TwoTierStudent, choose_exit, choose_weight

LINES = ["my card was stolen", "card lost again!", "where is my refund", "refund not here"] * 5
CLASSES = np.array([0, 0, 1, 1] * 5)
HARD = ["", "zzz 🙂", "x" * 20_000]


@pytest.fixture
def encoder(tiny_trunk):
    made = EncoderFrozenStudent(tiny_trunk, lambda texts, progress: tiny_trunk.embed(texts))
    return made.fit(made.prepare(LINES), np.arange(len(LINES)), CLASSES, 2)


@pytest.fixture
def tiers(encoder, tiny_trunk):
    def make(weight=0.5, exit_at=0.7):
        made = TwoTierStudent(LinearStudent(), encoder.fresh(), weight=weight, exit_at=exit_at)
        return made.fit(made.prepare(LINES), np.arange(len(LINES)), CLASSES, 2)

    return make


def test_the_matrix_path_equals_the_served_engine_row_by_row(encoder, tiny_trunk, tmp_path):
    encoder.to_artifact(tmp_path)
    engine = EncoderEngine.load(tmp_path, tiny_trunk)
    texts = [*LINES, *HARD]
    expected = encoder.probabilities(encoder.prepare(texts), np.arange(len(texts)))
    many = engine.probabilities_many(texts)
    assert np.array_equal(many, np.stack([engine.probabilities(text) for text in texts]))
    assert np.abs(many - expected).max() < 1e-5
    assert engine.probabilities_many([]).shape == (0, 2)


@pytest.mark.parametrize("exit_at", [0.01, 0.7, NO_EXIT])
def test_two_tiers_serve_what_they_learned(tiers, tiny_trunk, tmp_path, exit_at):
    student = tiers(exit_at=exit_at)
    student.to_artifact(tmp_path)
    engine = TwoTierEngine.load(tmp_path, tiny_trunk)
    texts = [*LINES, *HARD]
    many = engine.probabilities_many(texts)
    assert np.array_equal(many, np.stack([engine.probabilities(text) for text in texts]))
    expected = student.probabilities(student.prepare(texts), np.arange(len(texts)))
    assert np.abs(many - expected).max() < 2e-3


def test_only_what_the_linear_tier_leaves_goes_to_the_encoder(tiers, tiny_trunk):
    class Counting:
        dimension, asked = tiny_trunk.dimension, 0

        def embed_one(self, text):
            self.asked += 1
            return tiny_trunk.embed_one(text)

        def embed(self, texts):
            return np.stack([self.embed_one(text) for text in texts])

    student, counting = tiers(), Counting()
    linear, encoder = student.linear.engine(), student.encoder.engine()
    encoder._trunk = counting
    texts = [*LINES, *HARD]
    left = int((linear.probabilities_many(texts).max(axis=1) < 0.7).sum())
    assert 0 < left < len(texts)
    TwoTierEngine(linear, encoder, 0.5, 0.7).probabilities_many(texts)
    assert counting.asked == left


def test_the_pool_is_log_linear():
    first, second = np.array([0.8, 0.2]), np.array([0.1, 0.9])
    assert np.allclose(pool(first, second, 0.0), first) and np.allclose(pool(first, second, 1.0), second)
    raw = np.sqrt(first * second)
    assert np.allclose(pool(first, second, 0.5), raw / raw.sum())
    assert np.isfinite(pool(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.5)).all()


def test_the_weight_is_the_one_with_the_least_log_loss():
    classes = np.random.default_rng(0).integers(0, 2, 400)
    good = np.where(classes[:, None] == np.arange(2), 0.9, 0.1)
    useless = np.full((400, 2), 0.5)
    assert choose_weight(useless, good, classes) == 1.0 and choose_weight(good, 1 - good, classes) == 0.3


def test_the_exit_tolerates_so_many_errors_and_no_more():
    top = np.linspace(0.99, 0.51, 500)
    first = np.stack([top, 1 - top], axis=1)
    classes = np.zeros(500, np.intp)
    assert choose_exit(first, classes, 0.01) == pytest.approx(0.51)
    classes[300:] = 1
    found = choose_exit(first, classes, 0.01)
    accepted = first.max(axis=1) >= found
    assert classes[accepted].mean() <= 0.01 < classes[: accepted.sum() + 1].mean()
    classes[:3] = 1
    assert (
        choose_exit(first[:99], classes[:99], 1.0) == NO_EXIT
        and choose_exit(first[:100], classes[:100], 0.02) == NO_EXIT
    )


def test_the_nearest_training_rows_explain(encoder, tiny_trunk, tmp_path):
    encoder.to_artifact(tmp_path)
    engine = EncoderEngine.load(tmp_path, tiny_trunk)
    evidence = engine.explain("where is my refund", 1, 0)
    assert len(evidence) == NEIGHBOURS and evidence[0].weight == pytest.approx(1.0, abs=0.01)
    assert [LINES[each.row] for each in evidence] == ["where is my refund"] * 5
    assert all(each.kind == "training row" and each.answer == CLASSES[each.row] for each in evidence)
    assert [each.weight for each in evidence] == sorted((each.weight for each in evidence), reverse=True)


def test_of_many_rows_some_are_kept_to_explain(tiny_trunk):
    chance = np.random.default_rng(0)
    prepared = chance.normal(size=(KEPT_NEIGHBOURS + 500, tiny_trunk.dimension)).astype(np.float32)
    student = EncoderFrozenStudent(tiny_trunk, None)
    student.fit(prepared, np.arange(len(prepared)), (prepared[:, 0] > 0).astype(int), 2)
    stored, rows, answers = student.neighbours_
    assert stored.shape == (KEPT_NEIGHBOURS, tiny_trunk.sentence_dimension)
    assert len(rows) == len(answers) == KEPT_NEIGHBOURS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: {**arrays, "weights": arrays["weights"][:-1]}, "weights"),
        (lambda arrays: {**arrays, "weights": arrays["weights"] * np.float32(np.inf)}, "not finite"),
        (lambda arrays: {**arrays, "neighbours": arrays["neighbours"][:, 1:].copy()}, "neighbours"),
        (lambda arrays: {**arrays, "neighbour_rows": arrays["neighbour_rows"][1:]}, "neighbours"),
        (lambda arrays: {key: value for key, value in arrays.items() if key != "bias"}, "KeyError"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(encoder, tiny_trunk, tmp_path, change, said):
    encoder.to_artifact(tmp_path)
    save_file(change(load_file(tmp_path / FILE)), tmp_path / FILE)
    with pytest.raises(ArtifactDamaged, match=said):
        EncoderEngine.load(tmp_path, tiny_trunk)


@pytest.mark.parametrize("arrays", [{"weight": [1.5], "exit_at": [0.5]}, {"weight": [0.5], "exit_at": [0.0]},
                                    {"weight": [0.5]}, {"weight": [], "exit_at": [1.0]}])  # fmt: skip
def test_tiers_that_do_not_fit_are_refused(tiers, tiny_trunk, tmp_path, arrays):
    tiers().to_artifact(tmp_path)
    save_file({name: np.array(value, dtype=float) for name, value in arrays.items()}, tmp_path / TIERS_FILE)
    with pytest.raises(ArtifactDamaged, match="a weight in .0, 1. and an exit above 0 were expected"):
        TwoTierEngine.load(tmp_path, tiny_trunk)


def test_a_head_does_not_fit_another_trunk(encoder, tmp_path):
    class Other:
        dimension = 7

    encoder.to_artifact(tmp_path)
    with pytest.raises(ArtifactDamaged, match="weights"):
        EncoderEngine.load(tmp_path, Other())
