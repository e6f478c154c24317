"""Building the report: the registry's versions and the ledger's sums, side by side for every task.

It reads both and draws no picture. The interval comes from its caller: mathematics lives in `risk`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from insource.governance.cautions import cautions_of, verdict_of
from insource.governance.energy import Energy, Joules, add, local_range
from insource.governance.figures import (
    Audits,
    EnergyFigures,
    Money,
    Promotion,
    Report,
    Share,
    TaskFigures,
    Totals,
    Verdict,
    VersionFigures,
)
from insource.governance.lineage import figure_on_test, per_answer, promotion_of
from insource.store import totals as sums
from insource.store.columns import Act
from insource.store.ledger_reader import LedgerRow
from insource.types import Outcome, SpecialistVersion, Task, Usage

LEVEL = 0.95
EMPTY = sums.Totals(0, {}, {}, (), 0, None, None, None, 0, None, 0, None, 0, {})

Interval = Callable[[int, int, float], tuple[float, float]]
"""Takes a count, out of how many, and the level; returns the ends of a central two-sided interval of the share."""

CurrencyOf = Callable[[Task | None], str | None]
"""Says what a task's upstream is paid in (None: that of requests of no task)."""


class Versions(Protocol):
    """What is asked of the registry."""

    def tasks(self) -> tuple[str, ...]:
        """All tasks with a version."""
        ...

    def versions(self, task: str) -> tuple[SpecialistVersion, ...]:
        """A task's versions, oldest first."""
        ...

    def acts(self, subject: str | None = None) -> tuple[Act, ...]:
        """Who promoted what."""
        ...


class Sums(Protocol):
    """What is asked of the ledger."""

    def totals(self, task: str | None = None, since: datetime | None = None) -> sums.Totals:
        """Sums over a task's decisions, or over all."""
        ...

    def aborted(self) -> Iterable[LedgerRow]:
        """Decisions that were never settled."""
        ...

    def acts(self, subject: str | None = None) -> tuple[Act, ...]:
        """What the gateway did besides."""
        ...


