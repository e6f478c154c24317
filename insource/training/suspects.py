"""Rows whose given answer looks wrong: what cross-fitted models agree on, by confident learning.

It knows out-of-fold probabilities and given answers; it changes neither, nor anything that is trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.training.snapshot import Snapshot
from insource.training.students.contract import Classes, Probabilities, Rows
from insource.types import Example

NEVER = 1e-12


@dataclass(frozen=True, slots=True)
class Suspect:
    """One example whose given answer looks wrong; `request` is its id ("FILE:LINE" for a line of a traffic file).

    `sure` in (0.5, 1] is the suggested answer's probability against the given one's, the mean over the models.
    """

    request: str
    text: str
    given: str
    suggested: str
    sure: float


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """What is wrong with the references of `rows` rows: the estimated share, and the examples that look it.

    `families` had to agree on each suspect; the surest stands first.
    """

    families: tuple[str, ...]
    rows: int
    rate: float
    suspects: tuple[Suspect, ...]

    def figures(self) -> dict[str, Any]:
        """Return what lineage and JSON keep: no text."""
        told = {"families": list(self.families), "rows": self.rows}
        return {**told, "rate": self.rate, "suspects": len(self.suspects)}

    def listed(self) -> list[dict[str, Any]]:
        """Return every suspect with its text."""
        return [asdict(suspect) for suspect in self.suspects]


def label_noise(
    opinions: dict[str, Probabilities], rows: Rows, snapshot: Snapshot, examples: Sequence[Example]
) -> LabelNoise | None:
    """Return what the families' out-of-fold `opinions`, float64 (len(rows), K) each, say of the rows' references.

    `examples` are those that the snapshot was taken of. None where there is no opinion.
    """
    if not opinions:
        return None
    given, labels = snapshot.classes[rows], snapshot.answers.answers
    found, suggested, sure = find_suspects(list(opinions.values()), given)
    suspects = tuple(
        Suspect(
            request=examples[snapshot.kept[rows[i]]].request.id,
            text=snapshot.texts[rows[i]],
            given=labels[given[i]],
            suggested=labels[suggested[i]],
            sure=float(sure[i]),
        )
        for i in found
    )
    mean = np.mean(list(opinions.values()), axis=0)
    return LabelNoise(tuple(opinions), len(rows), noise_rate(mean, given), suspects)


def find_suspects(
    opinions: Sequence[Probabilities], given: Classes
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the suspected rows, the surest first, and for every row the suggested answer and how sure that is.

    `opinions` are out-of-fold probabilities, float64 (n, K), of one model each; `given` int (n,). A model suspects a
    row where the given answer's probability is below that answer's threshold and another answer's at or above its own,
    the threshold of an answer being its mean probability over the rows given it; the likeliest such answer is
    suggested. A row is a suspect where all models suspect it and suggest the same.
    Source: Northcutt, Jiang and Chuang, Confident learning (Journal of Artificial Intelligence Research 70, 2021),
    section 3; that several models must agree is ours.
    """
    each = np.arange(len(given))
    counted = [_confident(probabilities, given) for probabilities in opinions]
    suggested = counted[0]
    agreed = np.logical_and.reduce([(found == suggested) & (found >= 0) & (found != given) for found in counted])
    low = [p[each, given] < _thresholds(p, given)[given] for p in opinions]
    against = [p[each, suggested] / np.maximum(p[each, suggested] + p[each, given], NEVER) for p in opinions]
    sure: NDArray[np.float64] = np.mean(against, axis=0)
    found = np.flatnonzero(agreed & np.logical_and.reduce(low))
    return found[np.argsort(-sure[found], kind="stable")], suggested, sure


def noise_rate(probabilities: Probabilities, given: Classes) -> float:
    """Return the estimated share of wrong references: what the calibrated confident joint has off its diagonal.

    Source: as `find_suspects`, equation 3: each given answer's counts are scaled to its number of rows.
    """
    n_classes = probabilities.shape[1]
    counted = _confident(probabilities, given)
    joint = np.zeros((n_classes, n_classes))
    np.add.at(joint, (given[counted >= 0], counted[counted >= 0]), 1.0)
    right, every = np.diag(joint), joint.sum(axis=1)
    stays = np.divide(right, every, out=np.ones(n_classes), where=every > 0)
    return float(1.0 - stays @ np.bincount(given, minlength=n_classes) / len(given))


def _thresholds(probabilities: Probabilities, given: Classes) -> NDArray[np.float64]:
    """Return each answer's mean probability over the rows given it, float64 (K,); infinity where there are none."""
    n_classes = probabilities.shape[1]
    rows = np.bincount(given, minlength=n_classes)
    own = np.bincount(given, probabilities[np.arange(len(given)), given], n_classes)
    found: NDArray[np.float64] = np.divide(own, rows, out=np.full(n_classes, np.inf), where=rows > 0)
    return found


def _confident(probabilities: Probabilities, given: Classes) -> NDArray[np.intp]:
    """Return the likeliest answer of those at or above their threshold for each row, int (n,); -1 where none is."""
    above = np.where(probabilities >= _thresholds(probabilities, given), probabilities, -1.0)
    found: NDArray[np.intp] = np.where(above.max(axis=1) >= 0.0, above.argmax(axis=1), -1)
    return found
