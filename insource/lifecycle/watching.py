"""One task under watch: what the registry says stands, and the evidence since then, rebuilt from the ledger alone.

It decides nothing and writes nothing. Where a count begins is known by a row's number in the ledger, which the steward
puts into the reasons of its acts; by time only for what a person did while no steward was looking.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from insource.lifecycle.evidence import TRIAL, Evidence, Fold, Row
from insource.lifecycle.monitors import Monitors
from insource.lifecycle.reading import Reading
from insource.risk.recertify import Certified
from insource.store.doubts import KeptWatch
from insource.store.recertifications import Recertified
from insource.store.signals import Signal
from insource.types import Doubt, Move, SpecialistVersion, Stage, Suspension, Task

STEWARD = "steward"
NOWHERE = 2**62
"""The place in the ledger of a task that has no version to watch: beyond every row."""
KEPT_LOOKS, KEPT_ROWS = 40, 20_000
"""What was counted is kept again after so many looks, 10 s at work, or rows: a restart has to read those anew."""
_LOG = logging.getLogger(__name__)
_MARK = re.compile(r"\(ledger row (\d+)\)")


class Registry(Protocol):
    """What is read of the registry."""

    def versions(self, task: str) -> tuple[SpecialistVersion, ...]:
        """Return the task's versions."""
        ...

    def active(self, task: str) -> SpecialistVersion | None:
        """Return the version that serves."""
        ...

    def trial(self, task: str) -> SpecialistVersion | None:
        """Return the version in shadow or canary."""
        ...

    def suspension(self, task: str) -> Suspension | None:
        """Return the suspension that stands."""
        ...

    def doubt(self, task: str) -> Doubt | None:
        """Return the doubt that stands about the active version."""
        ...

    def kept_watch(self, task: str) -> KeptWatch | None:
        """Return what was kept of watching the task."""
        ...

    def recertified(self, task: str, version: int | None = None) -> Recertified | None:
        """Return the last re-certification of the version."""
        ...

    def moves(self, task: str | None = None, *, after: int = 0) -> tuple[Move, ...]:
        """Return the moves, oldest first."""
        ...

    def acts(self, subject: str | None = None) -> tuple[Any, ...]:
        """Return the acts on a subject, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """Where a count begins: after a row of the ledger, or, where nobody noted one, at a time."""

    row: int | None = None
    time: datetime | None = None

    @classmethod
    def of(cls, who: str, why: str | None, time: datetime) -> Start:
        """Return where an act says that it was done; only the steward's word on rows is taken."""
        found = _MARK.search(why or "") if who == STEWARD else None
        return cls(int(found[1])) if found else cls(None, time)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the registry says of a task. `candidate` is the newest that was never tried; None where none waits.

    `trial_starts` and `active_starts` are where the counts of either version begin, each at the last of them.
    """

    task: Task
    active: SpecialistVersion | None
    trial: SpecialistVersion | None
    candidate: SpecialistVersion | None
    suspension: Suspension | None
    trial_starts: tuple[Start, ...] = ()
    active_starts: tuple[Start, ...] = ()
    doubt: Doubt | None = None
    recertified: Recertified | None = None

    @property
    def certified(self) -> Certified | None:
        """What the active version accepts by, None where it accepts nothing: it is never certified anew then."""
        incumbent = self.incumbent
        if incumbent is None or self.suspension is not None or incumbent.calibration is None:
            return None
        threshold = incumbent.calibration.threshold
        doubts = 0 if self.recertified is None else self.recertified.doubts
        return None if threshold is None else Certified(threshold, self.task.guard, doubts)

    @property
    def incumbent(self) -> SpecialistVersion | None:
        """The active version, where it accepts anything: nothing else can be compared with."""
        calibration = self.active.calibration if self.active else None
        return self.active if calibration is not None and calibration.threshold is not None else None

    @property
    def basis(self) -> tuple[object, ...]:
        """What the counts depend on: as long as it stays the same, they go on."""
        compared = self.incumbent.version if self.incumbent and self.suspension is None else None
        numbers = [version.version if version else None for version in (self.active, self.trial)]
        return (self.task, *numbers, compared, self.trial_starts, self.active_starts)

    @property
    def watched(self) -> str:
        """What the counts of the active version alone depend on, as text."""
        task, active = self.task, self.active
        settings = (task.target_risk, task.confidence_level, sorted(task.guard.items()), task.content)
        return repr((settings, active and (active.version, active.digest), self.active_starts))


def standing_of(registry: Registry, task: Task) -> Standing:
    """Read what stands of a task."""
    moves, acts = registry.moves(task.name), registry.acts(task.name)
    active, trial = registry.active(task.name), registry.trial(task.name)
    suspended = [Start.of(act.who, act.detail, act.time) for act in acts if act.what == "suspend"][-1:]
    resumed = [Start.of(act.who, act.detail, act.time) for act in acts if act.what == "resume"][-1:]
    tried = max((move.version for move in moves if move.stage in (*TRIAL, Stage.ACTIVE)), default=0)
    newest = max(tried, active.version if active else 0, trial.version if trial else 0)
    raised = registry.recertified(task.name, active.version) if active else None
    anew = () if raised is None else (Start.of(raised.who, raised.why, raised.time),)
    waiting = [version for version in registry.versions(task.name) if version.stage is Stage.CANDIDATE]
    return Standing(
        task=task,
        active=active,
        trial=trial,
        candidate=next((version for version in reversed(waiting) if version.version > newest), None),
        suspension=registry.suspension(task.name),
        trial_starts=(*_entered(moves, trial, TRIAL), *suspended),
        active_starts=(*_entered(moves, active, (Stage.ACTIVE,)), *suspended, *resumed, *anew),
        doubt=registry.doubt(task.name),
        recertified=raised,
    )


def marked(why: str, row: int | None) -> str:
    """Return a reason with the row of the ledger at which it was given."""
    return why if row is None else f"{why} (ledger row {row})"


class TaskWatch:
    """The evidence about one task's trial and active version, from where each count begins."""

    def __init__(
        self, standing: Standing, noticed: Mapping[Start, int] | None = None, kept: KeptWatch | None = None
    ) -> None:
        """Begin; `noticed` says up to which row the ledger was read when a start without a row was first seen.

        The count of the active version goes on from what was `kept` of it, if that has the same basis.
        """
        self.standing = standing
        task, trial, active = standing.task, standing.trial, standing.active
        incumbent = standing.incumbent if standing.suspension is None else None
        self.fold = Fold(task, trial.version, incumbent.version if incumbent else None) if trial else None
        self.monitors = Monitors(task, active.version, standing.certified) if active else None
        self.audits = self._unkept = self._looks = 0
        self._marks: tuple[bool, bool] | None = None
        starts = standing.active_starts
        if self.monitors is not None and kept is not None and kept.basis == standing.watched:
            self.monitors, starts = _restored(self.monitors, kept, starts, standing.certified)
        self._trial_starts = [_Begun(start, noticed or {}) for start in standing.trial_starts]
        self._active_starts = [_Begun(start, noticed or {}) for start in starts]
        self.position = min(self._first(self._trial_starts, trial), self._first(self._active_starts, active))

    def take(self, row: Row | Signal) -> None:
        """Take one row of the task; numbers must rise."""
        if row.seq <= self.position:
            return
        self.position = row.seq
        self.audits += isinstance(row, Row)
        if self.fold is not None and isinstance(row, Row) and _passed(self._trial_starts, row):
            self.fold.take(row)
        if self.monitors is not None and _passed(self._active_starts, row):
            self._unkept += 1
            if isinstance(row, Row):
                self.monitors.take(row)
            else:
                self.monitors.signal(row)

    def read(self, reading: Reading, limit: int | None = None) -> int:
        """Take what the ledger has beyond the last row, at most `limit`, and return how many rows that was."""
        standing, number = self.standing, 0
        versions = {each.version: each for each in (standing.active, standing.trial) if each is not None}
        until = reading.last_row() if versions else None
        for row in reading.rows(standing.task, versions, after=self.position, until=until, limit=limit):
            self.take(row)
            number += 1
        if until is not None and number != limit:
            self.position = max(self.position, until)  # other tasks' rows are not looked through again
        if self.monitors is not None:
            self.monitors.flush()
        return number

    def due(self) -> bool:
        """Say whether what was counted is worth keeping; to be asked at every look, as it counts them."""
        if self.monitors is None:
            return False
        self._looks += 1
        marks = (self.monitors.doubted, self.monitors.crossed)
        due = marks != self._marks or self._unkept >= KEPT_ROWS or self._looks >= KEPT_LOOKS
        if not (due and self._unkept):
            return False
        self._marks, self._looks, self._unkept = marks, 0, 0
        return True

    def kept(self, told: Mapping[str, Any], now: datetime) -> KeptWatch | None:
        """Return what to keep of the active version's count, None where there is none."""
        if self.monitors is None:
            return None
        name, state = self.standing.task.name, self.monitors.to_state()
        return KeptWatch(name, self.standing.watched, self.position, now, state, dict(told))

    @property
    def read_to(self) -> int | None:
        """The last row read; None where there is nothing to read for."""
        return None if self.position == NOWHERE else self.position

    def evidence(self) -> Evidence | None:
        """Return the evidence about the trial, None where there is none."""
        trial = self.standing.trial
        return None if self.fold is None or trial is None else self.fold.evidence(trial.stage)

    def _first(self, starts: Iterable[_Begun], version: SpecialistVersion | None) -> int:
        """Return after which row reading has to begin for a version's sake."""
        if version is None:
            return NOWHERE
        return max((begun.row for begun in starts if begun.row is not None), default=0)


