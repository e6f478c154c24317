"""Reading the ledger as evidence: a task's audits in their order, each with what its reference says where it was kept,
and between them what its other rows say of drift.

It knows the ledger, and from an artifact's manifest the closed set of answers; it opens no model and counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import islice, takewhile
from typing import Any, Protocol

from insource.answers import AnswerSpace
from insource.errors import DataError, InsourceError
from insource.lifecycle.evidence import Row
from insource.store.artifacts import ArtifactStore
from insource.store.signals import Signal
from insource.types import Audit, SpecialistVersion, Task


class Ledger(Protocol):
    """What is read of the ledger."""

    def audits(
        self, task: str | None = None, *, after: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Audit]]:
        """Yield the task's audits above `after`, each with its number, in that order."""
        ...

    def decision(self, request_id: str) -> Any:
        """Return the decision with what followed, or None."""
        ...


class Signals(Protocol):
    """What else is read of the ledger, where drift is watched by more than audits."""

    def last_row(self) -> int:
        """Return the number of the last row of all."""
        ...

    def signals(self, task: str, *, after: int = 0, until: int) -> Iterator[Signal]:
        """Yield what the task's rows above `after` and up to `until` say of drift, in their order."""
        ...


class Artifacts:
    """What is asked of versions without opening their models: whether they are there, and which answers they know."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._manifests: dict[str, Mapping[str, Any]] = {}
        self._spaces: dict[str, AnswerSpace | None] = {}

    def unservable(self, version: SpecialistVersion) -> str | None:
        """Say why a version cannot be served, None where it can: every byte is looked at once, its folder always."""
        try:
            if version.digest not in self._manifests:
                self._manifests[version.digest] = self._store.open(version.digest).manifest
        except InsourceError as error:
            return str(error)
        if not (self._store.folder / version.digest).is_dir():
            del self._manifests[version.digest]
            return f"its folder {version.digest[:16]} is gone"
        return None

    def answers(self, version: SpecialistVersion) -> AnswerSpace | None:
        """Return the closed set that a version answers from, None where that cannot be read."""
        if version.digest not in self._spaces and self.unservable(version) is None:
            try:
                self._spaces[version.digest] = AnswerSpace.from_json(self._manifests[version.digest]["answers"])
            except (DataError, KeyError):
                self._spaces[version.digest] = None
        return self._spaces.get(version.digest)


class Reading:
    """Yields the rows of one task; `versions` are those whose references are to be read."""

    def __init__(self, ledger: Ledger, artifacts: Artifacts | None, signals: Signals | None = None) -> None:
        """Read `ledger`; `signals` is the same ledger where more than its audits is to be read."""
        self._ledger, self._signals = ledger, signals
        self._artifacts = artifacts

    def last_row(self) -> int | None:
        """Return the number of the ledger's last row, None where only audits are read."""
        return None if self._signals is None else self._signals.last_row()

    def answers(self, version: SpecialistVersion) -> AnswerSpace | None:
        """Return the closed set that a version answers from, None where that cannot be read."""
        return None if self._artifacts is None else self._artifacts.answers(version)

    def rows(
        self,
        task: Task,
        versions: Mapping[int, SpecialistVersion],
        *,
        after: int,
        until: int | None = None,
        limit: int | None = None,
    ) -> Iterator[Row | Signal]:
        """Yield what stands above `after`, and up to `until` if given, in the order of the ledger, at most `limit`.

        Signals are among it only with an `until`: then all that is written up to there has been yielded at the end.
        """
        rows: Iterator[Row | Signal] = self._audits(task, versions, after, limit)
        if self._signals is not None and until is not None:
            audits = takewhile(lambda row: row.seq <= until, rows)
            rows = merge(audits, self._signals.signals(task.name, after=after, until=until), key=lambda row: row.seq)
        return islice(rows, limit)

    def _audits(
        self, task: Task, versions: Mapping[int, SpecialistVersion], after: int, limit: int | None
    ) -> Iterator[Row]:
        for seq, audit in self._ledger.audits(task.name, after=after, limit=limit):
            version = versions.get(audit.version)
            asks = version is not None and (task.content == "full" or task.tiers)
            found = self._ledger.decision(audit.request_id) if asks else None
            if found is not None and found.decision.tier is not None and found.decision.version == audit.version:
                continue  # a tier's own version, which bears its own numbers
            yield Row(seq, audit, *self._read(task, version, found))

    def _read(self, task: Task, version: SpecialistVersion | None, found: Any) -> tuple[str | None, bool | None]:
        """Return the reference's label, as a guard names it where one does, and whether it lies outside the set."""
        if version is None or self._artifacts is None or found is None or found.content is None:
            return None, None
        space = self._artifacts.answers(version)
        if space is None or found.content.reference is None:
            return None, None
        label = space.normalise(found.content.reference)
        if label is None:
            return None, True
        guarded = (answer for answer in task.guard if (space.find(answer) or answer) == label)
        return next(guarded, label), False
