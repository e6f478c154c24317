"""The sums over the ledger that reports and metrics start from.

It counts; it draws no conclusion. Money is added up exactly; what is unknown is None, and counted as such, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import apsw

from insource.types import Outcome

DIGITS = 100  # enough that no sum of money is ever rounded
CHOSEN = "d.time >= :since AND (:task IS NULL OR d.task = :task)"
COUNTS = f"SELECT outcome, reason, count(*) FROM decisions d WHERE {CHOSEN} GROUP BY 1, 2"
VERSIONS = f"""
SELECT d.task || coalesce('/' || d.tier, ''), d.version, sum(d.outcome = 'accepted' AND d.reason = 'above_threshold'),
       sum(d.audited), count(a.seq) FILTER (WHERE a.accepted),
       count(a.agrees) FILTER (WHERE a.accepted), count(*) FILTER (WHERE a.accepted AND a.agrees = 0)
FROM decisions d LEFT JOIN audits a ON a.request_id = d.request_id AND a.version = d.version
    AND a.task = CASE WHEN d.tier IS NULL THEN d.task ELSE d.task || '/' || d.tier END
WHERE {CHOSEN} AND d.version IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
"""
SETTLED = f"""
SELECT count(*), sum(s.prompt_tokens), sum(s.completion_tokens), count(s.joules), sum(s.joules)
FROM decisions d JOIN settlements s ON s.request_id = d.request_id WHERE {CHOSEN}
"""
MONEY = f"""
SELECT s.cost, s.cost_saved, count(*)
FROM decisions d JOIN settlements s ON s.request_id = d.request_id
WHERE {CHOSEN} AND (s.cost IS NOT NULL OR s.cost_saved IS NOT NULL) GROUP BY 1, 2
"""
SECONDS = f"""
SELECT s.seconds FROM decisions d JOIN settlements s ON s.request_id = d.request_id
WHERE {CHOSEN} AND d.outcome = :outcome ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class VersionTotals:
    """One version's figures: `audited` accepted answers were audited, `compared` of them with a reference at hand.

    `task` is "TASK/HOUSE" for a tier in the house. `accepted` leaves out what lies outside the promise.

    `coin` counts all of its requests that the audit coin picked, accepted or not.
    """

    task: str
    version: int
    accepted: int
    coin: int
    audited: int
    compared: int
    disagreed: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Nearest-rank quantiles of settled requests, in seconds."""

    requests: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the chosen decisions; None where nothing is known, with the number of rows behind each sum."""

    requests: int
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    versions: tuple[VersionTotals, ...]
    settled: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: Decimal | None
    cost_rows: int
    cost_saved: Decimal | None
    cost_saved_rows: int
    joules: float | None
    joules_rows: int
    latency: Mapping[str, Latency | None]


def read_totals(connection: apsw.Connection, task: str | None, since: int | None) -> Totals:
    """Read the totals of `task` (None: of everything) from `since` on, in microseconds since 1970.

    All figures come from one snapshot of the file.
    """
    chosen = {"task": task, "since": -(2**63) if since is None else since}
    connection.execute("BEGIN")
    try:
        counts, versions, sums, amounts = (
            _read(connection, statement, chosen) for statement in (COUNTS, VERSIONS, SETTLED, MONEY)
        )
        latency = {outcome.value: _latency(connection, chosen, outcome) for outcome in Outcome}
    finally:
        connection.execute("COMMIT")
    settled, prompt, completion, joules_rows, joules = sums[0]
    cost, cost_rows = _sum([(row[0], row[2]) for row in amounts])
    saved, saved_rows = _sum([(row[1], row[2]) for row in amounts])
    return Totals(
        requests=sum(row[2] for row in counts),
        outcomes=_grouped(counts, 0),
        reasons=_grouped(counts, 1),
        versions=tuple(VersionTotals(*row) for row in versions),
        settled=settled,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost,
        cost_rows=cost_rows,
        cost_saved=saved,
        cost_saved_rows=saved_rows,
        joules=joules,
        joules_rows=joules_rows,
        latency=latency,
    )


def _read(connection: apsw.Connection, statement: str, values: Mapping[str, Any]) -> list[Any]:
    return list(connection.execute(statement, values))


def _grouped(counts: Sequence[Sequence[Any]], column: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in counts:
        sums[row[column]] = sums.get(row[column], 0) + row[2]
    return sums


def _sum(amounts: Sequence[tuple[str | None, int]]) -> tuple[Decimal | None, int]:
    known = [(Decimal(figures), count) for figures, count in amounts if figures is not None]
    if not known:
        return None, 0
    with localcontext(prec=DIGITS):
        total = sum((figures * count for figures, count in known), Decimal(0))
    return total, sum(count for _, count in known)


def _latency(connection: apsw.Connection, chosen: Mapping[str, Any], outcome: Outcome) -> Latency | None:
    seconds = [row[0] for row in _read(connection, SECONDS, {**chosen, "outcome": outcome.value})]
    if not seconds:
        return None
    rank = [seconds[max(0, -(-len(seconds) * percent // 100) - 1)] for percent in (50, 95, 99)]
    return Latency(len(seconds), *rank)