def build_report(
    registry: Versions,
    ledger: Sums | None,
    tasks: Mapping[str, Task],
    *,
    now: datetime,
    interval: Interval,
    since: datetime | None = None,
    currency_of: CurrencyOf = lambda task: None,
    only: str | None = None,
) -> Report:
    """Return the figures of every task that is configured, trained or served, and their totals.

    `ledger` is None where nothing was served yet. `only` leaves out the other tasks, but not from the totals.
    Raises StoreError where either cannot be read.
    """
    builder = _Builder(registry, ledger, tasks, interval, since, currency_of)
    overall = builder.sums_of(None)
    names = sorted({*tasks, *registry.tasks(), *(version.task for version in overall.versions)})
    figures = [builder.task(name) for name in names]
    return Report(
        now=now,
        since=since,
        level=LEVEL,
        ledger=ledger is not None,
        totals=builder.totals(overall, figures),
        tasks=tuple(task for task in figures if only in (None, task.name)),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a version did in the period."""

    accepted: int = 0
    coin: int = 0
    audited: int = 0
    compared: int = 0
    disagreed: int = 0


class _Builder:
    def __init__(
        self,
        registry: Versions,
        ledger: Sums | None,
        tasks: Mapping[str, Task],
        interval: Interval,
        since: datetime | None,
        currency_of: CurrencyOf,
    ) -> None:
        self._registry, self._ledger, self._tasks = registry, ledger, tasks
        self._interval, self._since, self._currency_of = interval, since, currency_of
        self._energy = Energy()
        self._promotions: dict[str, list[Promotion]] = defaultdict(list)
        for act in registry.acts():
            if act.what == "promote":
                self._promotions[act.subject].append(promotion_of(act))
        rows = ledger.aborted() if ledger else ()
        self._aborted = Counter(row.decision.task for row in rows if since is None or row.decision.time >= since)
        acts = ledger.acts() if ledger else ()
        self._refused = Counter(
            act.subject for act in acts if act.what == "refuse artifact" and (since is None or act.time >= since)
        )

    def sums_of(self, task: str | None) -> sums.Totals:
        """Return the ledger's sums, empty ones where there is no ledger."""
        return self._ledger.totals(task, self._since) if self._ledger else EMPTY

    def task(self, name: str) -> TaskFigures:
        """Return one task's figures."""
        task, found = self._tasks.get(name, Task(name)), self.sums_of(name)
        seen = {row.version: _Seen(row.accepted, row.coin, row.audited, row.compared, row.disagreed)
                for row in found.versions}  # fmt: skip
        versions = tuple(self._version(version, seen) for version in self._registry.versions(name))
        accepted, currency = found.outcomes.get(Outcome.ACCEPTED, 0), self._currency_of(task)
        audits = self._audits(seen.values())
        figures = TaskFigures(
            name=name,
            configured=name in self._tasks,
            target_risk=task.target_risk,
            confidence_level=task.confidence_level,
            guards=dict(task.guard),
            audit_rate=task.audit_rate,
            active=next((version for version in versions if version.stage == "active"), None),
            verdict=Verdict.NOT_SERVING,
            versions=versions,
            requests=found.requests,
            accepted=accepted,
            coverage=self._share(accepted, found.requests),
            audits=audits,
            reasons=dict(sorted(found.reasons.items(), key=lambda item: (-item[1], item[0]))),
            latency={outcome.value: found.latency.get(outcome.value) for outcome in Outcome},
            cost=Money(found.cost, found.cost_rows, found.settled, currency),
            cost_saved=Money(found.cost_saved, found.cost_saved_rows, found.settled, currency),
            energy=self._energy_of(found, accepted, audits),
            aborted=self._aborted[name],
            cautions=(),
        )
        return cautions_of(replace(figures, verdict=verdict_of(figures)), self._refused)

    def totals(self, overall: sums.Totals, tasks: list[TaskFigures]) -> Totals:
        """Return the sums of everything; money of several currencies is not added up."""
        accepted = overall.outcomes.get(Outcome.ACCEPTED, 0)
        paid = {task.cost.currency for task in tasks if task.requests}
        outside = max(0, overall.requests - sum(task.requests for task in tasks))
        if outside:
            paid.add(self._currency_of(None))
        currency = paid.pop() if len(paid) == 1 else None

        def money(amount: Decimal | None, known: int) -> Money:
            return Money(None if paid else amount, 0 if paid else known, overall.settled, currency)

        return Totals(
            requests=overall.requests,
            outside=outside,
            accepted=accepted,
            coverage=self._share(accepted, overall.requests),
            compared=sum(task.audits.compared for task in tasks),
            verdicts=dict(sorted(Counter(task.verdict.value for task in tasks).items())),
            cost=money(overall.cost, overall.cost_rows),
            cost_saved=money(overall.cost_saved, overall.cost_saved_rows),
            energy=EnergyFigures(
                local=add(task.energy.local for task in tasks if task.energy.local),
                upstream=_upstream_joules(self._energy, overall),
                saved=add(task.energy.saved for task in tasks if task.energy.saved),
            ),
            aborted=sum(self._aborted.values()),
        )

    def _version(self, version: SpecialistVersion, seen: Mapping[int, _Seen]) -> VersionFigures:
        certificate, did = version.calibration, seen.get(version.version, _Seen())
        certified = certificate is not None and certificate.threshold is not None
        return VersionFigures(
            name=version.name,
            version=version.version,
            family=version.family,
            stage=version.stage.value,
            digest=version.digest,
            created=version.created,
            target_risk=certificate.target_risk if certificate else None,
            confidence_level=certificate.confidence_level if certificate else None,
            certified_coverage=certificate.coverage if certificate else None,
            risk_upper_bound=certificate.risk_upper_bound if certificate and certified else None,
            threshold=certificate.threshold if certificate else None,
            evidence_rows=certificate.rows if certificate else None,
            accuracy=figure_on_test(version.lineage, "accuracy"),
            macro_f1=figure_on_test(version.lineage, "macro_f1"),
            per_answer=per_answer(version.lineage),
            promotions=tuple(self._promotions[version.name]),
            accepted=did.accepted,
            audits=self._audits([did]),
            notes=certificate.notes if certificate else (),
        )

    def _audits(self, seen: Iterable[_Seen]) -> Audits:
        rows = list(seen)
        compared, disagreed = sum(row.compared for row in rows), sum(row.disagreed for row in rows)
        coin, audited = sum(row.coin for row in rows), sum(row.audited for row in rows)
        return Audits(coin, audited, compared, disagreed, self._share(disagreed, compared))

    def _share(self, count: int, of: int) -> Share | None:
        return Share(count, of, count / of, *self._interval(count, of, LEVEL)) if of else None

    def _energy_of(self, found: sums.Totals, accepted: int, audits: Audits) -> EnergyFigures:
        """Return the task's energy; what was saved is unknown where any part of it is.

        An accepted request avoided one upstream answer unless it was audited. What that one would have taken is the
        mean of the task's upstream answers: their tokens over all that went up, so at most too low. Local work is
        charged for every request of the task, escalated ones too, so it is at most too high.
        """
        upstream = _upstream_joules(self._energy, found)
        local = local_range(found.joules) if found.joules is not None and found.joules_rows <= accepted else None
        escalated = found.latency.get(Outcome.ESCALATED)
        went_up = (escalated.requests if escalated else 0) + audits.compared
        if local is None or upstream is None or not went_up:
            return EnergyFigures(local, upstream, None)
        avoided = upstream.times(max(0, accepted - audits.audited) / went_up)
        return EnergyFigures(local, upstream, avoided.minus(local.times(found.requests / found.joules_rows)))


def _upstream_joules(energy: Energy, found: sums.Totals) -> Joules | None:
    if found.prompt_tokens is None or found.completion_tokens is None:
        return None
    return energy.of_upstream(Usage(found.prompt_tokens, found.completion_tokens))
