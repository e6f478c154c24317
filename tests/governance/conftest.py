"""A home with a registry and a ledger, filled through the store's own doors."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from insource.governance.report import build_report
from insource.risk.bounds import binomial_interval
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Audit, Calibration, Decision, Outcome, Reason, Settlement, Task, Usage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CALIBRATION = Calibration("band", 0.05, 0.95, 400, 0.7, 0.8, 320, 4, 0.03, 0.9)
TOKENS = Usage(100, 10)
ANSWERS = [{"answer": "yes", "rows": 40, "accepted": 30, "missed": 1, "missed_upper_bound": 0.11}, {"answer": "no"}]
LINEAGE = {"test": {"accuracy": 0.93, "macro_f1": 0.91, "per_answer": ANSWERS}}


class House:
    """Fills one home and reports on it."""

    def __init__(self, home):
        self.home = home
        self.now = NOON
        self.registry = Registry.open(home)
        self.tasks = {}
        self._ledger = None
        self._number = 0

    @property
    def ledger(self):
        if self._ledger is None:
            self._ledger = Ledger.open(self.home, clock=lambda: self.now)
        return self._ledger

    def task(self, name, **settings):
        self.tasks[name] = Task(name, **settings)

    def version(self, task, *, promoted=True, lineage=LINEAGE, who="anna", why="guard held", **changes):
        certificate = replace(CALIBRATION, **changes)
        made = self.registry.register(task, "linear", f"{task}-digest", certificate, lineage, NOON - timedelta(days=9))
        if promoted:
            self.registry.promote(task, made.version, who, why, NOON - timedelta(days=8))
        return made

    def accepted(self, count, task="triage", *, version=1, audits=(), saved="0.002", seconds=0.002, joules=0.008,
                 time=NOON):  # fmt: skip
        """Accept `count` requests; `audits` says for the first ones whether they agree with the reference."""
        for i in range(count):
            audited = i < len(audits)
            request = self._decided(
                Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, task, version, time, audited=audited, audit_rate=0.05
            )
            saving = None if saved is None else Decimal(0 if audited else saved)
            self.ledger.settle(Settlement(
                request, time, 200, f"specialist:{task}@{version}", seconds, cost=Decimal(0), cost_saved=saving,
                joules=joules,
            ))  # fmt: skip
            if audited:
                self.ledger.audit(Audit(request, time, task, version, True, audits[i]))

    def escalated(self, count, task="triage", *, reason=Reason.BELOW_THRESHOLD, version=1, cost="0.002",
                  usage=TOKENS, joules=None, settled=True, seconds=0.8, time=NOON):  # fmt: skip
        for _ in range(count):
            request = self._decided(Outcome.ESCALATED, reason, task, version, time)
            if settled:
                paid = None if cost is None else Decimal(cost)
                self.ledger.settle(Settlement(request, time, 200, "main", seconds, seconds, usage, paid, joules=joules))

    def restart(self):
        """End the gateway and start it again."""
        self.ledger.close()
        self._ledger = Ledger.open(self.home, clock=lambda: self.now)

    def report(self, **options):
        if self._ledger is None:
            return self._build(None, options)
        self._ledger.close()
        with LedgerReader(self.home) as reader:
            return self._build(reader, options)

    def close(self):
        self.registry.close()
        if self._ledger is not None:
            self._ledger.close()

    def _build(self, reader, options):
        known = {"now": self.now, "interval": binomial_interval, "currency_of": lambda task: "USD"}
        return build_report(self.registry, reader, self.tasks, **(known | options))

    def _decided(self, outcome, reason, task, version, time, **more):
        self._number += 1
        request = f"r-{self._number}"
        self.ledger.append_now(Decision(request, time, outcome, reason, task, version if task else None, **more))
        return request


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "home")
    yield made
    made.close()
