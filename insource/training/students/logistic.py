"""Multinomial logistic regression by L-BFGS with a diagonal preconditioner, on sparse or dense rows.

It knows matrices and class numbers; n-grams, embeddings and answers are the students' business.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Matrix = NDArray[np.float32]

MEMORY = 8
SUFFICIENT_DECREASE = 1e-4
SHORTEST_STEP = 1e-3


def fit_logistic(
    rows: Any,
    classes: NDArray[Any],
    n_classes: int,
    *,
    strength: float,
    tolerance: float = 1e-2,
    max_iterations: int = 60,
    start: tuple[Matrix, Matrix] | None = None,
) -> tuple[Matrix, Matrix]:
    """Minimise mean cross-entropy + |W|^2 / (2 * strength * n); return W float32 (d, K) and the bias float32 (K,).

    `rows` is a scipy CSR matrix or an array, float32 (n, d); `classes` int (n,) in [0, K). The bias is not penalised.
    Stops where the preconditioned gradient norm has fallen to `tolerance` of what it is at zero weights. `start` is a W
    and a bias to begin at instead: the nearer they lie to the minimum, the sooner it ends. Deterministic. Two classes
    are fitted in one column, their difference, and returned in two: the same minimum for half the work.
    Source: Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4 (two-loop recursion) with the diagonal of
    an upper bound of the Hessian as H_0, and backtracking (algorithm 3.1).
    """
    two = n_classes == 2
    loss = _TwoClassLoss(rows, classes, strength) if two else _Loss(rows, classes, n_classes, strength)
    point = loss.start()
    value, gradient = loss(point)
    first = loss.norm(gradient)
    if start is not None:
        point = np.vstack(start).astype(np.float32)
        point = point[:, 1:] - point[:, :1] if two else point
        value, gradient = loss(point)
    memory: deque[tuple[Matrix, Matrix, float]] = deque(maxlen=MEMORY)
    for _ in range(max_iterations):
        if loss.norm(gradient) <= tolerance * first:
            break
        direction = _direction(gradient, memory, loss.preconditioner)
        slope = float(np.vdot(gradient, direction))
        step = 1.0
        while True:
            new_point = point - np.float32(step) * direction
            new_value, new_gradient = loss(new_point)
            if new_value <= value - SUFFICIENT_DECREASE * step * slope or step < SHORTEST_STEP:
                break
            step /= 2
        moved, turned = new_point - point, new_gradient - gradient
        curvature = float(np.vdot(moved, turned))
        if curvature > 1e-12:
            memory.append((moved, turned, 1.0 / curvature))
        point, value, gradient = new_point, new_value, new_gradient
    if two:
        point = np.hstack([-point, point]) / np.float32(2.0)
    return point[:-1], point[-1]


class _Loss:
    """The objective; its argument stacks the weights (d, K) and, as the last row, the bias."""

    def __init__(self, rows: Any, classes: NDArray[Any], n_classes: int, strength: float) -> None:
        self._rows = rows
        sparse = hasattr(rows, "tocsr")
        self._columns = rows.T.tocsr() if sparse else np.ascontiguousarray(rows.T)
        self._classes = np.asarray(classes, dtype=np.intp)
        self._numbers = np.arange(len(self._classes))
        self._shares = np.bincount(self._classes, minlength=n_classes).astype(np.float32) / len(self._classes)
        self._penalty = np.float32(1.0 / (strength * len(self._classes)))
        squares = _mean_squares(rows) if sparse else np.square(rows).mean(axis=0)
        curvature = float((self._shares * (1 - self._shares)).mean()) or 1.0
        diagonal = np.append(self._penalty + curvature * squares, curvature)
        self.preconditioner: Matrix = (1.0 / diagonal).astype(np.float32)[:, None]

    def start(self) -> Matrix:
        """Return zero weights, and the bias that gives each class its share."""
        point = np.zeros((len(self.preconditioner), len(self._shares)), np.float32)
        point[-1] = np.log(np.maximum(self._shares, 1e-6))
        return point

    def norm(self, gradient: Matrix) -> float:
        """Return the norm of a gradient as the preconditioner measures it."""
        return float(np.sqrt(np.vdot(gradient, self.preconditioner * gradient)))

    def __call__(self, point: Matrix) -> tuple[float, Matrix]:
        """Return the loss and its gradient."""
        weights = point[:-1]
        logits = self._rows @ weights
        logits += point[-1]
        logits -= logits.max(axis=1, keepdims=True)
        taken = logits[self._numbers, self._classes].copy()
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1)
        value = float((np.log(sums) - taken).mean())
        logits /= sums[:, None]
        logits[self._numbers, self._classes] -= 1
        logits /= len(taken)
        gradient = np.empty_like(point)
        gradient[:-1] = self._columns @ logits
        gradient[:-1] += self._penalty * weights
        gradient[-1] = logits.sum(axis=0)
        return value + 0.5 * float(self._penalty) * float(np.vdot(weights, weights)), gradient


class _TwoClassLoss(_Loss):
    """The same objective in the difference of the two columns, which are each other's negatives at the minimum.

    Its steps are those that `_Loss` would take: a difference of d costs |d|^2 / 2 where two columns cost |W|^2.
    """

    def __init__(self, rows: Any, classes: NDArray[Any], strength: float) -> None:
        super().__init__(rows, classes, 2, strength)
        self._signs = np.where(self._classes == 1, 1.0, -1.0).astype(np.float32)
        self._penalty /= np.float32(2.0)
        self.preconditioner = self.preconditioner * np.float32(2.0)

    def start(self) -> Matrix:
        """Return zero weights, and the log odds of the second class."""
        point = np.zeros((len(self.preconditioner), 1), np.float32)
        point[-1] = np.diff(np.log(np.maximum(self._shares, 1e-6)))
        return point

    def __call__(self, point: Matrix) -> tuple[float, Matrix]:
        """Return the loss and its gradient."""
        weights = point[:-1, 0]
        margins = (self._rows @ weights + point[-1, 0]) * self._signs
        value = float(np.logaddexp(0.0, -margins).mean())
        slopes = -self._signs * expit(-margins) / np.float32(len(margins))
        gradient = np.empty_like(point)
        gradient[:-1, 0] = self._columns @ slopes + self._penalty * weights
        gradient[-1] = slopes.sum()
        return value + 0.5 * float(self._penalty) * float(np.vdot(weights, weights)), gradient


def _mean_squares(rows: Any) -> NDArray[np.float64]:
    """Return the mean square of each column of a CSR matrix, float64 (d,)."""
    sums = np.bincount(rows.indices, weights=np.square(rows.data), minlength=rows.shape[1])
    return np.asarray(sums / rows.shape[0], dtype=np.float64)


def _direction(gradient: Matrix, memory: deque[tuple[Matrix, Matrix, float]], preconditioner: Matrix) -> Matrix:
    """Return H * gradient for the inverse Hessian H that the memory implies."""
    direction = gradient.copy()
    shares: list[float] = []
    for moved, turned, inverse in reversed(memory):
        share = inverse * float(np.vdot(moved, direction))
        shares.append(share)
        direction -= np.float32(share) * turned
    direction *= preconditioner
    if memory:
        _, turned, inverse = memory[-1]
        direction *= np.float32(1.0 / (inverse * float(np.vdot(turned, preconditioner * turned))))
    for (moved, turned, inverse), share in zip(memory, reversed(shares), strict=True):
        direction += np.float32(share - inverse * float(np.vdot(turned, direction))) * moved
    return direction
