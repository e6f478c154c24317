"""Erasing a subject: its key is destroyed, and with it every text about it, wherever that lies sealed.

What else would tell of the texts goes as well, and the specialists that learned from them are named. What was erased,
by whom and why, is an act in the ledger; the subject's name is nowhere in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from insource.store import held_out
from insource.store.columns import Act
from insource.store.content_keys import ContentKeys
from insource.store.ledger import ERASE_ACT
from insource.store.ledger import FILE as LEDGER_FILE
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.store.snapshots import snapshots_with, texts_of
from insource.store.sync import translated_files
from insource.types import SpecialistVersion

CACHES = ("embeddings", "tiers")
"""Below HOME/cache: what was computed of texts, named by digests of them. It is computed again where it is needed."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What is about a subject: `ids` of its keys, `texts` in the ledger (with salts of digests), snapshots and rows.

    `learned` are the versions that were trained on such rows, or taught by one that was.
    """

    ids: tuple[bytes, ...]
    texts: int
    snapshots: dict[str, int]
    learned: tuple[SpecialistVersion, ...]


@dataclass(frozen=True, slots=True)
class Erased:
    """What went: `id` stands for the subject in the ledger, `reviews` are requests that were kept for a person."""

    id: str
    traces: Traces
    reviews: tuple[str, ...]
    held_out: int
    caches: tuple[str, ...]


def traces(home: Path, registry: Registry, subject: str) -> Traces:
    """Return what there is about a subject. Raises StoreError."""
    with ContentKeys.open(home) as keys:
        ids = keys.ids_of(subject)
    return _traces(home, registry, ids)


def erase(home: Path, registry: Registry, subject: str, who: str, why: str, now: datetime) -> Erased:
    """Erase a subject, and return what went; it may be called again where it was interrupted. Raises StoreError.

    What is found by the texts goes first, while they can be read. Then the key is destroyed, durably: from then on none
    of them can be opened, in this home, in its backups, or in copies of its files. The sealed bytes leave the ledger's
    file when its writer gets the act.
    """
    with ContentKeys.open(home) as keys:
        found = _traces(home, registry, keys.ids_of(subject))
        forgotten = held_out.forget(home, texts_of(home, found.snapshots, found.ids))
        ids = keys.erase(subject, now)
    reviews = registry.erase_reviews(ids, who, now)
    caches = _drop_caches(home)
    names = ", ".join(version.name for version in found.learned) or "none"
    detail = f"{why}; texts: {found.texts}, reviews: {len(reviews)}, rows of snapshots: {sum(found.snapshots.values())}"
    registry.post_act(Act(now, who, ERASE_ACT, f"subject {ids[-1].hex()}", f"{detail}; learned from them: {names}"))
    return Erased(ids[-1].hex(), found, reviews, forgotten, caches)


def _traces(home: Path, registry: Registry, ids: tuple[bytes, ...]) -> Traces:
    texts = 0
    if (home / LEDGER_FILE).is_file():
        with LedgerReader(home) as ledger:
            texts = ledger.kept_of(ids)
    snapshots = snapshots_with(home, ids)
    versions = [version for task in registry.tasks() for version in registry.versions(task)]
    return Traces(ids, texts, snapshots, learned_from(versions, snapshots))


def learned_from(versions: Iterable[SpecialistVersion], snapshots: Collection[str]) -> tuple[SpecialistVersion, ...]:
    """Return the versions that learned from one of some snapshots: by themselves, from a teacher, or as made from one.

    In the order given, in which a version comes after those that it was made from.
    """
    found: dict[tuple[str, int], SpecialistVersion] = {}
    for version in versions:
        lineage = version.lineage
        teacher = (lineage.get("recipe") or {}).get("teacher")
        behind = {each.get("digest") for each in lineage.get("behind") or ()}
        if (
            lineage.get("snapshot") in snapshots
            or (version.task, teacher) in found
            or behind & {each.digest for each in found.values()}
        ):
            found[version.task, version.version] = version
    return tuple(found.values())


def _drop_caches(home: Path) -> tuple[str, ...]:
    gone = []
    for name in CACHES:
        folder = home / "cache" / name
        with translated_files(folder):
            if folder.is_dir():
                shutil.rmtree(folder)
                gone.append(name)
    return tuple(gone)
