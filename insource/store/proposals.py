"""The next step of a rollout, proposed on evidence and carried out by a person, or withdrawn.

It knows neither the evidence nor who may decide. `registry` holds the file, `stages` takes the step.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from insource.errors import StageConflict
from insource.store import columns
from insource.store.columns import Act
from insource.store.stages import WITHDRAW, Proposal, Stages, check_share, place, record
from insource.types import SpecialistVersion, Stage

LOG = logging.getLogger("insource.store")
PROPOSAL = "task, time, version, before, stage, share, why"
PROPOSE = f"INSERT OR REPLACE INTO proposals ({PROPOSAL}) VALUES (?, ?, ?, ?, ?, ?, ?)"


class Proposals(Stages):
    """The registry's methods for proposals; the subclass brings the file and the versions."""

    def propose(
        self, task: str, version: int, to: Stage, share: float, why: tuple[str, ...], now: datetime
    ) -> Proposal:
        """Record the step that the evidence allows, for a person to carry out; it replaces an earlier one.

        Where the same step is proposed already, that proposal stands, as it was. Raises as `move` does.
        """
        check_share(to, share)
        with self._writing() as connection:
            about, standing = self.get(task, version), self.proposal(task)
            self._check_step(about, to, share)
            made = Proposal(task, now, version, about.stage, to, share, why)
            if standing is not None and _step_of(standing) == _step_of(made):
                return standing
            told = msgspec.json.encode([columns.plain(each) for each in why]).decode()
            values = (task, columns.micros(now), version, about.stage, to, share, told)
            connection.execute(PROPOSE, values)
            detail = f"{place(about.stage, about.share)} to {place(to, share)}: {'; '.join(why) or 'no reason given'}"
            record(connection, Act(now, "insource", "propose", about.name, detail))
        return made

    def proposal(self, task: str) -> Proposal | None:
        """Return the step that waits for a person, or None; None, too, where a hand has made it unreadable."""
        rows = self._read(f"SELECT {PROPOSAL} FROM proposals WHERE task = ?", (task,))
        try:
            return _to_proposal(rows[0]) if rows else None
        except (ValueError, msgspec.MsgspecError) as error:
            LOG.error("the proposal of task %s cannot be read (%s); it is passed over", task, error)
            return None

    def withdraw(self, task: str, why: str, now: datetime) -> bool:
        """Take back the task's proposal, and say whether one stood."""
        with self._writing() as connection:
            standing = self.proposal(task)
            connection.execute(WITHDRAW, (task,))
            if standing is not None:
                record(connection, Act(now, "insource", "withdraw", standing.name, why))
        return standing is not None

    def carry_out(self, proposal: Proposal, who: str, why: str, now: datetime) -> SpecialistVersion:
        """Take the step that a proposal names, and return the version; raises StageConflict where it stands no more.

        To active it lifts the task's suspension, as `promote` does.
        """
        with self._writing() as connection:
            moved = self.get(proposal.task, proposal.version)
            if self.proposal(proposal.task) != proposal or moved.stage is not proposal.before:
                raise StageConflict(
                    f"The proposal to move {proposal.name} to {place(proposal.to, proposal.share)} stands no more; the "
                    f"version is {place(moved.stage, moved.share)}. Look at `insource tasks {proposal.task}`, and "
                    "decide again."
                )
            self._check_step(moved, proposal.to, proposal.share)
            told = f"{why}; proposed: {'; '.join(proposal.why)}" if proposal.why else why
            lift = proposal.to is Stage.ACTIVE
            self._step(connection, moved, proposal.to, proposal.share, who, told, now, lift=lift)
        return self.get(proposal.task, proposal.version)


def _step_of(proposal: Proposal) -> tuple[int, Stage, Stage, float]:
    return proposal.version, proposal.before, proposal.to, proposal.share


def _to_proposal(row: Sequence[Any]) -> Proposal:
    task, time, version, before, stage, share, why = row
    reasons = msgspec.json.decode(why, type=tuple[str, ...])
    check_share(Stage(stage), share)
    return Proposal(task, columns.moment(time), version, Stage(before), Stage(stage), share, reasons)
