"""The steward: tails the ledger and the registry, and takes the steps that the evidence allows or demands.

It follows what stands and owns nothing: all it knows is rebuilt from ledger and registry, so that a kill loses nothing.
It suspends and rolls back in every mode; it moves versions on in `auto`, proposes in `approve`, watches in `manual`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from insource.errors import StoreError, UserError
from insource.lifecycle.drift_told import (
    SUSPICION,
    doubted_kinds,
    told_drift,
    why_doubted,
    why_ended,
    why_raised,
)
from insource.lifecycle.evidence import Evidence
from insource.lifecycle.monitors import Watch
from insource.lifecycle.reading import Reading
from insource.lifecycle.registry import Registry
from insource.lifecycle.rollout import Back, Hold, Rollout, State, Step
from insource.lifecycle.watching import STEWARD, Standing, Start, TaskWatch, marked, standing_of
from insource.store.doubts import KeptWatch
from insource.store.recertifications import Recertified
from insource.types import Calibration, Doubt, Mode, SpecialistVersion, Stage, Task

POLL_SECONDS = 0.25
LONGEST_PAUSE = 1.0
"""An idle steward looks at least this often: a verdict must be out within two seconds (promise C3)."""
PAGE = 1_000
_LOG = logging.getLogger(__name__)


Unservable = Callable[[SpecialistVersion], str | None]
"""Says why a version's artifact cannot be served, None where it can."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look at a task came to: what stands, what is known of trial and active version, and the next step."""

    standing: Standing
    evidence: Evidence | None
    watch: Watch | None
    step: Step | Hold | Back | None


