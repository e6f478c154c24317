"""What certifying a tier leaves behind in words and figures: the JSON of `train --tier` and the version's lineage.

It knows figures; not how the server was asked or the threshold certified.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from insource.training.outcome import packages, told
from insource.types import SpecialistVersion, Task


@dataclass(frozen=True, slots=True)
class TierFigures:
    """What was measured: `reaching` of `rows` were escalated to the tier, `outside` of those got no answer of the set.

    `accuracy` is among all that reached it. `recalled` rows were decided by what the specialist said of them out of
    fold. `score` is "probability", or "answer" where the server named none.
    """

    rows: int
    reaching: int
    recalled: int
    outside: int
    accuracy: float
    score: str


@dataclass(frozen=True, slots=True)
class TierTrained:
    """The outcome of a run; `to_json` gives what `train --tier --json` writes. `configured`: the task names it."""

    version: SpecialistVersion
    artifact: Path
    model: str
    figures: TierFigures
    seconds: float
    skipped: int = 0
    configured: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before promoting it."""
        calibration, figures = self.version.calibration, self.figures
        notes = list(calibration.notes) if calibration else []
        task, _, tier = self.version.task.partition("/")
        if figures.score == "answer":
            notes.append(
                f"The server of '{tier}' names no log-probabilities, so a score is a rate of agreement, and "
                "half of the rows went into that. A server that names them (vLLM, llama.cpp) accepts more."
            )
        if figures.outside:
            notes.append(
                f"{figures.outside:,} of {figures.reaching:,} replies lie outside the closed set; they are never "
                "accepted. A system prompt that lists the answers brings them in."
            )
        if not self.configured:
            notes.append(f"The tier is asked only where [tasks.{task}] says so: add '{tier}' to its tiers.")
        return tuple(notes)

    def to_json(self) -> dict[str, Any]:
        """Return the stable form that the reference documents."""
        return {
            "task": self.version.task,
            "version": self.version.version,
            "family": self.version.family,
            "digest": self.version.digest,
            "artifact": str(self.artifact),
            "model": self.model,
            "skipped": self.skipped,
            **asdict(self.figures),
            "behind": self.version.lineage["behind"],
            "calibration": told(self.version.calibration),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def lineage_of_tier(figures: TierFigures, task: Task, model: str, behind: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the registry keeps of a run; `behind` names the versions whose escalations were certified on."""
    return {
        "behind": behind,
        "model": model,
        **asdict(figures),
        "promise": {
            "target_risk": task.target_risk,
            "confidence_level": task.confidence_level,
            "guard": dict(task.guard),
        },
        "packages": packages(),
    }
