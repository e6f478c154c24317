"""A task rehearsed without a gateway: a ledger in memory, audits that fill it, and a steward beside a real registry.

The steward is the product's own; nothing is served and no time passes but the clock's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from insource.lifecycle.evidence import Row
from insource.lifecycle.reading import Reading
from insource.lifecycle.rollout import Rollout
from insource.lifecycle.steward import Steward
from insource.store.registry import Registry
from insource.types import Audit, Calibration, Mode, SpecialistVersion, Stage, Task

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TASK = Task("triage", target_risk=0.05, mode=Mode.AUTO)
CERTIFIED = Calibration("cross-fit", 0.05, 0.95, 400, 0.42, 0.8, 320, 3, 0.03, 0.9)


class MemoryLedger:
    """What the steward reads of the ledger; `references` has the texts of those that were kept."""

    def __init__(self) -> None:
        self.written: list[tuple[int, Audit]] = []
        self.references: dict[str, str] = {}

    def add(self, *audits: Audit) -> None:
        """Append rows."""
        for each in audits:
            self.written.append((len(self.written) + 1, each))

    def audits(
        self, task: str | None = None, *, after: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Audit]]:
        """Yield as `LedgerReader.audits`."""
        yield from [(seq, each) for seq, each in self.written[after:] if task in (None, each.task)][:limit]

    def decision(self, request_id: str) -> Any:
        """Return what was kept of a request."""
        if request_id not in self.references:
            return None
        kept = SimpleNamespace(reference=self.references[request_id])
        return SimpleNamespace(decision=SimpleNamespace(tier=None, version=None), content=kept)


class Clock:
    """Goes on by a second at every look; `time` may be set to anything."""

    def __init__(self, start: datetime = NOON) -> None:
        self.time = start

    def __call__(self) -> datetime:
        """Return the time."""
        self.time += timedelta(seconds=1)
        return self.time


class Rehearsal:
    """A registry in a folder, a ledger in memory, and a steward that is started anew as often as one likes."""

    def __init__(self, folder: Path, task: Task = TASK, rollout: Rollout | None = None) -> None:
        self.task, self.rollout = task, rollout
        self.registry = Registry.open(folder)
        self.ledger, self.clock = MemoryLedger(), Clock()
        self.gone: dict[int, str] = {}
        self.restart()

    def restart(self) -> None:
        """Kill the steward and start another."""
        self.steward = Steward(
            lambda: {self.task.name: self.task},
            self.registry,
            Reading(self.ledger, None),
            unservable=lambda version: self.gone.get(version.version),
            now=self.clock,
            rollout=self.rollout,
        )

    def register(self, calibration: Calibration | None = CERTIFIED) -> SpecialistVersion:
        """Register a candidate."""
        return self.registry.register(self.task.name, "linear", "d" * 64, calibration, {}, self.clock())

    def at(self, number: int = 1) -> tuple[Stage, float]:
        """Return a version's stage and share."""
        found = self.registry.get(self.task.name, number)
        return found.stage, found.share

    def turn(self, audits: Iterable[Audit] = (), turns: int = 3) -> None:
        """Write rows, then let the steward look a few times."""
        self.ledger.add(*audits)
        for _ in range(turns):
            self.steward.turn()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.registry.close()


def version(
    number: int = 1, stage: Stage = Stage.SHADOW, share: float = 0.0, calibration: Calibration | None = CERTIFIED
) -> SpecialistVersion:
    """Return a version without a registry."""
    return SpecialistVersion(TASK.name, number, "linear", "d" * 64, stage, NOON, calibration, {}, share)


def audit(request: int, number: int = 1, stage: Stage | None = Stage.SHADOW, **told: Any) -> Audit:
    """Return a whole audit of a version that accepts four requests of five, as certified; `told` changes what it says.

    Score and seconds differ from request to request.
    """
    usual: dict[str, Any] = {
        "request_id": f"r-{request}", "time": NOON, "task": TASK.name, "version": number, "accepted": False,
        "agrees": True, "detail": None, "accepts": request % 5 > 0, "stage": stage,
        "score": 0.5 + (request * 7 % 50) / 100, "seconds": 0.002 + (request * 13 % 17) / 1e4,
    }  # fmt: skip
    return Audit(**(usual | told))


def rows(audits: Iterable[Audit], first: int = 1) -> list[Row]:
    """Number audits as the ledger does."""
    return [Row(seq, each) for seq, each in enumerate(audits, first)]
