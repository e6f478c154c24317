"""Which requests are worth a gold label: those that versions are unsure of or disagree about, within a budget.

It knows decisions and audits as rows of the ledger; it asks nobody and labels nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Row = TypeVar("Row")

UNKNOWN = 0.5
"""The doubt about a request that no specialist scored: between those it is sure and those it is unsure of."""
DISAGREE = 1.0
"""What a committee's disagreement adds: it stands before every margin, as one of both is wrong for certain."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a request is worth a label: 0 not at all; a margin in [0, 1], and 1 more where versions disagree."""

    margin: float
    disagrees: bool

    @property
    def value(self) -> float:
        """Margin and committee as one number; more is worth more."""
        return self.margin + (DISAGREE if self.disagrees else 0.0)


def worth_labelling(rows: Iterable[Row], budget: int) -> list[Row]:
    """Return at most `budget` of the rows (`LedgerRow`), those most worth a label first; equals keep their order."""
    if budget <= 0:
        return []
    ranked = sorted(rows, key=lambda row: -doubt_of(row).value)
    return ranked[:budget]


def doubt_of(row: Any) -> Doubt:
    """Return the doubt about one decided request.

    The margin is how near the score lay to the threshold, where acceptance hangs by a hair: 1 at the threshold, 0 at
    either end. The committee are the versions that were audited on it: they disagree where one agrees with the
    reference and another does not, or where one would accept and another not.
    """
    decision, audits = row.decision, row.audits
    verdicts = {audit.agrees for audit in audits if audit.agrees is not None}
    accepts = {audit.accepts for audit in audits if audit.accepts is not None}
    return Doubt(_margin(decision.score, decision.threshold), len(verdicts) > 1 or len(accepts) > 1)


def _margin(score: float | None, threshold: float | None) -> float:
    if score is None or not 0.0 <= score <= 1.0:
        return UNKNOWN
    if threshold is None:
        return 1.0 - abs(2.0 * score - 1.0)
    width = max(threshold, 1.0 - threshold) if not 0.0 <= threshold <= 1.0 else (
        threshold if score < threshold else 1.0 - threshold
    )  # fmt: skip
    return 1.0 - min(abs(score - threshold) / width, 1.0) if width > 0.0 else 1.0


def committee(said: Sequence[str | None]) -> bool:
    """Say whether versions that answered one request differ."""
    return len({each for each in said if each is not None}) > 1
