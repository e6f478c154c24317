"""A version as teacher: what it says of every text, and which encoder its student starts from.

It knows versions, rows and texts; how a student learns from a teacher is the tuning's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from insource.backends.specialist import open_specialist
from insource.errors import UserError
from insource.store.artifacts import Artifact, ArtifactStore
from insource.store.registry import Registry
from insource.training.base_models import BaseModel
from insource.training.compression.prune_layers import kept_layers, prune_layers
from insource.training.compression.prune_vocabulary import prune_vocabulary
from insource.training.compression.sample import spread, tokens_of
from insource.training.encoder_weights import read_shape
from insource.training.recipe import Recipe
from insource.training.snapshot import Snapshot
from insource.training.split_rows import Split, split_rows
from insource.training.students.encoder import Teaching
from insource.training.trunks import TrunkRoom
from insource.types import SpecialistVersion


@dataclass(frozen=True, slots=True)
class Teacher:
    """A version that teaches, with its artifact."""

    version: SpecialistVersion
    artifact: Artifact

    def check(self, snapshot: Snapshot, split: Split, examples: int, also: int) -> None:
        """Raise UserError where it learned from rows that are to certify or test its student, or other answers.

        What it says of such a row, and the weights its student starts from, would carry the row's answer.
        """
        told = self.version.lineage
        evidence = np.concatenate([split.calibrate, split.test])
        if not len(evidence):
            return
        recipe = Recipe.of_lineage(told.get("recipe", {}))
        same = told.get("snapshot") == snapshot.digest
        learned = split_rows(snapshot, recipe, examples, also).learn if same else evidence
        shared = len(np.intersect1d(learned, evidence)) if recipe.method != "none" else len(evidence)
        if shared:
            what = f"from {shared:,} of" if same else "from another file, which may hold"
            raise UserError(
                f"{self.version.name} learned {what} the {len(evidence):,} rows that are to certify and test its "
                "student; a teacher was expected that never saw them. Train the teacher with --strict on the same file "
                "with the same --seed, or pass --no-certify."
            )

    def teach(self, texts: Sequence[str], room: TrunkRoom, hidden: int) -> Teaching:
        """Return what it says of texts, and its sentence embeddings where they have `hidden` dimensions."""
        specialist = open_specialist(
            self.artifact.folder, self.artifact.manifest, name=self.version.task, digest=self.artifact.digest,
            trunk=room.get,
        )  # fmt: skip
        soft = np.asarray(specialist.probabilities(list(texts)), np.float32)
        trunk = self.artifact.manifest.get("trunk")
        if trunk is None or room.get(str(trunk)).sentence_dimension != hidden:
            return Teaching(soft)
        embeddings = room.embedder(str(trunk))(texts, None)[:, -hidden:]
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        return Teaching(soft, np.ascontiguousarray(embeddings / np.maximum(length, 1e-12)))

    def encoder(self, room: TrunkRoom) -> BaseModel | None:
        """Return its own tuned encoder; None where it has none."""
        trunk = self.artifact.manifest.get("trunk")
        kept = room.encoder_of(str(trunk)) if trunk else None
        return room.kept(kept) if kept else None


def open_teacher(registry: Registry, artifacts: ArtifactStore, task: str, version: int | None) -> Teacher | None:
    """Return the version of a task that teaches, None where none is asked for.

    Raises UnknownTask, UnknownVersion or ArtifactDamaged.
    """
    if version is None:
        return None
    found = registry.get(task, version)
    return Teacher(found, artifacts.open(found.digest))


def smaller_base(base: BaseModel, recipe: Recipe, texts: Sequence[str], room: TrunkRoom) -> BaseModel:
    """Return the base model as small as the recipe wants it before it is tuned: so many layers, the words of `texts`.

    Raises UserError where it has not so many, DataError where its vocabulary cannot be made smaller.
    """
    with TemporaryDirectory(prefix="insource-smaller-") as folder:
        found = base
        if recipe.layers is not None:
            known = read_shape(base.folder).layers
            if not 0 < recipe.layers <= known:
                raise UserError(f"--layers is {recipe.layers}; 1 to {known} was expected, which {base.name} has.")
            keep = kept_layers(recipe.layers, known)
            found = prune_layers(found, Path(folder) / "layers", keep, tokens_of(base, spread(texts)))
        if recipe.small_vocabulary:
            found = prune_vocabulary(found, Path(folder) / "words", tokens_of(base, texts))
        return base if found is base else room.copied(found)