class _Begun:
    """A start, and whether it lies behind: a clock that is set back later does not bring it back."""

    def __init__(self, start: Start, noticed: Mapping[Start, int]) -> None:
        self.row = start.row if start.row is not None else noticed.get(start)
        self._time = start.time
        self._passed = False

    def passed(self, row: Row | Signal) -> bool:
        if not self._passed:
            time = row.audit.time if isinstance(row, Row) else row.time
            timely = self._time is None or time >= self._time
            self._passed = row.seq > self.row if self.row is not None else timely
        return self._passed


def _passed(starts: list[_Begun], row: Row | Signal) -> bool:
    return all([begun.passed(row) for begun in starts])


def _restored(
    monitors: Monitors, kept: KeptWatch, starts: tuple[Start, ...], certified: Certified | None
) -> tuple[Monitors, tuple[Start, ...]]:
    """Return the monitors as they were kept and where they go on; a state that cannot be read is no state."""
    version, task = monitors.version, monitors.task
    try:
        monitors.restore(kept.state)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        _LOG.error("what was watched of %s@%s cannot be read (%s); it is watched anew", task.name, version, error)
        return Monitors(task, version, certified), starts
    return monitors, (Start(kept.row),)


def _entered(moves: Iterable[Move], version: SpecialistVersion | None, stages: tuple[Stage, ...]) -> tuple[Start, ...]:
    """Return where a version came into these stages, where it did so more than once: audits bear the stage, no more."""
    if version is None:
        return ()
    entries = [move for move in moves
               if move.version == version.version and move.stage in stages and move.before not in stages]  # fmt: skip
    return tuple(Start.of(move.who, move.why, move.time) for move in entries[-1:]) if len(entries) > 1 else ()
