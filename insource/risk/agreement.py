"""The score before calibration: does a specialist's probability vector look like one that agrees with the reference?

It knows probability vectors and agreement, not the answers' names. Why: docs/explanation/the-bound.md.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from insource.risk.rows import Bools, Floats

FEATURES = 3
FEWEST = 5
RIDGE = 1.0
STEPS = 100
SURE = 1e-9
NEVER = 1e-30


def checked_probabilities(probabilities: Any) -> Floats:
    """Return float64 (n, K); raise ValueError unless finite, two-dimensional and K >= 2."""
    matrix = np.asarray(probabilities, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise ValueError(f"probabilities have shape {matrix.shape}; expected (rows, answers) with two answers or more.")
    if not np.isfinite(matrix).all():
        raise ValueError("probabilities hold NaN or infinite values; expected 0 to 1. Check the specialist.")
    return matrix


class AgreementScore:
    """Ridge-penalised logistic regression of "agrees" on the shape of a probability vector and on its first answer.

    Features: logit of the top probability, log ratio of the top two, entropy, and the predicted answer (one-hot). The
    penalty pulls towards the plain logit of the top probability, not towards 0, so that few rows change little; with
    under 5 agreements or under 5 disagreements nothing is learned and that logit stands (plus a trace of the ratio).
    """

    weights_: Floats
    intercept_: float
    answers_: Floats

    def fit(self, probabilities: Any, agrees: Any) -> Self:
        """Fit on `probabilities` float (n, K) and `agrees` bool (n,); deterministic, Newton's method.

        Raises ValueError for shapes that differ or values that are not finite.
        """
        matrix = checked_probabilities(probabilities)
        flags = np.asarray(agrees, dtype=np.bool_)
        if flags.shape != matrix.shape[:1]:
            raise ValueError(f"agrees has shape {flags.shape}; expected ({matrix.shape[0]},), one flag per row.")
        self.weights_, self.intercept_ = np.array([1.0, 1e-3, 0.0]), 0.0
        self.answers_ = np.zeros(matrix.shape[1])
        agreeing = int(np.count_nonzero(flags))
        if min(agreeing, int(flags.size) - agreeing) >= FEWEST:
            shapes, first = features(matrix)
            self._learn(shapes, first, flags)
        return self

    def raw(self, probabilities: Any) -> Floats:
        """Return the ranking statistic (a logit), float (n,): higher means likelier to agree.

        Raises ValueError where `probabilities` are not of the answers it was fitted on.
        """
        matrix = checked_probabilities(probabilities)
        if matrix.shape[1] != self.answers_.size:
            raise ValueError(
                f"{matrix.shape[1]} answers; expected the {self.answers_.size} of the fit. Mend the input."
            )
        shapes, first = features(matrix)
        statistic: Floats = shapes @ self.weights_ + (self.answers_[first] + self.intercept_)
        return statistic

    def _learn(self, shapes: Floats, first: NDArray[np.intp], flags: Bools) -> None:
        """Fit on standardised features and turn the weights back to the plain ones."""
        middle, width = shapes.mean(axis=0), shapes.std(axis=0)
        width[width < 1e-12] = 1.0
        design = np.column_stack([(shapes - middle) / width, np.ones(flags.size)])
        prior = np.append(self.weights_ * width, 0.0)
        weights, self.answers_ = _newton(design, first, self.answers_.size, flags.astype(np.float64), prior)
        self.weights_ = weights[:FEATURES] / width
        self.intercept_ = float(weights[FEATURES] - self.weights_ @ middle)


def features(matrix: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return the three shape features (n, 3) and the predicted answer (n,) of each row of probabilities."""
    first = matrix.argmax(axis=1)
    pair = np.partition(matrix, matrix.shape[1] - 2, axis=1)[:, -2:]
    top = np.clip(pair[:, 1], SURE, 1.0 - SURE)
    ratio = np.log(np.maximum(pair[:, 1], NEVER)) - np.log(np.maximum(pair[:, 0], NEVER))
    entropy = -np.einsum("nk,nk->n", matrix, np.log(np.maximum(matrix, NEVER)))
    return np.column_stack([np.log(top) - np.log1p(-top), ratio, entropy]), first


def _newton(
    design: Floats, first: NDArray[np.intp], answers: int, targets: Floats, prior: Floats
) -> tuple[Floats, Floats]:
    """Return (weights of `design`, one weight per answer) with the least penalised log loss.

    One-hot columns make their part of the curvature diagonal, so a step solves a 4 x 4 system (Schur complement).
    """
    ridge = np.array([RIDGE] * FEATURES + [1e-6])
    weights, shifts = prior.copy(), np.zeros(answers)
    loss = np.inf
    size, step, shift = 0.0, np.zeros_like(weights), np.zeros(answers)
    for _ in range(STEPS):
        trial, trial_shifts = weights - size * step, shifts - size * shift
        logits = design @ trial + trial_shifts[first]
        trial_loss = float(
            np.logaddexp(0.0, logits).sum()
            - targets @ logits
            + (ridge @ (trial - prior) ** 2 + RIDGE * trial_shifts @ trial_shifts) / 2.0
        )
        if trial_loss > loss and size > 1e-8:
            size /= 2.0
            continue
        done = loss - trial_loss < 1e-12 * (1.0 + abs(trial_loss))
        weights, shifts, loss = trial, trial_shifts, trial_loss
        if done:
            break
        size = 1.0
        step, shift = _direction(design, first, expit(logits), targets, ridge, weights - prior, shifts)
    return weights, shifts


def _direction(
    design: Floats,
    first: NDArray[np.intp],
    fitted: Floats,
    targets: Floats,
    ridge: Floats,
    away: Floats,
    shifts: Floats,
) -> tuple[Floats, Floats]:
    """Return Newton's step for the dense weights and for the answers' weights."""
    residual, bend = fitted - targets, fitted * (1.0 - fitted)
    slope = design.T @ residual + ridge * away
    slopes = np.bincount(first, weights=residual, minlength=shifts.size) + RIDGE * shifts
    bent = design * bend[:, None]
    dense = design.T @ bent + np.diag(ridge)
    cross = np.stack([np.bincount(first, weights=column, minlength=shifts.size) for column in bent.T])
    diagonal = np.bincount(first, weights=bend, minlength=shifts.size) + RIDGE
    reduced = dense - (cross / diagonal) @ cross.T
    step = np.asarray(np.linalg.solve(reduced, slope - cross @ (slopes / diagonal)), dtype=np.float64)
    return step, (slopes - cross.T @ step) / diagonal
