"""One training run: snapshot, split, develop, export, score with the serving backend, certify, register.

It joins the room's parts and knows the store; what is printed is the command's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from insource.backends.specialist import Specialist, open_specialist, write_specialist
from insource.errors import DataError
from insource.store import held_out
from insource.store.artifacts import Artifact, ArtifactStore
from insource.store.registry import Registry
from insource.training.balance import advice
from insource.training.develop import (
    NOTHING_CERTIFIED,
    Developed,
    Promise,
    RowSet,
    balanced,
    certified,
    develop_or_forget,
    guards_of,
    named,
    plain_scorer,
)
from insource.training.evaluate import Evaluation, evaluate
from insource.training.families import TUNED, Material
from insource.training.outcome import Figures, Trained, lineage_of
from insource.training.recipe import Recipe
from insource.training.snapshot import Snapshot, inputs_of, take_snapshot, without_erased
from insource.training.split_rows import Split, split_rows
from insource.training.splits import FOLDS, folds
from insource.training.students.contract import Classes, Rows
from insource.training.students.heads import heads_of
from insource.training.suspects import label_noise
from insource.training.teacher import open_teacher
from insource.training.trunks import Say, TrunkRoom
from insource.training.tuned import prepare_tuning
from insource.types import Calibration, Example, Task

LATENCY_ROWS = 1_000


def train(
    examples: Sequence[Example],
    task: Task,
    recipe: Recipe,
    *,
    home: Path,
    registry: Registry,
    artifacts: ArtifactStore,
    say: Say,
    now: Callable[[], datetime],
    skipped: int = 0,
    also: Sequence[Example] = (),
    older: Sequence[Example] = (),
    told: Mapping[str, Any] | None = None,
) -> Trained:
    """Train, certify and register a candidate version of `task`; a threshold of None is a value, not an error.

    `also` are examples to learn from that are no evidence, as they were chosen by how hard they are: they neither
    certify nor test, and those that nearly repeat an example are left out. `older` are such examples from before the
    world may have changed: they teach only where that certifies more. `told` goes into the lineage.
    Raises DataError or OpenEndedAnswers where the examples make no task, UserError for an unknown choice, FetchError
    where an encoder is needed and cannot be had.
    """
    started = time.perf_counter()
    recipe.check()
    examples, also, older = (without_erased(home, each) for each in (examples, also, older))
    taught = [*examples, *also, *older]
    snapshot = take_snapshot(taught, inputs_of(task), gold=recipe.gold).named(home)
    snapshot.save(home)
    room = TrunkRoom(home, artifacts, say)
    recipe = recipe if recipe.family != TUNED or recipe.method == "none" else replace(recipe, method="strict")
    split = split_rows(snapshot, recipe, len(examples), len(also))
    material = Material(snapshot.texts, lambda: room, say, recipe.base, _precision(recipe, snapshot, split.learn))
    shop = Workshop(home, registry, artifacts, room, say, now)
    teacher = open_teacher(registry, artifacts, task.name, recipe.teacher)
    if teacher:
        teacher.check(snapshot, split, len(examples), len(also))
    tuned = recipe.family == TUNED
    develop = prepare_tuning(taught, snapshot, split, recipe, room, home, say, teacher) if tuned else None
    made = make_version(material, snapshot, split, task, recipe, shop, examples=taught, told=told, develop=develop)
    return replace(made, seconds=time.perf_counter() - started, skipped=skipped)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where versions are made: the home with its registry, artifacts and trunks, and how progress and time are told."""

    home: Path
    registry: Registry
    artifacts: ArtifactStore
    room: TrunkRoom
    say: Say
    now: Callable[[], datetime]


