"""What a row of the registry must be to be served: as it was written, which a digest kept with it tells.

It knows columns and digests; who writes rows stands in `registry` and `recertifications`. Whoever edits a row can
write its digest anew: that is found where the digest is kept besides, in the ledger's acts (`not_as_approved`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from insource.store import columns
from insource.store.columns import Act
from insource.store.stages import standing
from insource.types import Calibration, SpecialistVersion, Stage

ALTERED = "row-altered-since-it-was-written"
"""Stands for the digest of a version whose row is not as it was written: no artifact bears that name."""

VERSION = "task, version, family, digest, created, calibration, lineage"
RECERTIFIED = "task, version, time, before, calibration, doubts, since, who, why"
_NUMBERS = frozenset(("version", "created", "time", "before", "doubts", "since", "share"))
_NAMED = re.compile(r".*[;(] ?row ([0-9a-f]{64})\)", re.DOTALL)
_SERVING = (Stage.SHADOW, Stage.CANARY, Stage.ACTIVE)


def raw(names: str, table: str) -> str:
    """Return columns as a statement reads them for a digest: texts as bytes, since a damaged one may be no text."""
    named = names.split(", ")
    return ", ".join(f"{table}.{name}" if name in _NUMBERS else f"CAST({table}.{name} AS BLOB)" for name in named)


EVERY = f"""
SELECT {raw(f"stage, share, row_digest, {VERSION}, recertified", "versions")}, {raw(f"row_digest, {RECERTIFIED}", "r")}
FROM versions LEFT JOIN recertifications r ON r.seq =
(SELECT max(seq) FROM recertifications o WHERE o.task = versions.task AND o.version = versions.version)
"""
"""All versions, each with its last re-certification, all NULL where there was none."""

SELECT = f"{EVERY} WHERE versions.task = ?"
RAISED = f"SELECT {raw(f'row_digest, {RECERTIFIED}', 'recertifications')} FROM recertifications ORDER BY seq"


def row_digest(values: Sequence[str | bytes | int | float | None]) -> str:
    """Return the SHA-256 of a row's values, texts as UTF-8, in the order of VERSION or RECERTIFIED, as hex digits."""
    told = [value.encode() if isinstance(value, str) else value for value in values]
    return sha256(b"insource registry row\n" + msgspec.json.encode(told)).hexdigest()


def matches(values: Sequence[Any], kept: bytes | None) -> bool:
    """Say whether a row as `raw` reads it has the digest that was kept with it."""
    return kept == row_digest(values).encode()


@dataclass(frozen=True, slots=True)
class Row:
    """What a version serves by: its own row and that of its last re-certification (None: never), by their digests."""

    own: str
    anew: str | None


def to_version(read: Sequence[Any]) -> SpecialistVersion:
    """Return the version of a row of SELECT.

    Of one that is not as it was written, or whose last re-certification is not, or is not the one that it names, only
    name and stage are told. Its digest is ALTERED, so that whoever opens it is told ArtifactDamaged.
    """
    word, share, kept, *row, named = read[:11]
    kept_anew, *anew = read[11:]
    task, version, family, digest, created, calibration, lineage = row
    stage, share = standing(text(word), share)
    raised = named is not None
    if not matches(row, kept) or named != kept_anew or (raised and not matches(anew, kept_anew)):
        return SpecialistVersion(text(task), version, text(family), ALTERED, stage, columns.EPOCH, None, {}, share)
    stored = anew[4] if raised else calibration
    return SpecialistVersion(
        task=task.decode(),
        version=version,
        family=family.decode(),
        digest=digest.decode(),
        stage=stage,
        created=columns.moment(created),
        calibration=None if stored is None else msgspec.json.decode(stored, type=Calibration),
        lineage=msgspec.json.decode(lineage),
        share=share,
    )


def altered_rows(every: Iterable[Sequence[Any]], raised: Iterable[Sequence[Any]]) -> Iterator[tuple[str, str]]:
    """Yield the task and a sentence, without its stop, for each row of EVERY and RAISED that is not as it was written.

    Of the re-certifications of a version that is told already nothing is added.
    """
    versions = [to_version(row) for row in every]
    for version in versions:
        if version.digest == ALTERED:
            yield version.task, f"{version.name} is not as it was written, or its raised threshold; it is not served"
    known = {version.name: version.digest != ALTERED for version in versions}
    for kept, *row in raised:
        task, name = text(row[0]), f"{text(row[0])}@{row[1]}"
        if known.get(name, True) and not (name in known and matches(row, kept)):
            yield task, f"A raised threshold of {name} is not as it was written, or has no version; it serves nobody"


def text(stored: bytes) -> str:
    """Return a text for people; what is no UTF-8 was altered."""
    return stored.decode("utf-8", "replace")


class Versions(Protocol):
    """The registry, as far as it is asked here."""

    def tasks(self) -> tuple[str, ...]:
        """All tasks."""
        ...

    def versions(self, task: str) -> tuple[SpecialistVersion, ...]:
        """A task's versions."""
        ...

    def row(self, task: str, version: int) -> Row:
        """What a version serves by."""
        ...

    def outgoing_acts(self, limit: int) -> tuple[tuple[int, Act], ...]:
        """The acts that the ledger does not have yet; all of them for -1."""
        ...


class Acts(Protocol):
    """The ledger, as far as it is asked here."""

    def acts(self, subject: str | None = None) -> tuple[Act, ...]:
        """All acts, or those about a subject."""
        ...


def not_as_approved(registry: Versions, ledger: Acts) -> Iterator[str]:
    """Yield a sentence for each version that serves by another row than the last act of the ledger about it names.

    So does one without a re-certification of which the ledger has one. Acts on their way count; one that is older than
    such names fits any row.
    """
    waiting = [act for _, act in registry.outgoing_acts(-1)]
    for version in (each for task in registry.tasks() for each in registry.versions(task)):
        if version.stage not in _SERVING or version.digest == ALTERED:
            continue
        row = registry.row(version.task, version.version)
        told = ledger.acts(version.name)
        acts = [*told, *(act for act in waiting if act.subject == version.name and act not in told)]
        for what, kinds, digest in (
            ("promotion", ("promote", "move"), row.own), ("re-certification", ("re-certify",), row.anew)
        ):  # fmt: skip
            if not _fits(digest, next((act for act in reversed(acts) if act.what in kinds), None)):
                yield (
                    f"{version.name} does not serve by the row of the registry that its last {what} in the ledger "
                    "names: the registry was written past insource. Restore registry.db from a backup, or train the "
                    "version again."
                )


def _fits(digest: str | None, act: Act | None) -> bool:
    if act is None or digest is None:
        return act is None and digest is None
    named = _NAMED.fullmatch(act.detail or "")
    return named is None or named[1] == digest
