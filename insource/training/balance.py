"""Class imbalance: how much likelier rare answers are made, so that a specialist does not forget them.

It knows class numbers and probabilities; not students, thresholds or tasks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from insource.training.students.contract import Classes, Probabilities

ADVISED = 0.5
WORTH_TELLING = 0.02


def answer_weights(classes: Classes, n_classes: int, balance: float) -> NDArray[np.float64]:
    """Return (n / (K * n_k)) ** `balance` for each answer, float64 (K,), scaled so that the rows' mean is 1.

    `classes` int (n,) are in [0, K). An answer without rows has weight 1: nothing is known of it that could be raised.
    """
    counts = np.bincount(classes, minlength=n_classes)
    weights = np.ones(n_classes)
    seen = counts > 0
    weights[seen] = (len(classes) / (n_classes * counts[seen])) ** balance
    weights[seen] /= weights[classes].mean()
    return weights


def tilt(probabilities: Probabilities, weights: NDArray[np.float64]) -> Probabilities:
    """Return probabilities float64 (n, K) times `weights` (K,), summing to one again.

    Under a softmax that is log(weights) added to the bias, the logit adjustment of Menon et al. (ICLR 2021, equation
    9). With a bias that no penalty holds, fitting with the offset in place and serving without it comes to the same.
    """
    raised: Probabilities = probabilities * weights
    raised /= raised.sum(axis=1, keepdims=True)
    return raised


def macro_f1(said: Classes, references: Classes, n_classes: int) -> float:
    """Return the mean F1 over the answers that were given or were right."""
    right = np.bincount(references[said == references], minlength=n_classes)
    either = np.bincount(said, minlength=n_classes) + np.bincount(references, minlength=n_classes)
    return float((2 * right[either > 0] / either[either > 0]).mean())


def advice(probabilities: Probabilities, references: Classes) -> str | None:
    """Say what a balance of 0.5 would change, where it raises macro F1 by 2 points or more; else None.

    `probabilities` float64 (n, K) are out of fold and as they were learned, `references` int (n,).
    """
    n_classes = probabilities.shape[1]
    raised = tilt(probabilities, answer_weights(references, n_classes, ADVISED))
    said = [each.argmax(axis=1) for each in (probabilities, raised)]
    before, after = (macro_f1(each, references, n_classes) for each in said)
    if after - before < WORTH_TELLING:
        return None
    now, then = (float((each == references).mean()) for each in said)
    return (
        f"Rare answers are given too seldom: --balance {ADVISED} would raise macro F1 from {before:.1%} to {after:.1%} "
        f"out of fold (accuracy: from {now:.1%} to {then:.1%})."
    )