class Steward:
    """Watches all tasks of one home. One thread; `turn` never waits, `run` is the loop around it."""

    def __init__(
        self,
        tasks: Callable[[], Mapping[str, Task]],
        registry: Registry,
        reading: Reading,
        *,
        unservable: Unservable,
        now: Callable[[], datetime],
        rollout: Rollout | None = None,
    ) -> None:
        self._tasks, self._registry, self._reading = tasks, registry, reading
        self._unservable, self._now = unservable, now
        self._rollout = rollout or Rollout()
        self._watches: dict[str, TaskWatch] = {}
        self._noticed: dict[str, dict[Start, int | None]] = {}
        self._judged: dict[str, object] = {}
        self._seen: tuple[int, object] | None = None
        self._behind = False

    def run(self, sleep: Callable[[float], object], stopped: Callable[[], bool], poll: float = POLL_SECONDS) -> None:
        """Turn until `stopped`; pause for `poll` seconds after each turn, longer while nothing happens.

        A store that is busy, full or damaged is told and tried again: the steward outlives it.
        """
        pause = poll
        while not stopped():
            try:
                news = self.turn()
                pause = 0.0 if self._behind else poll if news else min(2 * pause or poll, max(poll, LONGEST_PAUSE))
            except StoreError as error:
                _LOG.warning("the steward waits: %s", error)
                self._watches.clear()  # what was half done is read and judged again
                self._judged.clear()
                pause = LONGEST_PAUSE
            sleep(pause)

    def turn(self) -> bool:
        """Look once at every task, and say whether anything was new. Raises StoreError."""
        tasks = self._tasks()
        seen = (self._registry.changed(), tuple(tasks.values()))
        news = seen != self._seen or len(self._watches) != len(tasks)
        if news:
            for task in tasks.values():
                self._follow(task)
        for name in self._watches.keys() - tasks.keys():
            del self._watches[name]
        self._seen, self._behind = seen, False
        for watch in list(self._watches.values()):
            news |= self._look(watch)
        return news

    def look(self, task: str) -> Verdict:
        """Return where a task stood at the last turn; KeyError for one that is not watched."""
        return verdict_of(self._watches[task], self._rollout, self._unservable)

    def _follow(self, task: Task) -> None:
        """Take over what the registry says of a task; what was counted goes on where its basis is the same."""
        standing = standing_of(self._registry, task)
        before = self._watches.get(task.name)
        row = before.read_to if before is not None else None
        noticed = self._noticed.setdefault(task.name, {})
        for start in (*standing.trial_starts, *standing.active_starts):
            if start.row is None:
                noticed.setdefault(start, row)
        if before is not None and before.standing.basis == standing.basis:
            before.standing = standing
        else:
            known = {start: at for start, at in noticed.items() if at is not None}
            self._watches[task.name] = TaskWatch(standing, known, kept_of(self._registry, self._reading, task.name))

    def _look(self, watch: TaskWatch) -> bool:
        number = watch.read(self._reading, PAGE)
        if number == PAGE:  # more has been written: half of it lifts nothing and moves nothing on
            self._behind = True
            if not self._watch_active(watch):
                self._go_back(watch)
            self._keep(watch)
            return True
        acted = self._watch_active(watch) or self._lift(watch) or self._doubt(watch)
        self._keep(watch)
        if not acted and self._is_new(watch):
            acted = self._advance(verdict_of(watch, self._rollout, self._unservable), watch.read_to)
        return acted or number > 0

    def _is_new(self, watch: TaskWatch) -> bool:
        """Say whether anything that a verdict depends on has changed since the last one."""
        standing = watch.standing
        version = standing.trial or standing.candidate
        depends = (standing, watch.audits, None if version is None else self._unservable(version))
        judged = self._judged.get(standing.task.name)
        self._judged[standing.task.name] = depends
        return judged != depends

    def _watch_active(self, watch: TaskWatch) -> bool:
        """Suspend what is shown to be wrong, or raise the threshold to where it was shown to be right."""
        monitors, standing = watch.monitors, watch.standing
        name = standing.task.name
        if monitors is None:
            return False
        if standing.suspension is None and monitors.crossed:
            why = marked("; ".join(monitors.watch().crossed), watch.read_to)
            self._registry.suspend(name, STEWARD, why, self._now())
            _LOG.warning("task %s is suspended: %s", name, why)
            return True
        return monitors.raised is not None and self._raise_threshold(watch, monitors.raised, monitors.doubts)

    def _lift(self, watch: TaskWatch) -> bool:
        """Lift the steward's own suspension where all is shown to be right since."""
        monitors, suspension = watch.monitors, watch.standing.suspension
        if monitors is None or suspension is None or suspension.who != STEWARD or not monitors.recertified:
            return False
        risk = monitors.watch().risk
        told = f"re-certified since the suspension: {risk.count:,} wrong of {risk.rows:,}, at most {risk.upper:.1%}"
        return self._registry.resume(watch.standing.task.name, STEWARD, marked(told, watch.read_to), self._now())

    def _raise_threshold(self, watch: TaskWatch, found: Calibration, doubts: int) -> bool:
        """Have the active version go on at the higher threshold that a doubt found; what watches it begins anew."""
        standing, row = watch.standing, watch.read_to or 0
        active, certified, doubt = standing.active, standing.certified, standing.doubt
        if active is None or certified is None:
            return False
        why = marked(why_raised(certified.threshold, found), row)
        since = row if doubt is None else doubt.row
        with suppress(UserError):  # StageConflict: the next turn sees what stands
            self._registry.recertify(Recertified(active.task, active.version, self._now(), certified.threshold, found,
                                                 doubts, since, STEWARD, why))  # fmt: skip
            _LOG.warning("%s is certified anew: %s", active.name, why)
        return True

    def _doubt(self, watch: TaskWatch) -> bool:
        """Have every request audited while something is in doubt, and no longer."""
        monitors, standing = watch.monitors, watch.standing
        stands, active, row = standing.doubt, standing.active, watch.read_to
        doubted = monitors is not None and monitors.doubted and standing.suspension is None
        if monitors is None or active is None or doubted == (stands is not None):
            return False
        name, seen, now = standing.task.name, monitors.watch(), self._now()
        if stands is not None:
            why = "the task is suspended, so every request goes up anyway" if standing.suspension else why_ended(seen)
            quiet = stands.kinds == SUSPICION
            return self._registry.end_doubt(stands, STEWARD, marked(why, row), now, quiet=quiet)
        kinds, why = doubted_kinds(seen), marked(why_doubted(seen, self._reading.answers(active)), row)
        with suppress(UserError):  # StageConflict: the next turn sees what stands
            doubt = Doubt(name, active.version, now, kinds, row or 0, STEWARD, why)
            self._registry.raise_doubt(doubt, quiet=kinds == SUSPICION)
            _LOG.info("task %s is in doubt: %s", name, why)
        return True

    def _keep(self, watch: TaskWatch) -> None:
        """Keep what was counted now and then, for the next steward to go on from and for others to read."""
        monitors, active = watch.monitors, watch.standing.active
        if monitors is None or active is None or not watch.due():
            return
        kept = watch.kept(told_drift(monitors.watch(), self._reading.answers(active)), self._now())
        if kept is not None:
            self._registry.keep_watch(kept)

    def _advance(self, verdict: Verdict, row: int | None) -> bool:
        """Do, or propose, what the evidence says; whoever was first in the registry has his way."""
        standing, step = verdict.standing, verdict.step
        version = standing.trial or standing.candidate
        if version is None or step is None:
            return False
        mode = standing.task.mode
        with suppress(UserError):  # StageConflict, or a version that is gone: the next turn sees what stands
            if isinstance(step, Back) and (mode is Mode.AUTO or not step.makes_way):
                why = marked(step.why, row)
                self._registry.move(version.task, version.version, expected=version.stage, to=Stage.RETIRED,
                                    who=STEWARD, why=why, now=self._now())  # fmt: skip
                _LOG.warning("%s is rolled back: %s", version.name, why)
                return True
            if mode is Mode.AUTO and isinstance(step, Step):
                self._take(standing, version, step, marked(step.why, row))
                return True
            if mode is Mode.APPROVE:
                return self._propose(version, Hold((step.why,)) if isinstance(step, Back) else step)
        return False

    def _go_back(self, watch: TaskWatch) -> None:
        """Roll back what is shown by the rows read so far: the tests hold after any row, and others may never end."""
        verdict = verdict_of(watch, self._rollout, self._unservable)
        if isinstance(verdict.step, Back) and not verdict.step.makes_way:
            self._advance(verdict, watch.read_to)

    def _take(self, standing: Standing, version: SpecialistVersion, step: Step, why: str) -> None:
        lift = step.to is Stage.ACTIVE and standing.suspension is not None
        self._registry.move(version.task, version.version, expected=version.stage, to=step.to, share=step.share,
                            who=STEWARD, why=why, now=self._now(), lift=lift,
                            before=standing.active.version if standing.active else 0)  # fmt: skip
        _LOG.info("%s goes to %s %s: %s", version.name, step.to, step.share or "", why)

    def _propose(self, version: SpecialistVersion, step: Step | Hold) -> bool:
        """Have exactly the step that the evidence allows now wait for a person."""
        standing = self._registry.proposal(version.task)
        if isinstance(step, Hold):
            if standing is None:
                return False
            return self._registry.withdraw(version.task, "; ".join(step.reasons), self._now())
        wanted = (version.version, step.to, step.share)
        if standing is not None and (standing.version, standing.to, standing.share) == wanted:
            return False
        self._registry.propose(version.task, version.version, step.to, step.share, (step.why,), self._now())
        return True


