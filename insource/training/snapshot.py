"""The rows a training run learns from: texts, classes and groups, frozen and named by a digest.

It knows examples and answers; not students, nor what the rows will be used for.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insource.answers import AnswerSpace, learn_answers
from insource.config.template import user_contexts, user_literals
from insource.errors import DataError
from insource.inputs import InputSettings
from insource.store.content_keys import ContentKeys, Seal
from insource.store.snapshots import seals_of, write_snapshot
from insource.training.duplicates import near_duplicate_groups
from insource.types import Example, Task

LOG = logging.getLogger("insource.training")
FEWEST = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Labelled rows of one task, in the traffic's order and with its repeats.

    `classes` int (n,) are answer numbers, `groups` int (n,) name near-duplicates; rows of one group never straddle two
    splits; `grouped` says that examples named some of them, `owners` whose the rows are. `unlabelled` examples had no
    reference, `textless` no text, `outside` an answer of another form; `kept` says which of the examples the rows are.
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
    owners: tuple[Owner, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def save(self, home: Path) -> Path:
        """Write the rows to `home`/snapshots/DIGEST.jsonl, unless they are there, and return the path.

        Rows of traffic are sealed under the keys that their texts have, rows whose file names a subject under its key.
        Groups are written as numbers, without the names that examples gave them, where some did or rows may go: others
        follow from the texts. Raises StoreFull or StoreError.
        """
        seals = self._seals(home)
        grouped = self.grouped or any(seal is not None for seal in seals)
        groups: list[int | None] = self.groups.tolist() if grouped else [None] * len(self)
        answers = (self.answers.answers[number] for number in self.classes.tolist())
        return write_snapshot(home, self.digest, zip(self.texts, answers, strict=True), groups, seals)

    def named(self, home: Path) -> Snapshot:
        """Return it under the digest to keep: where rows may be erased, one by which nobody can guess at them then.

        That is bound to all their keys, and the same as long as they are there. Raises StoreFull or StoreError.
        """
        seals = [seal for seal in self._seals(home) if seal]
        if not seals:
            return self
        with ContentKeys.open(home) as keys:
            return replace(self, digest=keys.bound(seals, self.digest.encode()).hex())

    def check_erased(self, home: Path) -> None:
        """Raise DataError where a row's subject was erased since the snapshot was taken: nothing may learn from it."""
        seals = [seal for seal in self._seals(home) if seal is not None]
        if not seals:
            return
        with ContentKeys.open(home) as keys:
            erased = set(keys.erased())
        if any(not seal or erased & set(seal) for seal in seals):
            raise DataError("A subject of the training rows was erased while they were learned from; the result is not "
                            "kept. Train again: rows about it are left out.")  # fmt: skip

    def _seals(self, home: Path) -> list[Seal | None]:
        owners = self.owners or (Owner(),) * len(self)
        named = seals_of(home, [(owner.subject, owner.time) for owner in owners])
        return [seal if owner.seal is None else owner.seal for owner, seal in zip(owners, named, strict=True)]


class Owner(NamedTuple):
    """Whose a row is: the keys that its text is kept under already, or the subject that its file names; its time."""

    seal: tuple[bytes, ...] | None = None
    subject: str | None = None
    time: datetime | None = None


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
        owners=tuple(Owner(examples[i].seal, examples[i].request.subject, examples[i].time) for i in kept),
    )


def without_erased(home: Path, examples: Sequence[Example]) -> list[Example]:
    """Return the examples but for those of a file that are about a subject which was erased here; a warning tells."""
    seals = seals_of(home, [(example.request.subject, example.time) for example in examples])
    kept = [example for example, seal in zip(examples, seals, strict=True) if seal != () or example.seal is not None]
    if len(kept) < len(examples):
        LOG.warning("%s rows are about subjects that were erased here; they are left out", len(examples) - len(kept))
    return kept


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
