"""What the store's tests share: a clock that stands still, and makers of nouns."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

import insource.store
from insource.store.ledger import Ledger
from insource.types import Audit, Content, Decision, Outcome, Reason, Settlement, Usage

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


class Maker:
    """Makes the nouns of request number `n`."""

    def decision(self, n: object, **changes: object) -> Decision:
        values = {
            "request_id": f"r-{n}", "time": NOON, "outcome": Outcome.ACCEPTED, "reason": Reason.ABOVE_THRESHOLD,
            "task": "triage", "version": 3, "digest": "a" * 64, "score": 0.1 + 0.2, "threshold": 0.3, "audited": True,
            "audit_rate": 0.05, "detail": None,
        }  # fmt: skip
        return Decision(**(values | changes))

    def settlement(self, n: object, **changes: object) -> Settlement:
        values = {
            "request_id": f"r-{n}", "time": NOON, "status": 200, "served_by": "triage@3", "seconds": 0.002,
            "usage": Usage(10, 3), "cost": Decimal("0"), "cost_saved": Decimal("0.000130"), "joules": 0.5,
        }  # fmt: skip
        return Settlement(**(values | changes))

    def audit(self, n: object, **changes: object) -> Audit:
        values = {
            "request_id": f"r-{n}", "time": NOON, "task": "triage", "version": 3, "accepted": True, "agrees": True
        }  # fmt: skip
        return Audit(**(values | changes))

    def content(self, n: object, **changes: object) -> Content:
        values = {
            "request_id": f"r-{n}", "time": NOON, "task": "triage", "text": f"where is my card {n}?", "answer": "card"
        }  # fmt: skip
        return Content(**(values | changes))


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def noon() -> datetime:
    return NOON


@pytest.fixture
def later() -> datetime:
    """A month and a day after noon: content written at noon has expired."""
    return NOON + timedelta(days=31)


@pytest.fixture
def open_ledger(tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers in one home, and closes those that a test left open."""
    opened: list[Ledger] = []

    def open_one(**settings: object) -> Ledger:
        opened.append(Ledger.open(tmp_path / "home", clock=lambda: NOON, **settings))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.fixture
def child_environment() -> dict[str, str]:
    """An environment in which a child process imports the same insource."""
    return {**os.environ, "PYTHONPATH": str(Path(insource.store.__file__).parents[2])}