def make_version(
    material: Material,
    snapshot: Snapshot,
    split: Split,
    task: Task,
    recipe: Recipe,
    shop: Workshop,
    *,
    examples: Sequence[Example] = (),
    told: Mapping[str, Any] | None = None,
    develop: Callable[[], Developed] | None = None,
    check: Callable[[Specialist, Artifact], Mapping[str, Any]] | None = None,
) -> Trained:
    """Develop, export, certify and register a version from prepared rows; `develop` stands in for doing so here.

    `check` sees what is about to be registered, raises where it must not be, and returns what else its lineage says.
    `examples` are those of the snapshot, for the suspects among them.
    """
    started, artifacts = time.perf_counter(), shop.artifacts
    promise = Promise(task.target_risk, task.confidence_level, guards_of(task, snapshot.answers), task.require)
    busy = shop.say(f"training {task.name}")
    busy(0, None)
    if recipe.method != "none":
        _check_rows(snapshot.classes[split.learn])
    developed = develop() if develop else _develop(material, snapshot, split, promise, recipe)
    busy(1, 1)
    artifact = _write(artifacts, developed, snapshot, task.name)
    specialist = open_specialist(
        artifact.folder, artifact.manifest, name=task.name, digest=artifact.digest, trunk=shop.room.get
    )
    calibration = _calibration(developed, specialist, snapshot, split, promise, recipe)
    tested = _tested(specialist, snapshot, split.test, calibration)
    measured = tested or _tested(specialist, snapshot, split.learn[:LATENCY_ROWS], None)
    assert measured is not None
    opinions = {family: fit.probabilities for family, (_, fit) in material.fitted.items()}
    noise = label_noise(opinions, split.learn, snapshot, examples) if examples else None
    figures = Figures(
        rows=(len(split.learn), calibration.rows if calibration else 0, len(split.test)),
        test=tested,
        size_bytes=artifact.size_bytes + (artifacts.open(developed.trunk).size_bytes if developed.trunk else 0),
        latency_ms=measured.latency_ms,
        why="; ".join(filter(None, (developed.why, str(material.windows or "") if developed.trunk else ""))),
        precision=developed.precision or (material.precision if developed.trunk else None),
        noise=noise,
        advice=None if check else _advice(developed, snapshot.classes[split.learn], recipe),
    )
    lineage = lineage_of(figures, task, asdict(recipe), snapshot.digest, developed.trunk) | dict(told or {})
    if check is not None:
        lineage |= check(specialist, artifact)
    snapshot.check_erased(shop.home)
    _keep_held_out(shop.home, artifact, developed, snapshot, split)
    return Trained(
        version=shop.registry.register(task.name, developed.family, artifact.digest, calibration, lineage, shop.now()),
        artifact=artifact.folder,
        snapshot=snapshot,
        figures=figures,
        seconds=time.perf_counter() - started,
        require=task.require,
    )


def _advice(developed: Developed, references: Classes, recipe: Recipe) -> str | None:
    """Return what a balance would change; None with one, and where no row was answered out of fold."""
    if recipe.balance or recipe.method == "none" or recipe.family == TUNED:
        return None
    return advice(developed.probabilities, references)


def _keep_held_out(home: Path, artifact: Artifact, developed: Developed, snapshot: Snapshot, split: Split) -> None:
    if len(developed.scores):
        texts = [snapshot.texts[i] for i in split.learn]
        said = named(developed.probabilities.argmax(axis=1), snapshot.answers.answers)
        held_out.keep(home, artifact.digest, texts, said.tolist(), developed.scores.tolist())


def _write(artifacts: ArtifactStore, developed: Developed, snapshot: Snapshot, task: str) -> Artifact:
    """Export the student and return the artifact, verified."""
    with artifacts.draft() as folder:
        manifest = write_specialist(
            folder,
            task=task,
            family=developed.family,
            model=developed.student.to_artifact(folder),
            scorer=developed.scorer,
            answers=snapshot.answers,
            inputs=snapshot.inputs,
            trunk=developed.trunk,
        )
        digest = artifacts.commit(folder, {**manifest, "snapshot": snapshot.digest})
    return artifacts.open(digest)


