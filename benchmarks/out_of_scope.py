"""Out-of-scope requests on clinc150: how many are told apart where as many in-scope answers are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure, part
from insource import load
from insource.traffic import read

OUTSIDE = "oos"


def recalls(encoder: str, linear: str, data: Path, home: Path) -> list[Figure]:
    """Compare two versions by name: in-scope accuracy, and the recall of `oos` at the linear one's.

    An answer counts as `oos` where the version says so or its score is under a threshold; the encoder's is the highest
    at which its in-scope accuracy is still the linear version's own.
    """
    right, outside, scores = _said(encoder, data, home)
    base_right, base_outside, _ = _said(linear, data, home)
    inside = ~np.isnan(right)
    accuracy, wanted, base = right[inside].mean(), base_right[inside].mean(), base_outside[~inside].mean()
    thresholds = np.unique(scores)
    kept = np.array([(right[inside] * (scores[inside] >= each)).mean() for each in thresholds])
    best = thresholds[np.flatnonzero(kept >= wanted)[-1]] if accuracy >= wanted else 0.0
    recall = float((outside[~inside].astype(bool) | (scores[~inside] < best)).mean())
    return [
        Figure("clinc150, encoder, in-scope accuracy", f"{accuracy:.1%}", ">= 96.0 %", round(accuracy, 3) >= 0.96),
        Figure(
            f"clinc150, out-of-scope recall at an in-scope accuracy of {wanted:.1%}",
            f"{recall:.1%} (linear {base:.1%}; unthresholded {outside[~inside].mean():.1%})",
            "at least twice the linear family's",
            recall >= 2 * base,
        ),
    ]


def _said(name: str, data: Path, home: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return of each test row whether the answer is right (NaN out of scope), whether it is `oos`, and its score."""
    examples = read(part(data, "clinc150", "test")).examples
    texts = [str(each.request.messages[-1].content) for each in examples]
    said = load(name, home=home).many(texts)
    right = [np.nan if each.answer == OUTSIDE else float(told.label == each.answer)
             for each, told in zip(examples, said, strict=True)]  # fmt: skip
    return np.array(right), np.array([float(each.label == OUTSIDE) for each in said]), np.array([s.score for s in said])
