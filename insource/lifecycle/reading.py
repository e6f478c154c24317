"""Reading the ledger as evidence: a task's audits in their order, each with what its reference says where it was kept.

It knows the ledger, and from an artifact's manifest the closed set of answers; it opens no model and counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from insource.answers import AnswerSpace
from insource.errors import DataError, InsourceError
from insource.lifecycle.evidence import Row
from insource.store.artifacts import ArtifactStore
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

    def __init__(self, ledger: Ledger, artifacts: Artifacts | None) -> None:
        self._ledger = ledger
        self._artifacts = artifacts

    def rows(
        self, task: Task, versions: Mapping[int, SpecialistVersion], *, after: int, limit: int | None = None
    ) -> Iterator[Row]:
        """Yield the audits above `after` in the order of the ledger, at most `limit`."""
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
