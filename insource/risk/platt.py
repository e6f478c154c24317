"""Platt's calibration on the logit: a ranking number becomes a probability of "agrees" by a fitted S-curve.

It knows scores and agreement only, and works on a handful of rows. Source: Platt 1999, with his smoothed targets.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from scipy.special import expit

from insource.risk.rows import Floats, checked

RIDGE = 1e-3
STEPS = 50


class Platt:
    """sigmoid(slope * score + intercept), slope >= 0 so that it never turns a ranking round.

    With one kind of row only (all agree, or none, or no rows) it is the constant (agreements + 1) / (rows + 2).
    """

    slope_: float
    intercept_: float

    def fit(self, scores: Any, agrees: Any) -> Self:
        """Fit by Newton's method on targets (a+1)/(a+2) and 1/(d+2), with a small ridge on the slope.

        `scores` float (n,), `agrees` bool (n,). Raises ValueError for NaN scores or shapes that differ.
        """
        values, flags = checked(scores, agrees)
        agreeing = int(np.count_nonzero(flags))
        differing = int(flags.size) - agreeing
        self.slope_, self.intercept_ = 0.0, math.log((agreeing + 1.0) / (differing + 1.0))
        if agreeing == 0 or differing == 0:
            return self
        targets = np.where(flags, (agreeing + 1.0) / (agreeing + 2.0), 1.0 / (differing + 2.0))
        middle, width = float(values.mean()), float(values.std())
        if width == 0.0:
            return self
        slope, intercept = _newton((values - middle) / width, targets, self.intercept_)
        if slope > 0.0:
            self.slope_, self.intercept_ = slope / width, intercept - slope * middle / width
        return self

    @classmethod
    def given(cls, slope: float, intercept: float) -> Self:
        """Make the curve with these two numbers."""
        curve = cls()
        curve.slope_, curve.intercept_ = slope, intercept
        return curve

    def probability(self, scores: Any) -> Floats:
        """Return the probability of "agrees" for each score, float (n,)."""
        fitted: Floats = expit(self.slope_ * np.asarray(scores, dtype=np.float64) + self.intercept_)
        return fitted


def _newton(values: Floats, targets: Floats, intercept: float) -> tuple[float, float]:
    """Return (slope, intercept) with the least ridge-penalised log loss; every step is halved until it helps."""
    slope = 0.0
    loss = _loss(values, targets, slope, intercept)
    for _ in range(STEPS):
        fitted = expit(slope * values + intercept)
        weight = fitted * (1.0 - fitted)
        gradient = np.array([values @ (fitted - targets) + RIDGE * slope, (fitted - targets).sum()])
        cross = float(values @ weight)
        curvature = np.array([[(values * values) @ weight + RIDGE, cross], [cross, weight.sum() + 1e-12]])
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-6:
            trial = _loss(values, targets, slope - size * step[0], intercept - size * step[1])
            if trial <= loss:
                break
            size /= 2.0
        else:
            break
        slope, intercept, loss = slope - size * float(step[0]), intercept - size * float(step[1]), trial
        if np.abs(step).max() < 1e-10:
            break
    return slope, intercept


def _loss(values: Floats, targets: Floats, slope: float, intercept: float) -> float:
    logits = slope * values + intercept
    return float((np.logaddexp(0.0, logits) - targets * logits).sum() + RIDGE * slope * slope / 2.0)
