"""Taking inputs out of a product so that the others make up for them: least squares, in closed form.

It knows matrices; not what their rows and columns stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from insource.training.compression.checkpoint import Matrix

DAMPING = 0.01
HOLD = 0.1


class Surgeon:
    """Takes groups of inputs out of X @ W, a few at a time, the cheapest first (optimal brain surgeon, in groups).

    `gram` float64 (n, n) is the mean of x x^T, `weights` float32 (n, outputs); a group is `size` inputs side by side.
    What a group costs is the mean squared change of the product once all other inputs have made up for it (Hassibi and
    Stork 1993, equation 5; for groups: Kurtic et al., ZipLM, NeurIPS 2023). `left` int are the groups still there.
    """

    def __init__(self, gram: NDArray[np.float64], weights: Matrix, size: int) -> None:
        damped = gram + DAMPING * max(float(np.trace(gram)) / len(gram), 1e-12) * np.eye(len(gram))
        self._inverse = np.linalg.inv(damped)
        self._weights = weights.astype(np.float64)
        self._size = size
        self.left = np.arange(len(gram) // size)

    @property
    def rows(self) -> NDArray[np.intp]:
        """The inputs that are still there."""
        return self._rows(self.left).reshape(-1)

    @property
    def weights(self) -> Matrix:
        """Their weights by now, float32 (outputs, len(rows))."""
        return self._weights[self.rows].T.astype(np.float32)

    def take_cheapest(self, count: int = 1) -> tuple[list[int], float]:
        """Take out the `count` groups that cost least, and return them and what they cost by themselves."""
        costs = self._costs()
        order = np.argsort(costs, kind="stable")[:count]
        taken = self.left[order]
        self.take(taken)
        return taken.tolist(), float(costs[order].sum())

    def take(self, groups: Sequence[int] | NDArray[np.intp]) -> None:
        """Take out these groups, and let the others make up for them."""
        if not len(groups):
            return
        rows = self._rows(np.asarray(groups, np.intp)).reshape(-1)
        column = self._inverse[:, rows]
        block = np.linalg.inv(column[rows])
        self._weights -= column @ (block @ self._weights[rows])
        self._inverse -= column @ block @ column.T
        self.left = np.setdiff1d(self.left, groups)

    def _costs(self) -> NDArray[np.float64]:
        rows = self._rows(self.left)
        weights, blocks = self._weights[rows], self._inverse[rows[:, :, None], rows[:, None, :]]
        costs: NDArray[np.float64] = (weights * np.linalg.solve(blocks, weights)).sum(axis=(1, 2))
        return costs

    def _rows(self, groups: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the inputs of groups, int (groups, size)."""
        found: NDArray[np.intp] = groups[:, None] * self._size + np.arange(self._size)
        return found


def refit(inputs: Matrix, target: Matrix, weights: Matrix) -> tuple[Matrix, Matrix]:
    """Return weights (outputs, n) and bias (outputs,) with which `inputs` (tokens, n) come nearest to `target`.

    Ridge regression towards the `weights` there were: few tokens change little.
    """
    centre, mean = inputs.mean(axis=0), target.mean(axis=0)
    shifted = inputs - centre
    gram = (shifted.T @ shifted).astype(np.float64)
    hold = HOLD * float(np.trace(gram)) / len(gram) or 1.0
    missing = (target - mean) - shifted @ weights.T
    change = np.linalg.solve(gram + hold * np.eye(len(gram)), (shifted.T @ missing).astype(np.float64))
    fitted = (weights + change.T).astype(np.float32)
    return fitted, (mean - centre @ fitted.T).astype(np.float32)
