"""The rows a training run learns from: texts, classes and groups, frozen and named by a digest.

It knows examples and answers; not students, nor what the rows will be used for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from insource.answers import AnswerSpace, learn_answers
from insource.config.template import user_contexts, user_literals
from insource.errors import DataError
from insource.inputs import InputSettings
from insource.store.sync import replacing
from insource.training.duplicates import near_duplicate_groups
from insource.types import Example, Task

FOLDER = "snapshots"
FEWEST = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Labelled rows of one task, in the traffic's order and with its repeats.

    `classes` int (n,) are answer numbers, `groups` int (n,) name near-duplicates; rows of one group never straddle two
    splits; `grouped` says that examples named some of them. `unlabelled` examples had no reference, `textless` no text,
    `outside` an answer of another form; `kept` says which of the examples the rows are.
    """

    texts: tuple[str, ...]
    classes: NDArray[np.intp]
    groups: NDArray[np.intp]
    answers: AnswerSpace
    inputs: InputSettings
    digest: str
    unlabelled: int = 0
    textless: int = 0
    outside: int = 0
    kept: tuple[int, ...] = ()
    grouped: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    def save(self, home: Path) -> Path:
        """Write the rows to `home`/snapshots/DIGEST.jsonl, unless they are there, and return the path.

        Groups are written as numbers, without the names that examples gave them, and only where some did: others follow
        from the texts. Raises StoreFull or StoreError.
        """
        path = home / FOLDER / f"{self.digest}.jsonl"
        groups: list[int | None] = self.groups.tolist() if self.grouped else [None] * len(self)
        if not path.exists():
            with replacing(path) as file:
                for text, number, group in zip(self.texts, self.classes.tolist(), groups, strict=True):
                    row = _Row(text, self.answers.answers[number], group)
                    file.write(msgspec.json.encode(row) + b"\n")
        return path


class _Row(msgspec.Struct, omit_defaults=True):
    text: str
    answer: str
    group: int | None = None


def inputs_of(task: Task) -> InputSettings:
    """Return how a task's requests become text: what its training, backtest and specialists see."""
    return InputSettings(task.messages, templates=user_literals(task), contexts=user_contexts(task))


def take_snapshot(
    examples: Sequence[Example], inputs: InputSettings, *, answers: AnswerSpace | None = None, gold: bool = False
) -> Snapshot:
    """Return the labelled rows of `examples`; with `gold`, gold stands in for the reference where there is gold.

    Gold may be written as people write it (`AnswerSpace.find`), a reference is a reply.
    Raises DataError where fewer than 10 rows can be used, OpenEndedAnswers where the answers are not a closed set.
    """
    references = [example.gold if gold and example.gold is not None else example.answer for example in examples]
    given = [reference for reference in references if reference is not None]
    if not given:
        raise DataError(
            f"None of {len(examples):,} requests has a reference; an answer in each line was expected ('answer' or "
            "'label'). Record the upstream's answers, or label some requests."
        )
    space = answers or learn_answers(given)
    labels = [
        space.find(example.gold) if label is None and gold and example.gold is not None else label
        for example, label in zip(examples, space.normalise_all(references), strict=True)
    ]
    texts = [inputs.text_of(example.request) for example in examples]
    kept = [i for i, (text, label) in enumerate(zip(texts, labels, strict=True)) if text and label is not None]
    if len(kept) < FEWEST:
        raise DataError(
            f"{len(kept)} of {len(examples):,} requests have a text and a reference from the closed set; at least "
            f"{FEWEST} were expected. Collect more traffic."
        )
    chosen = tuple(texts[i] or "" for i in kept)
    classes = np.array([space.index(labels[i] or "") for i in kept], dtype=np.intp)
    named = [examples[i].group for i in kept]
    groups, grouped = near_duplicate_groups(chosen, named), any(name is not None for name in named)
    return Snapshot(
        texts=chosen,
        classes=classes,
        groups=groups,
        answers=space,
        inputs=inputs,
        digest=_digest(chosen, classes, space, inputs, groups if grouped else None),
        unlabelled=len(references) - len(given),
        textless=sum(text is None for text in texts),
        outside=sum(label is None for label in labels) - (len(references) - len(given)),
        kept=tuple(kept),
        grouped=grouped,
    )


def read_snapshot(home: Path, digest: str) -> list[tuple[str, str]] | None:
    """Return the (text, answer) rows of a saved snapshot, or None where it is not kept any more."""
    rows = _read(home, digest)
    return None if rows is None else [(row.text, row.answer) for row in rows]


def read_groups(home: Path, digest: str) -> NDArray[np.intp] | None:
    """Return the groups int (n,) of a saved snapshot; None where they follow from the texts, or it is not kept."""
    groups = [row.group for row in _read(home, digest) or ()]
    return np.array(groups, dtype=np.intp) if groups and None not in groups else None


def _read(home: Path, digest: str) -> list[_Row] | None:
    path = home / FOLDER / f"{digest}.jsonl"
    if not path.is_file():
        return None
    with path.open("rb") as lines:
        return [msgspec.json.decode(line, type=_Row) for line in lines]


def _digest(
    texts: Sequence[str],
    classes: NDArray[np.intp],
    answers: AnswerSpace,
    inputs: InputSettings,
    groups: NDArray[np.intp] | None,
) -> str:
    found = hashlib.sha256(json.dumps([list(answers.answers), inputs.to_json()]).encode())
    for text, number in zip(texts, classes.tolist(), strict=True):
        data = text.encode("utf-8", "replace")
        found.update(b"%d %d " % (number, len(data)))
        found.update(data)
    if groups is not None:
        found.update(json.dumps(groups.tolist()).encode())
    return found.hexdigest()
