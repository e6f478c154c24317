"""What the steward asks of the registry and does in it.

It names methods; the store has them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from insource.lifecycle import watching
from insource.store.doubts import KeptWatch
from insource.store.recertifications import Recertified
from insource.types import Doubt, SpecialistVersion, Stage, Suspension


class Registry(watching.Registry, Protocol):
    """What is done with the registry."""

    def changed(self) -> int:
        """Return a number that changes with the registry."""
        ...

    def move(
        self, task: str, version: int, *, expected: Stage, to: Stage, share: float = 0.0, who: str, why: str,
        now: datetime, before: int | None = None, lift: bool = False,
    ) -> SpecialistVersion:  # fmt: skip
        """Take a version from the stage `expected` to another; raise StageConflict where somebody was first.

        That is also so where another version is active than `before`; `lift` lifts the suspension with it.
        """
        ...

    def suspend(self, task: str, who: str, why: str, now: datetime) -> Suspension:
        """Have nothing of the task accepted from now on."""
        ...

    def resume(self, task: str, who: str, why: str, now: datetime) -> bool:
        """Lift the suspension."""
        ...

    def raise_doubt(self, doubt: Doubt, *, quiet: bool = False) -> Doubt:
        """Have all requests of the task audited from now on; raise StageConflict where another version is active."""
        ...

    def recertify(self, told: Recertified) -> None:
        """Have the active version serve at a higher threshold, and end the doubt about it."""
        ...

    def end_doubt(self, doubt: Doubt, who: str, why: str, now: datetime, *, quiet: bool = False) -> bool:
        """End a doubt, if it is the one that stands."""
        ...

    def keep_watch(self, kept: KeptWatch) -> None:
        """Keep what was watched of a task."""
        ...

    def propose(self, task: str, version: int, to: Stage, share: float, why: tuple[str, ...], now: datetime) -> Any:
        """Record a step for a person to carry out."""
        ...

    def proposal(self, task: str) -> Any:
        """Return the step that waits for a person, or None."""
        ...

    def withdraw(self, task: str, why: str, now: datetime) -> bool:
        """Take back the step that waits."""
        ...
