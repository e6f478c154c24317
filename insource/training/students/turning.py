"""Embeddings as a head learns from them: block by block centred, weighed and partly whitened.

It knows arrays, not texts or answers. What is learned in the turned space is folded back into the embeddings' own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

WHITENING = 0.25
LEAST_VARIANCE = 1e-3
ROWS_FOR_EARLY_BLOCKS = 100.0
LEAST_EARLY_WEIGHT = 0.3
TINY = 1e-30


class Turn:
    """A turn of embeddings float32 (n, D) of `blocks` equal blocks, learned from their rows; `rows` has them turned.

    The blocks are made equally long and the earlier ones then lighter: the last block tells topics apart after a few
    rows of an answer, the earlier ones need more, so their weight is the square root of the mean rows of an answer
    over 100, within 0.3 and 1. Within each block, each principal direction is divided by its standard deviation to the
    power 1/4, so that a penalty weighs less on what varies little: worth 0.1 points of accuracy; one whitening over
    all blocks is no better and takes eight times as long. All of it is of mean squared length one. By cross-validation
    (EXPERIMENTS.md).
    """

    def __init__(self, embeddings: Vectors, blocks: int, rows_per_answer: float) -> None:
        early = float(np.clip(np.sqrt(rows_per_answer / ROWS_FOR_EARLY_BLOCKS), LEAST_EARLY_WEIGHT, 1.0))
        self._centre: Vectors = embeddings.mean(axis=0)
        self._turns: list[Vectors] = []
        square, rows = 0.0, []
        for number, part in enumerate(np.split(embeddings, blocks, axis=1)):
            centre = self._centre[number * part.shape[1] :][: part.shape[1]]
            centred = part - centre
            variances, directions = np.linalg.eigh(centred.T @ centred / len(part))
            variances = np.maximum(variances, 0.0)
            length = float(variances.sum() + centre @ centre)
            weight = (1.0 if number == blocks - 1 else early) / np.sqrt(max(length, TINY))
            variances *= weight**2
            floored = np.maximum(variances, LEAST_VARIANCE * max(float(variances[-1]), TINY))
            turn = np.asarray(weight * directions * floored ** (-WHITENING / 2), np.float32)
            square += float((variances * floored**-WHITENING).sum())
            self._turns.append(turn)
            rows.append(centred @ turn)
        scale = np.float32(1.0 / (np.sqrt(square) or 1.0))
        self._turns = [turn * scale for turn in self._turns]
        self.rows: Vectors = np.hstack(rows) * scale

    def back(self, weights: Vectors, bias: Vectors) -> tuple[Vectors, Vectors]:
        """Return what says of embeddings what `weights` (D, K) and `bias` (K,) say of turned rows."""
        parts = np.split(weights, len(self._turns))
        own: Vectors = np.vstack([turn @ part for turn, part in zip(self._turns, parts, strict=True)])
        return own, bias - self._centre @ own

    def into(self, weights: Vectors, bias: Vectors) -> tuple[Vectors, Vectors]:
        """Return what says of turned rows what `weights` (D, K) and `bias` (K,) say of embeddings; undoes `back`."""
        parts = np.split(weights.astype(np.float64), len(self._turns))
        turned = [np.linalg.solve(turn.astype(np.float64), part) for turn, part in zip(self._turns, parts, strict=True)]
        return np.vstack(turned).astype(np.float32), bias + self._centre @ weights
