"""The tuned-encoder student: a base model's own weights learn the task, with torch, and are kept as an encoder.

It is served by the same engine as a frozen encoder's head, over a trunk of its own.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from insource.backends.encoder import FEWER_NEIGHBOURS
from insource.backends.onnx import TOKENIZER_FILE, Reader
from insource.errors import DataError
from insource.training.architectures import POSITIONS
from insource.training.balance import answer_weights
from insource.training.base_models import WEIGHTS_FILE, BaseModel
from insource.training.encoder_weights import Weights, read_shape
from insource.training.precision import is_worse
from insource.training.splits import places
from insource.training.students.contract import Classes, Probabilities, Progress, Rows
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.heads import Heads
from insource.training.trunks import Say, TrunkRoom
from insource.training.tuning.batches import Tokenised
from insource.training.tuning.needs import check_memory, needed_bytes, torch_or_how
from insource.training.tuning.settings import Settings

if TYPE_CHECKING:
    from insource.training.tuning.checkpoint import Checkpoint
    from insource.training.tuning.loop import Lesson, Tuned

STOP_SHARE, MOST_STOP, FEWEST_ROWS, STOP_SEED = 0.1, 500, 100, 7
"""This share of the rows, at most so many, tells when to stop; of fewer than 100 rows none is spared."""

STALE_SECONDS = 7 * 24 * 3600.0

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Read:
    """Texts, and the tokens that stand for them."""

    texts: tuple[str, ...]
    tokens: Tokenised

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a teacher says of the texts: `soft` float32 (n, K), and its embeddings `hidden` (n, D) where they fit."""

    soft: Vectors
    hidden: Vectors | None = None


def sweep(folder: Path, now: float | None = None) -> None:
    """Remove the checkpoints that nobody went on from for a week; each weighs as much as two encoders."""
    before = (time.time() if now is None else now) - STALE_SECONDS
    for path in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()


