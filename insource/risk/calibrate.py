"""From scores to a stored calibration: guards first, then the band above them, then the gate on ranking.

It knows arrays of references, never a task or a text; what it could not certify it says in the notes.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.risk.band import Certificate, certify
from insource.risk.bounds import binomial_upper_bound
from insource.risk.guards import GuardCertificate, certify_guard
from insource.risk.notes import guard_note, ranking_note, rare_note, target_note
from insource.risk.ranking import area_under_curve, without_slips
from insource.risk.rows import Bools, Floats, checked
from insource.types import Calibration, GuardResult

MIN_RANKING = 0.75
FEWEST_FOR_RANKING = 10
SETTLED = 1e300
"""A score above every threshold, and finite, as scores must be."""


def calibrate(
    scores: Any,
    wrong: Any,
    references: Any,
    answers_guarded: Mapping[Any, float],
    *,
    target_risk: float,
    confidence_level: float,
    method: str,
    min_ranking: float = MIN_RANKING,
    settled: tuple[Any, Any] | None = None,
) -> Calibration:
    """Certify the lowest threshold that keeps `target_risk` and every guard, each at `confidence_level`.

    `scores` float (n,), `wrong` bool (n,), `references` (n,) the reference of each row as a number or a string,
    `answers_guarded` from such a reference to the share of its rows that may be accepted with another answer.
    Nothing is accepted (threshold None) where a guard has too few rows, where no certified threshold keeps all guards,
    or where the score does not rank: area under the curve, of what can be foreseen (`without_slips`), below
    `min_ranking`. That gate needs at least 10 agreements and 10 disagreements, since it is noise with fewer, and does
    not apply where the band certifies accepting everything, since nothing then hangs on the order. A result of None is
    a value with its reasons in `notes`.
    `GuardResult.held` is False where that guard alone leaves nothing to accept. Its `missed` and upper bound are those
    at the threshold of the result, or, where the guard let nothing through, at the one it forbade.
    `settled`, bool (m,) and references (m,), are further requests whose outcome no threshold here can change: those
    that an earlier tier accepted, true where with another answer, and those that go up whatever happens, false. They
    count for the guards alone, which are about all requests with an answer, whichever tier accepts them.
    Raises ValueError for NaN scores, shapes that differ, or shares outside (0, 1).
    """
    values, flags = checked(scores, wrong)
    names = np.asarray(references)
    if names.shape != values.shape:
        raise ValueError(f"references have shape {names.shape}; expected {values.shape}, one for each score.")
    rows_of = {answer: _guarded(answer, values, flags, names, settled) for answer in answers_guarded}
    guards = {
        answer: certify_guard(*rows_of[answer], limit=limit, confidence_level=confidence_level)
        for answer, limit in answers_guarded.items()
    }
    strictest = max((_floor(guard) for guard in guards.values()), default=-math.inf)
    band = certify(values, flags, target_risk=target_risk, confidence_level=confidence_level, at_least=strictest)
    ranking = area_under_curve(values, ~flags)
    ranks = _ranks(ranking, values, flags, band, min_ranking)
    served = band if ranks else Certificate(None, 0, 0, band.rows, 0.0, None)
    results = tuple(
        _result(answer, limit, guards[answer], band, *rows_of[answer], confidence_level)
        for answer, limit in answers_guarded.items()
    )
    notes = [
        *target_note(values, flags, band, target_risk, confidence_level),
        *(note for guard, result in zip(guards.values(), results, strict=True) for note in guard_note(guard, result)),
        *([] if ranks else [ranking_note(ranking, min_ranking)]),
        *rare_note(names, answers_guarded),
    ]
    return Calibration(
        method=method,
        target_risk=target_risk,
        confidence_level=confidence_level,
        rows=served.rows,
        threshold=served.threshold,
        coverage=served.coverage,
        accepted=served.accepted,
        errors=served.errors,
        risk_upper_bound=served.risk_upper_bound,
        ranking=ranking,
        guards=results,
        notes=tuple(notes),
    )


def _guarded(
    answer: Hashable, values: Floats, flags: Bools, names: NDArray[Any], settled: tuple[Any, Any] | None
) -> tuple[Floats, Bools]:
    """Return scores and flags of the rows with one reference; a settled one scores above every threshold."""
    here = names == answer
    if settled is None:
        return values[here], flags[here]
    wrong, references = np.asarray(settled[0], dtype=np.bool_), np.asarray(settled[1])
    if wrong.shape != references.shape:
        raise ValueError(f"{wrong.size} settled rows have {references.size} references; expected one for each.")
    more = wrong[references == answer]
    return np.append(values[here], np.full(more.size, SETTLED)), np.append(flags[here], more)


def _floor(guard: GuardCertificate) -> float:
    """Return the lowest threshold a guard allows; +inf where its rows are too few for any."""
    return math.inf if guard.threshold is None else guard.threshold


def _ranks(ranking: float | None, values: Floats, flags: Bools, band: Certificate, min_ranking: float) -> bool:
    """Say whether the gate on ranking lets the certificate through."""
    wrong = int(np.count_nonzero(flags))
    if ranking is None or min(wrong, flags.size - wrong) < FEWEST_FOR_RANKING:
        return True
    everything = any(point.accepted == band.rows for point in band.points)
    return everything or without_slips(ranking, values, flags) >= min_ranking


def _result(
    answer: Hashable,
    limit: float,
    guard: GuardCertificate,
    band: Certificate,
    scores: Floats,
    wrong: Bools,
    confidence_level: float,
) -> GuardResult:
    """Put one guard's certificate beside what the chosen threshold, or the forbidden one, makes of its rows."""
    lowest = _floor(guard)
    held = guard.threshold is not None and (not band.points or any(p.threshold >= lowest for p in band.points))
    threshold = band.threshold
    if not held and band.points:
        threshold = band.points[-1].threshold
    if guard.threshold is None and not band.points:
        return GuardResult(str(answer), limit, guard.rows, 0, None, False, guard.rows_lacking)
    missed = 0 if threshold is None else _missed(scores, wrong, threshold)
    bound = binomial_upper_bound(missed, guard.rows, confidence_level)
    return GuardResult(str(answer), limit, guard.rows, missed, bound, held, guard.rows_lacking)


def _missed(scores: NDArray[np.float64], wrong: Bools, threshold: float) -> int:
    return int(np.count_nonzero(wrong & (scores >= threshold)))
