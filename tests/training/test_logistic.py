"""The regression against its own optimum: scipy's minimiser finds nothing better."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from insource.training.students.logistic import fit_logistic


def problem(seed=0, n=120, d=6, k=3):
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(n, d)).astype(np.float32)
    classes = (rows[:, :k] + chance.normal(size=(n, k))).argmax(axis=1)
    return rows, classes


def loss(flat, rows, classes, k, strength):
    point = flat.reshape(-1, k)
    logits = rows @ point[:-1] + point[-1]
    logits = logits - logits.max(axis=1, keepdims=True)
    taken = logits[np.arange(len(classes)), classes] - np.log(np.exp(logits).sum(axis=1))
    return -taken.mean() + (point[:-1] ** 2).sum() / (2 * strength * len(classes))


@pytest.mark.parametrize("strength", [0.5, 15.0])
@pytest.mark.parametrize("sparse", [False, True])
def test_it_finds_the_minimum_that_scipy_finds(strength, sparse):
    rows, classes = problem()
    given = scipy.sparse.csr_matrix(rows) if sparse else rows
    weights, bias = fit_logistic(given, classes, 3, strength=strength, tolerance=1e-5, max_iterations=500)
    assert weights.dtype == bias.dtype == np.float32 and weights.shape == (6, 3) and bias.shape == (3,)
    found = np.vstack([weights, bias]).ravel()
    best = scipy.optimize.minimize(loss, np.zeros(21), args=(rows.astype(float), classes, 3, strength), tol=1e-10)
    assert loss(found, rows.astype(float), classes, 3, strength) <= best.fun + 1e-5
    assert np.abs((weights - weights.mean(axis=1, keepdims=True)) - (lambda w: w - w.mean(axis=1, keepdims=True))(
        best.x.reshape(-1, 3)[:-1])).max() < 0.02  # fmt: skip


def test_the_default_tolerance_is_close_to_it():
    rows, classes = problem()
    weights, bias = fit_logistic(rows, classes, 3, strength=15.0)
    tight = fit_logistic(rows, classes, 3, strength=15.0, tolerance=1e-6, max_iterations=500)
    values = [loss(np.vstack(pair).ravel(), rows.astype(float), classes, 3, 15.0) for pair in ((weights, bias), tight)]
    assert values[0] - values[1] < 1e-3


def test_an_answer_without_rows_gets_next_to_no_probability():
    rows, classes = problem()
    weights, bias = fit_logistic(rows, classes, 4, strength=15.0)
    logits = rows @ weights + bias
    assert np.isfinite(logits).all() and (logits[:, 3] < logits[:, :3].max(axis=1) - 3).all()


def test_one_class_alone_and_rows_of_nothing():
    weights, bias = fit_logistic(np.zeros((3, 2), np.float32), np.array([1, 1, 1]), 2, strength=1.0)
    assert np.isfinite(weights).all() and bias[1] > bias[0]
    weights, bias = fit_logistic(
        scipy.sparse.csr_matrix((3, 0), dtype=np.float32), np.array([0, 1, 1]), 2, strength=1.0
    )
    assert weights.shape == (0, 2) and np.allclose(np.exp(bias) / np.exp(bias).sum(), [1 / 3, 2 / 3], atol=1e-3)


def test_it_is_deterministic():
    rows, classes = problem(1)
    first, second = (fit_logistic(rows, classes, 3, strength=15.0) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
