"""The figures of a report, frozen: what `report` finds out and what the page, the terminal and --json show.

They hold values and nothing else. None is unknown, never zero; shares lie in [0, 1]; times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

from insource.governance.energy import Joules
from insource.store.totals import Latency


class Verdict(StrEnum):
    """What the audits of the active version say about its promise."""

    HELD = "held"
    UNDECIDED = "undecided"
    BROKEN = "broken"
    UNCHECKED = "unchecked"
    NOT_SERVING = "not_serving"


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `of`, with a central two-sided interval at the report's level."""

    count: int
    of: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Money:
    """A sum and the number of settled requests it is known for; None where it is known for none."""

    amount: Decimal | None
    known: int
    settled: int
    currency: str | None


@dataclass(frozen=True, slots=True)
class Audits:
    """What the audit sample found among accepted answers: `risk` is disagreement among those compared."""

    coin: int
    audited: int
    compared: int
    disagreed: int
    risk: Share | None


@dataclass(frozen=True, slots=True)
class EnergyFigures:
    """What local answers took, what the upstream took, and what was saved: avoided upstream answers less local work.

    In the totals, each is the sum over the tasks for which it is known.
    """

    local: Joules | None
    upstream: Joules | None
    saved: Joules | None


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """One answer on a version's test rows: `missed` were accepted with another answer."""

    answer: str
    rows: int | None
    accepted: int | None
    missed: int | None
    missed_upper_bound: float | None


@dataclass(frozen=True, slots=True)
class Promotion:
    """Who made a version the active one, when, and why; `before` is the version that it replaced."""

    time: datetime
    who: str
    why: str
    before: str | None


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """A version with its certificate, its test figures, who promoted it, and what its audits found in the period."""

    name: str
    version: int
    family: str
    stage: str
    digest: str
    created: datetime
    target_risk: float | None
    confidence_level: float | None
    certified_coverage: float | None
    risk_upper_bound: float | None
    threshold: float | None
    evidence_rows: int | None
    accuracy: float | None
    macro_f1: float | None
    per_answer: tuple[AnswerFigures, ...]
    promotions: tuple[Promotion, ...]
    accepted: int
    audits: Audits
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caution:
    """Something the reader must know before trusting the figures: a stable code, and a sentence."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One task: its promise, its active version, and what became of its requests in the period."""

    name: str
    configured: bool
    target_risk: float
    confidence_level: float
    guards: Mapping[str, float]
    audit_rate: float
    active: VersionFigures | None
    verdict: Verdict
    versions: tuple[VersionFigures, ...]
    requests: int
    accepted: int
    coverage: Share | None
    audits: Audits
    reasons: Mapping[str, int]
    latency: Mapping[str, Latency | None]
    cost: Money
    cost_saved: Money
    energy: EnergyFigures
    aborted: int
    cautions: tuple[Caution, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all requests of the period; `outside` counts those of no listed task, which went straight upstream.

    There is no risk of everything: a promise is a task's, and tasks are audited at rates of their own. `verdicts`
    counts the tasks by verdict, `compared` the accepted answers that had a reference to compare with.
    """

    requests: int
    outside: int
    accepted: int
    coverage: Share | None
    compared: int
    verdicts: Mapping[str, int]
    cost: Money
    cost_saved: Money
    energy: EnergyFigures
    aborted: int


@dataclass(frozen=True, slots=True)
class Report:
    """All figures from `since` (None: from the beginning) until `now`; `ledger` is False where nothing was served yet.

    `level` is that of every interval.
    """

    now: datetime
    since: datetime | None
    level: float
    ledger: bool
    totals: Totals
    tasks: tuple[TaskFigures, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: money as text (exact), times in ISO 8601, shares and joules with their ranges."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value
