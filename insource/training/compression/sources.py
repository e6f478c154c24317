"""What a version was made of, found again: its rows as they were split, and the weights of its encoder.

It knows lineage and artifacts; not how anything is made smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from insource.answers import AnswerSpace
from insource.errors import DataError, UserError
from insource.inputs import InputSettings
from insource.store.artifacts import Artifact
from insource.store.content_keys import read_seal
from insource.store.snapshots import read_snapshot
from insource.training.base_models import BaseModel
from insource.training.duplicates import near_duplicate_groups
from insource.training.recipe import Recipe
from insource.training.snapshot import FEWEST, Owner, Snapshot
from insource.training.split_rows import Split, split_rows
from insource.training.students.heads import heads_of
from insource.training.students.wording import worded
from insource.training.trunks import TrunkRoom
from insource.types import SpecialistVersion

TUNED = "encoder"
FAMILIES = ("encoder-frozen", "two-tier", TUNED)


@dataclass(frozen=True, slots=True)
class Source:
    """A version to be made smaller: its artifact, recipe and rows; `trunk` is the digest of its trunk."""

    version: SpecialistVersion
    artifact: Artifact
    recipe: Recipe
    snapshot: Snapshot
    split: Split
    trunk: str

    @property
    def words(self) -> list[str]:
        """The answers' own words, as far as a head learns from them beside the rows; a tuned encoder's does not."""
        answers = self.snapshot.answers
        if self.version.family == TUNED or heads_of(answers) is not None:
            return []
        return worded(answers.answers, len(self.split.learn))[0]


def find_source(version: SpecialistVersion, artifact: Artifact, home: Path) -> Source:
    """Return what a version was made of.

    Raises UserError where it has no encoder, DataError where its rows are not kept, cannot be split as they
    were, or left none to test on.
    """
    trunk = artifact.manifest.get("trunk")
    if version.family not in FAMILIES or not trunk:
        raise UserError(
            f"{version.name} is {version.family}; one of {', '.join(FAMILIES)} was expected, whose encoder can be made "
            "smaller. Train one of those and compress it."
        )
    recipe = replace(Recipe.of_lineage(version.lineage.get("recipe", {})), family=version.family)  # that which came out
    snapshot = _snapshot(version, artifact.manifest, home)
    split = split_rows(snapshot, recipe, len(snapshot), 0)
    rows = version.lineage.get("rows", {})
    if (len(split.learn), len(split.test)) != (rows.get("train"), rows.get("test")):
        raise DataError(
            f"The {len(snapshot):,} rows of {version.name} split into {len(split.learn):,} and {len(split.test):,}; "
            f"its lineage says {rows.get('train')} and {rows.get('test')}: some only taught, or had groups of their "
            "own that were not kept yet, and nobody knows any more which. Train a version from one file, and compress "
            "that."
        )
    if not len(split.test):
        raise DataError(
            f"{version.name} was trained without a certificate, on all its rows; none is left to measure a smaller one "
            "on. Train it without --no-certify."
        )
    return Source(version, artifact, recipe, snapshot, split, str(trunk))


def base_of(source: Source, room: TrunkRoom) -> BaseModel:
    """Return the fp32 weights of a version's encoder: those kept beside its trunk, or the base model it names.

    Raises DataError where the base model is not the one the trunk was built from any more, FetchError where it cannot
    be had.
    """
    kept = room.encoder_of(source.trunk)
    if kept is not None:
        return room.kept(kept)
    base, wanted = room.base(source.recipe.base), room.get(source.trunk).info.base_digest
    if base.digest != wanted:
        raise DataError(
            f"The weights of {source.recipe.base} have the digest {base.digest}; {source.version.name} was built from "
            f"{wanted}. Put the folder back as it was, or train anew."
        )
    return base


def _snapshot(version: SpecialistVersion, manifest: Mapping[str, Any], home: Path) -> Snapshot:
    digest = str(version.lineage.get("snapshot"))
    read = read_snapshot(home, digest) or []
    rows = [row for row in read if row is not None]  # others were erased, or have expired
    if len(rows) < FEWEST:
        left = f"; {len(rows)} of {len(read):,} are left, the others were erased or have expired" if read else ""
        raise DataError(
            f"The rows that {version.name} was trained on (snapshot {digest[:16]}) are not kept here any more{left}. "
            "They were expected, to fit a new head and to measure it. Train the version again."
        )
    answers = AnswerSpace.from_json(manifest["answers"])
    texts = tuple(row.text for row in rows)
    groups = [row.group for row in rows if row.group is not None]
    return Snapshot(
        texts=texts,
        classes=np.array([answers.index(row.answer) for row in rows], dtype=np.intp),
        groups=np.array(groups, dtype=np.intp) if groups else near_duplicate_groups(texts),
        answers=answers,
        inputs=InputSettings.from_json(manifest["inputs"]),
        digest=digest,
        kept=tuple(range(len(texts))),
        grouped=bool(groups),
        owners=tuple(Owner(None if row.seal is None else read_seal(bytes.fromhex(row.seal))) for row in rows),
    )