class EncoderStudent:
    """Tunes `base` in all its layers; `room` keeps what comes out and its trunk, int8, fp32 or (auto) the better one.

    `groups` int (n,) name the texts of which none may stand on the other side of early stopping; by default each
    stands alone. With `teaching`, which is of all texts, rows of class -1 are learned from it alone. `checkpoints` is
    the folder where a tuning stands after each epoch, or None. `heads` learn the answers field by field. With `balance`
    a row's loss weighs as `answer_weights` has it.
    """

    family: ClassVar[str] = "encoder"

    def __init__(
        self,
        room: TrunkRoom,
        base: BaseModel,
        *,
        settings: Settings | None = None,
        precision: str = "auto",
        groups: NDArray[np.intp] | None = None,
        teaching: Teaching | None = None,
        checkpoints: Path | None = None,
        heads: Heads | None = None,
        balance: float = 0.0,
        say: Say = lambda _: lambda done, total: None,
    ) -> None:
        self.room, self.base, self.settings, self.precision = room, base, settings or Settings(), precision
        self.groups, self.teaching, self.checkpoints, self.say = groups, teaching, checkpoints, say
        self.heads, self.balance = heads, balance

    def prepare(self, texts: Sequence[str], progress: Progress | None = None) -> Read:
        """Return the texts as tokens."""
        reader = Reader(self.base.folder / TOKENIZER_FILE, self.base.max_tokens, links=True)
        return Read(tuple(texts), Tokenised([reader.tokens(text).ids for text in texts]))

    def fit(self, prepared: Read, rows: Rows, classes: Classes, n_classes: int, start: Self | None = None) -> Self:
        """Tune the base model with a head on it, keep the encoder, and build the trunk that serves.

        Raises MissingExtra without torch, DataError where the memory does not suffice or the base model cannot be
        tuned, TrainingFailed where the loss is not a number. A `start` would save nothing.
        """
        torch_or_how()
        known = np.full(len(prepared), -1, np.int64)
        known[rows] = classes
        self.stop_ = self._stop(rows[known[rows] >= 0])
        learn = np.setdiff1d(rows, self.stop_)
        tuned, checkpoint = self._tuned(prepared, learn, known, n_classes)
        self.epochs_, self.kept_ = [asdict(each) for each in tuned.epochs], tuned.kept
        positions = len(tuned.tensors[POSITIONS])
        self.encoder_, own = self.room.keep(
            replace(self.base, blocks=1), tuned.tensors, self.base.name, max_position_embeddings=positions,
            type_vocab_size=1,
        )  # fmt: skip
        self._serve(prepared, learn[known[learn] >= 0], known, tuned, own)
        checkpoint.drop()
        return self

    def probabilities(self, prepared: Read, rows: Rows) -> Probabilities:
        """Return float64 (len(rows), K), by the trunk that serves."""
        if not hasattr(self, "head_"):
            raise DataError("This student has learned nothing yet; its `fit` was expected first. Call `fit`.")
        return self.head_.probabilities(self._embedded(prepared, rows, self.trunk_), np.arange(len(rows)))

    def fresh(self) -> Self:
        """Return an unfitted student with the same choices."""
        return type(self)(
            self.room, self.base, settings=self.settings, precision=self.precision, groups=self.groups,
            teaching=self.teaching, checkpoints=self.checkpoints, heads=self.heads,
            balance=self.balance, say=self.say,
        )  # fmt: skip

    def tilted(self, shift: NDArray[np.float32]) -> Self:
        """Return a fitted student like this one, with `shift` (K,) added to the logits."""
        found = copy(self)
        found.head_ = self.head_.tilted(shift)
        return found

    def to_artifact(self, folder: Path) -> dict[str, Any]:
        """Write the head; the trunk and the encoder's weights are artifacts of their own."""
        told = {"encoder": self.encoder_, "epochs": self.epochs_, "kept_epoch": self.kept_}
        return self.head_.to_artifact(folder) | told

    def _stop(self, labelled: Rows) -> Rows:
        """Return the labelled rows that tell when to stop, whole groups of them."""
        if len(labelled) < FEWEST_ROWS:
            return labelled[:0]
        groups = labelled if self.groups is None else self.groups[labelled]
        share = min(STOP_SHARE, MOST_STOP / len(labelled))
        return labelled[places(groups.astype(np.intp), self.settings.seed + STOP_SEED) < share]

    def _tuned(self, prepared: Read, learn: Rows, known: Classes, n_classes: int) -> tuple[Tuned, Checkpoint]:
        """Return what tuning came to, and the checkpoint it may still be had from."""
        from insource.training.tuning.checkpoint import Checkpoint
        from insource.training.tuning.loop import Lesson, Tuning

        shape = read_shape(self.base.folder)
        weights = Weights.read(self.base.folder / WEIGHTS_FILE)
        check_memory(needed_bytes(shape, weights, prepared.tokens, self.settings.batch))
        tuning = Tuning(weights, shape, self.base.pooling, self.base.max_tokens, self.settings)
        teaching, own = self.teaching, known[learn]
        raised = answer_weights(own[own >= 0], n_classes, self.balance) if self.balance else None
        lesson = Lesson(
            prepared.tokens, known, n_classes, learn, self.stop_,
            teaching.soft if teaching else None, teaching.hidden if teaching else None, self.heads,
            None if raised is None else raised.astype(np.float32),
        )  # fmt: skip
        checkpoint = Checkpoint(self._checkpoint(lesson))
        return tuning.run(lesson, checkpoint, self.say(f"tuning {self.base.name} on {len(learn):,} texts")), checkpoint

    def _serve(self, prepared: Read, labelled: Rows, known: Classes, tuned: Tuned, own: BaseModel) -> None:
        """Build the trunk that serves, int8 unless the stop rows tell that fp32 is better, and put the head on it."""
        chosen = self.precision if self.precision != "auto" else "int8"
        trunk, right = self._tried(prepared, known, tuned, own, chosen)
        if self.precision == "auto" and len(self.stop_):
            exact, exactly_right = self._tried(prepared, known, tuned, own, "fp32")
            if is_worse(right, exactly_right):
                chosen, trunk = "fp32", exact
        some = labelled[np.linspace(0, len(labelled) - 1, min(len(labelled), FEWER_NEIGHBOURS)).astype(np.intp)]
        embeddings = np.zeros((len(prepared), self.room.get(trunk).dimension), np.float32)
        embeddings[some] = self._embedded(prepared, some, trunk)
        head = EncoderFrozenStudent(self.room.get(trunk), self.room.embedder(trunk))
        self.head_ = head.take(embeddings, some, known[some], tuned.weights, tuned.bias)
        self.precision_, self.trunk_ = chosen, trunk

    def _tried(
        self, prepared: Read, known: Classes, tuned: Tuned, own: BaseModel, precision: str
    ) -> tuple[str, NDArray[np.bool_]]:
        """Return the trunk of a precision, and which of the stop rows it is right about."""
        trunk = self.room.build(own, precision, self.encoder_)
        said = self._embedded(prepared, self.stop_, trunk) @ tuned.weights + tuned.bias
        return trunk, said.argmax(axis=1) == known[self.stop_]

    def _embedded(self, prepared: Read, rows: Rows, trunk: str) -> Vectors:
        return self.room.embedder(trunk)([prepared.texts[int(row)] for row in rows], None)

    def _checkpoint(self, lesson: Lesson) -> Path | None:
        """Return the file for a tuning of exactly this lesson from this base model with these settings."""
        if self.checkpoints is None:
            return None
        sweep(self.checkpoints)
        told = [self.base.digest, self.base.pooling, asdict(self.settings), lesson.n_classes]
        found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        rows = (lesson.tokens.ids, lesson.tokens.lengths, lesson.classes, lesson.learn, lesson.stop)
        for array in (*rows, lesson.soft, lesson.hidden):
            found.update(b"none" if array is None else array.tobytes())
        if lesson.heads is not None:
            found.update(lesson.heads.values.tobytes())
        if lesson.weights is not None:
            found.update(lesson.weights.tobytes())
        return self.checkpoints / f"{found.hexdigest()[:32]}.safetensors"