def _precision(recipe: Recipe, snapshot: Snapshot, rows: Rows) -> Callable[[Any], str]:
    """Return how to choose the trunk's precision once an encoder is asked for; only `rows` have a say in it."""

    def choose(student: Any) -> str:
        if recipe.precision != "auto":
            return recipe.precision
        from insource.training.precision import choose_precision

        texts = [snapshot.texts[i] for i in rows]
        return choose_precision(student, texts, snapshot.classes[rows], len(snapshot.answers), recipe.seed)

    return choose


def _develop(material: Material, snapshot: Snapshot, split: Split, promise: Promise, recipe: Recipe) -> Developed:
    classes, labels = snapshot.classes, snapshot.answers.answers
    if recipe.method == "none":
        return _fit_only(material, split.learn, snapshot, recipe)
    placed = folds(snapshot.groups[split.learn], recipe.seed)
    if len(np.unique(placed)) < 2:
        raise DataError(
            f"The {len(split.learn)} rows left to learn from are near-duplicates of {len(np.unique(snapshot.groups))} "
            "texts, and fall into one fold; at least two folds were expected, since near-duplicates never straddle "
            "folds. Collect more varied traffic, or pass --no-certify."
        )
    rows = RowSet(split.learn, placed, split.also, classes, labels, heads_of(snapshot.answers), recipe.balance)
    return develop_or_forget(material, rows, split.older, promise, recipe.family)


def _check_rows(classes: Classes) -> None:
    """Raise DataError where too little is left to learn from."""
    if len(np.unique(classes)) < 2 or len(classes) < FOLDS * 2:
        raise DataError(
            f"{len(classes)} rows with {len(np.unique(classes))} answers are left to learn from; at least {FOLDS * 2} "
            "rows and two answers were expected. Collect more labelled traffic."
        )


def _fit_only(material: Material, rows: Rows, snapshot: Snapshot, recipe: Recipe) -> Developed:
    """Fit one family on all rows; its score is the plain top probability, and nothing is certified."""
    family = recipe.family
    student, prepared = material.of(family, snapshot.answers.answers)
    n_classes = len(snapshot.answers)
    student.heads = heads_of(snapshot.answers)
    classes = snapshot.classes[rows]
    fitted = student.fit(prepared, rows, classes, n_classes)
    fitted, probabilities = balanced(fitted, np.empty((0, n_classes)), classes, recipe.balance)
    return Developed(
        family=family,
        student=fitted,
        scorer=plain_scorer(n_classes),
        probabilities=probabilities,
        scores=np.empty(0),
        wrong=np.empty(0, np.bool_),
        accuracy=float("nan"),
        calibration=NOTHING_CERTIFIED,
        trunk=material.trunk_digest if family != "linear" else None,
        why=f"{family} was asked for, without a certificate",
    )


def _calibration(
    developed: Developed, specialist: Specialist, snapshot: Snapshot, split: Split, promise: Promise, recipe: Recipe
) -> Calibration | None:
    """Return the certificate: out of fold, or, for `strict`, of the rows set aside, scored by the serving backend."""
    if recipe.method == "none":
        return None
    found = developed.calibration
    if recipe.method == "strict":
        rows = split.calibrate
        answered = specialist.answer_texts([snapshot.texts[i] for i in rows])
        references = named(snapshot.classes[rows], snapshot.answers.answers)
        wrong = np.array([label for label, _ in answered]) != references
        found = certified(np.array([score for _, score in answered]), wrong, references, promise, "strict")
    return replace(found, method=recipe.method)


def _tested(
    specialist: Specialist, snapshot: Snapshot, rows: Rows, calibration: Calibration | None
) -> Evaluation | None:
    if not len(rows):
        return None
    labels = snapshot.answers.answers
    return evaluate(
        specialist,
        [snapshot.texts[i] for i in rows],
        [labels[snapshot.classes[i]] for i in rows],
        threshold=calibration.threshold if calibration else None,
        confidence_level=calibration.confidence_level if calibration else 0.95,
    )