def kept_of(registry: Registry, reading: Reading, task: str) -> KeptWatch | None:
    """Return what was kept of watching a task, None where it is of another ledger than the one that is read."""
    kept, last = registry.kept_watch(task), reading.last_row()
    return kept if kept is None or last is None or kept.row <= last else None


def verdict_of(watch: TaskWatch, rollout: Rollout, unservable: Unservable) -> Verdict:
    """Return what follows from what is known of a task; pure but for the look at the artifact."""
    standing, evidence = watch.standing, watch.evidence()
    seen = watch.monitors.watch() if watch.monitors is not None else None
    version = standing.trial or standing.candidate
    if version is None:
        return Verdict(standing, evidence, seen, None)
    suspension = standing.suspension
    step = rollout.next(
        State(
            task=standing.task,
            version=version,
            evidence=evidence or Evidence(version.version, version.stage),
            incumbent=standing.incumbent if suspension is None else None,
            suspension=suspension,
            newer=standing.candidate if standing.trial else None,
            why_unservable=unservable(version),
        )
    )
    if suspension is not None and suspension.who != STEWARD and isinstance(step, Step) and step.to is not Stage.SHADOW:
        step = Hold((f"{suspension.who} suspended the task ({suspension.why}); only a person resumes it",))
    return Verdict(standing, evidence, seen, step)
