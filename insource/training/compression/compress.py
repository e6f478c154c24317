"""Compressing a version: a smaller encoder, a head fitted to it, and what that cost and saved beside the source.

It joins the room's parts; what is printed is the command's business.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from insource.backends.specialist import Specialist, open_specialist
from insource.errors import InsourceError, ParityError, UserError
from insource.store.artifacts import Artifact
from insource.training.compression.beside import Beside, measure_beside
from insource.training.compression.held_out_words import ApartMaterial
from insource.training.compression.matched import develop_matched
from insource.training.compression.smaller import How, Smaller, make_smaller
from insource.training.compression.sources import TUNED, Source, base_of, find_source
from insource.training.outcome import Trained
from insource.training.run import Workshop, make_version
from insource.types import SpecialistVersion, Task

MOST_LOSS = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be lost on the rows held out: accuracy, and agreement with the source (None: any)."""

    most_loss: float = MOST_LOSS
    least_agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed version, registered as a candidate, and both versions' figures on the same rows."""

    source: SpecialistVersion
    how: How
    trained: Trained
    beside: Beside

    def to_json(self) -> dict[str, Any]:
        """Return the stable form that the reference documents."""
        told = self.trained.to_json()
        keys = ("task", "version", "family", "digest", "artifact", "precision", "calibration", "seconds", "notes")
        return {
            **{key: told[key] for key in keys},
            "compressed_from": self.source.version,
            "how": self.how.told(),
            **self.beside.to_json(),
        }


def compress(
    version: SpecialistVersion,
    how: How,
    task: Task,
    shop: Workshop,
    *,
    joules: Callable[[float], float],
    limits: Limits = Limits(),
    told: Mapping[str, Any] | None = None,
) -> Compressed:
    """Make a version smaller, certify what comes out, and register it as a new candidate of `task`.

    The head is fitted and certified anew, on the rows of the source, split as they were; `joules` says what seconds on
    one core take, `told` goes into the lineage. Raises ParityError where more is lost than `limits` allow, or where the
    result is no better than its source in accuracy, size or time; nothing is kept then. Raises UserError where nothing
    is to be done or `version` has no encoder that can be made smaller, DataError where its rows or weights are not
    those it was made from.
    """
    if how == How():
        raise UserError(
            "Nothing was said of how to compress; --quantise, --layers, --heads, --width or --vocabulary was expected. "
            "Name one or more."
        )
    source = find_source(version, shop.artifacts.open(version.digest), shop.home)
    base = base_of(source, shop.room)
    before = {path.name for path in shop.artifacts.folder.iterdir()}
    made: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="insource-") as scratch:
            smaller = make_smaller(source, base, how, shop, Path(scratch), made.append)
        return _certified(source, smaller, how, task, shop, joules, limits, made.append, told or {})
    except InsourceError:
        _forget(shop, (digest for digest in made if digest not in before))
        raise


def _certified(
    source: Source,
    smaller: Smaller,
    how: How,
    task: Task,
    shop: Workshop,
    joules: Callable[[float], float],
    limits: Limits,
    made: Callable[[str], None],
    told: Mapping[str, Any],
) -> Compressed:
    found: list[Beside] = []

    def check(result: Specialist, artifact: Artifact) -> Mapping[str, Any]:
        made(artifact.digest)
        beside = measure_beside(
            _opened(source, shop), result, _sizes(shop, source, artifact, smaller.trunk), source.snapshot,
            source.split.test, joules,
        )  # fmt: skip
        _judge(beside, limits, source.version)
        found.append(beside)
        return {"compressed_from": source.version.name, "how": how.told(), "beside": beside.to_json(), **told}

    recipe = replace(source.recipe, precision=smaller.precision)
    material = ApartMaterial(source, shop, smaller)
    tuned = (lambda: develop_matched(source, smaller, shop.room)) if source.version.family == TUNED else None
    trained = make_version(material, source.snapshot, source.split, task, recipe, shop, develop=tuned, check=check)
    return Compressed(source.version, how, trained, found[0])


def _judge(beside: Beside, limits: Limits, source: SpecialistVersion) -> None:
    """Raise ParityError where too much is lost, or nothing is won."""
    old, new = beside.source, beside.result
    lost = old.accuracy - new.accuracy
    told = f"on {beside.rows:,} rows held out: accuracy {old.accuracy:.1%} became {new.accuracy:.1%}"
    if lost > limits.most_loss + 1e-9:
        raise ParityError(
            f"Compressing {source.name} loses {100 * lost:.1f} points {told}; at most {100 * limits.most_loss:g} were "
            "agreed. Nothing was kept: take out less, or agree to more with --most-loss."
        )
    if limits.least_agreement is not None and beside.agreement < limits.least_agreement:
        raise ParityError(
            f"What compressing {source.name} gives says the same on {beside.agreement:.1%} of {beside.rows:,} rows "
            f"held out; at least {limits.least_agreement:.1%} was agreed. Nothing was kept: take out less."
        )
    if beside.no_better():
        raise ParityError(
            f"What compressing {source.name} gives is better in nothing {told}, {old.size_bytes / 1e6:.1f} MB became "
            f"{new.size_bytes / 1e6:.1f} MB, {old.latency_ms[0]:.2f} ms became {new.latency_ms[0]:.2f} ms. Nothing was "
            "kept: compress in another way."
        )


def _opened(source: Source, shop: Workshop) -> Specialist:
    return open_specialist(
        source.artifact.folder, source.artifact.manifest, name=source.version.task, digest=source.version.digest,
        trunk=shop.room.get,
    )  # fmt: skip


def _sizes(shop: Workshop, source: Source, artifact: Artifact, trunk: str) -> tuple[int, int]:
    """Return the bytes that source and result need to serve: head, trunk and tokenizer."""
    old, new = (shop.artifacts.open(digest).size_bytes for digest in (source.trunk, trunk))
    return source.artifact.size_bytes + old, artifact.size_bytes + new


def _forget(shop: Workshop, digests: Iterable[str]) -> None:
    for digest in digests:
        shop.artifacts.remove(digest)
