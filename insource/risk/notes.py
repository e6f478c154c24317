"""What a calibration could not do, in full sentences: what happened, what was expected, what to do.

It knows figures and references; the calling room puts the task's name before them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.risk.band import Certificate
from insource.risk.bounds import rows_needed
from insource.risk.guards import GuardCertificate
from insource.risk.rows import Bools, Floats, highest_first
from insource.types import GuardResult

FEWEST_FOR_ESTIMATE = 20
RARE = 0.10
NAMED = 3


def target_note(
    scores: Floats, wrong: Bools, band: Certificate, target_risk: float, confidence_level: float
) -> list[str]:
    """Say why the band certified nothing, and about how many rows it would take; nothing to say where it did."""
    if band.points:
        return []
    needed = rows_needed(target_risk, confidence_level)
    if band.rows < needed:
        return [
            f"{band.rows} calibration examples; target_risk {target_risk:g} at confidence level {confidence_level:g} "
            f"needs at least {needed}. Collect more, or raise target_risk."
        ]
    wanted = rows_wanted(scores, wrong, target_risk, confidence_level)
    if wanted is None:
        return [
            f"The specialist disagrees with the reference in more than target_risk {target_risk:g} of even its best "
            f"scored answers ({band.rows} calibration examples), so more examples of this kind will not certify it. "
            "Improve the specialist or the references, or raise target_risk."
        ]
    return [
        f"target_risk {target_risk:g} at confidence level {confidence_level:g} cannot be certified on {band.rows} "
        f"calibration examples; about {wanted} would give even odds. Collect more, or raise target_risk."
    ]


def rows_wanted(scores: Floats, wrong: Bools, target_risk: float, confidence_level: float) -> int | None:
    """Estimate the calibration rows for even odds of certifying something; None where no risk seen is under target.

    At the prefix of best scores where it takes fewest: accepted m about 5 a(1-a)/(a-R)^2, never under the error-free
    minimum, over the share that prefix takes. Found by simulation. A rough figure, since R is
    the risk observed at the best of many prefixes of 20 rows or more.
    """
    _, flags = highest_first(scores, wrong)
    counts = np.arange(1, flags.size + 1)
    risk = np.cumsum(flags) / counts
    usable = (counts >= min(FEWEST_FOR_ESTIMATE, flags.size)) & (risk < target_risk)
    if not usable.any():
        return None
    accepted = np.maximum(
        5.0 * target_risk * (1.0 - target_risk) / (target_risk - risk[usable]) ** 2,
        rows_needed(target_risk, confidence_level),
    )
    fewest = float((accepted * flags.size / counts[usable]).min())
    return max(_two_digits(fewest), int(flags.size) + 1)


def guard_note(guard: GuardCertificate, result: GuardResult) -> list[str]:
    """Say why one guard lets nothing through, if it does not."""
    if guard.rows_lacking:
        return [
            f"The guard on '{result.answer}' has {guard.rows} rows, needs at least {guard.rows + guard.rows_lacking}; "
            f"{guard.rows_lacking} are missing. Collect more, or raise its limit of {result.limit:g}."
        ]
    if result.held:
        return []
    return [
        f"The guard on '{result.answer}' lets no certified threshold through: at the one target_risk alone allows, "
        f"{result.missed} of its {result.rows} rows would be accepted with another answer; at most {result.limit:g} of "
        "such requests may be. Improve the specialist on that answer, or raise the guard's limit."
    ]


def ranking_note(ranking: float | None, min_ranking: float) -> str:
    """Say that the score does not rank well enough to decide on."""
    return (
        f"The score ranks agreeing above disagreeing answers with an area under the curve of {ranking or 0.0:.2f}; "
        f"expected at least {min_ranking:g}. Nothing is accepted. Train on more examples, or choose another family."
    )


def rare_note(references: NDArray[Any], guarded: Mapping[Any, float]) -> list[str]:
    """Warn of answers under 10 % of the references that no guard protects, the rarest named."""
    if references.size == 0:
        return []
    answers, counts = np.unique(references, return_counts=True)
    rare = sorted(
        (int(count), str(answer))
        for answer, count in zip(answers.tolist(), counts.tolist(), strict=True)
        if count < RARE * references.size and answer not in guarded
    )
    if not rare:
        return []
    named = ", ".join(f"'{answer}' {count / references.size:.1%}" for count, answer in rare[:NAMED])
    more = f" and {len(rare) - NAMED} more" if len(rare) > NAMED else ""
    return [
        f"No guard on {named}{more}: under 10 % of the references each, so target_risk alone would allow most of their "
        "requests to be answered wrongly. Set a guard on the answers that must not be missed."
    ]


def _two_digits(value: float) -> int:
    """Round up to two significant digits, since the estimate has no more."""
    unit: int = 10 ** max(int(math.log10(value)) - 1, 0)
    return math.ceil(value / unit) * unit
