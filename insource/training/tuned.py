"""Developing a version of family `encoder`: tuned once, and certified on rows that it never saw.

Cross-fitting would tune it once for each fold, so its rows are set aside instead. It knows rows and the student; not
files, the registry or what is certified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from insource.risk.scores import Scorer
from insource.training.develop import NOTHING_CERTIFIED, Developed, plain_scorer
from insource.training.duplicates import near_duplicate_groups
from insource.training.encoder_weights import read_shape
from insource.training.recipe import Recipe
from insource.training.snapshot import Snapshot
from insource.training.split_rows import Split
from insource.training.students.encoder import EncoderStudent
from insource.training.students.heads import heads_of
from insource.training.teacher import Teacher, smaller_base
from insource.training.trunks import Say, TrunkRoom
from insource.training.tuning.needs import torch_or_how
from insource.training.tuning.settings import Settings
from insource.types import Example

FAMILY = EncoderStudent.family
CHECKPOINTS = "tuning"


def prepare_tuning(
    examples: Sequence[Example], snapshot: Snapshot, split: Split, recipe: Recipe, room: TrunkRoom, home: Path,
    say: Say, teacher: Teacher | None,
) -> Callable[[], Developed]:  # fmt: skip
    """Return what develops the version: the base model is at hand, and a teacher has said what it has to say.

    Raises MissingExtra without torch, UserError where the teacher must not teach or there are not so many layers.
    """
    torch_or_how()
    base = (teacher.encoder(room) if teacher else None) or room.base(recipe.base)
    unlabelled = _unlabelled(examples, snapshot, split) if teacher else []
    learned = [snapshot.texts[i] for i in np.concatenate([split.learn, split.also])]
    base = smaller_base(base, recipe, [*learned, *unlabelled], room)
    teaching = teacher.teach([*snapshot.texts, *unlabelled], room, read_shape(base.folder).hidden) if teacher else None
    student = EncoderStudent(
        room, base, settings=replace(recipe.tuning or Settings(), seed=recipe.seed), precision=recipe.precision,
        groups=snapshot.groups, teaching=teaching, checkpoints=home / "cache" / CHECKPOINTS,
        heads=heads_of(snapshot.answers), balance=recipe.balance, say=say,
    )  # fmt: skip
    return lambda: develop_tuned(student, snapshot, split, unlabelled)


def _unlabelled(examples: Sequence[Example], snapshot: Snapshot, split: Split) -> list[str]:
    """Return the texts without a reference, but those that nearly repeat a row to certify or test on."""
    texts = [text for each in examples if each.answer is None and (text := snapshot.inputs.text_of(each.request))]
    if not texts:
        return []
    groups = near_duplicate_groups([*snapshot.texts, *texts], [None] * (len(snapshot) + len(texts)))
    taken = set(groups[np.concatenate([split.calibrate, split.test])].tolist())
    return [text for text, group in zip(texts, groups[len(snapshot) :].tolist(), strict=True) if group not in taken]


def develop_tuned(
    student: EncoderStudent, snapshot: Snapshot, split: Split, unlabelled: Sequence[str] = ()
) -> Developed:
    """Tune on the rows to learn from, and learn the score from those among them that told when to stop.

    `unlabelled` are texts that only a teacher says something of. A row that was tuned on counts as rightly accepted, as
    what the version says of it tells nothing. Raises as `EncoderStudent.fit`.
    """
    n_classes = len(snapshot.answers)
    learn = np.sort(np.concatenate([split.learn, split.also]))
    more = np.arange(len(snapshot), len(snapshot) + len(unlabelled))
    prepared = student.prepare([*snapshot.texts, *unlabelled])
    classes = np.concatenate([snapshot.classes[learn], np.full(len(more), -1)])
    student.fit(prepared, np.concatenate([learn, more]), classes, n_classes)
    judged = np.isin(split.learn, student.stop_)
    references = snapshot.classes[split.learn]
    probabilities = np.eye(n_classes)[references]
    probabilities[judged] = student.probabilities(prepared, split.learn[judged])
    wrong = probabilities.argmax(axis=1) != references
    scorer = Scorer.fit(probabilities[judged], ~wrong[judged]) if judged.any() else plain_scorer(n_classes)
    scores = np.ones(len(references))
    scores[judged] = [scorer.score_one(row) for row in probabilities[judged]]
    return Developed(
        family=FAMILY,
        student=student,
        scorer=scorer,
        probabilities=probabilities,
        scores=scores,
        wrong=wrong,
        accuracy=float(1.0 - wrong[judged].mean()) if judged.any() else float("nan"),
        calibration=NOTHING_CERTIFIED,
        trunk=student.trunk_,
        precision=student.precision_,
        why=_why(student),
    )


def _why(student: EncoderStudent) -> str:
    told = f"{FAMILY} was asked for"
    if not len(student.stop_):
        return f"{told}: {len(student.epochs_)} epochs"
    best = student.epochs_[student.kept_]["accuracy"]
    epochs = f"epoch {student.kept_ + 1} of {len(student.epochs_)}"
    return f"{told}: {epochs} is kept ({best:.1%} right of {len(student.stop_):,} rows)"
