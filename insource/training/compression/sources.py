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
from insource.training.base_models import BaseModel
from insource.training.duplicates import near_duplicate_groups
from insource.training.recipe import Recipe
from insource.training.snapshot import Snapshot, read_groups, read_snapshot
from insource.training.split_rows import Split, split_rows
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
    rows = read_snapshot(home, digest)
    if rows is None:
        raise DataError(
            f"The rows that {version.name} was trained on (snapshot {digest[:16]}) are not kept here any more; they "
            "were expected, to fit a new head and to measure it. Train the version again."
        )
    answers = AnswerSpace.from_json(manifest["answers"])
    texts = tuple(text for text, _ in rows)
    groups = read_groups(home, digest)
    return Snapshot(
        texts=texts,
        classes=np.array([answers.index(answer) for _, answer in rows], dtype=np.intp),
        groups=near_duplicate_groups(texts) if groups is None else groups,
        answers=answers,
        inputs=InputSettings.from_json(manifest["inputs"]),
        digest=digest,
        kept=tuple(range(len(texts))),
        grouped=groups is not None,
    )
