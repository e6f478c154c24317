"""The texts of a run in the form of every family, each made when it is first asked for.

It knows which families there are; not labels, folds or thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.backends.model_files import read_tokenizer
from insource.backends.onnx import TOKENIZER_FILE, Trunk
from insource.errors import UserError
from insource.training.crossfit import CrossFit
from insource.training.students.contract import Student
from insource.training.students.linear import Counts, LinearStudent
from insource.training.trunks import Say, TrunkRoom
from insource.training.windows import Windows, choose_windows

FAMILIES = ("linear", "static", "two-tier", "encoder-frozen")
"""From the smallest to the largest; `auto` looks at them in this order, but for `static`, which is to be asked for."""

TUNED = "encoder"
"""The family whose encoder is tuned: it takes torch and minutes, so that only who asks for it gets it."""

CHOICES = ("auto", *FAMILIES)


def check_family(name: str, choices: Sequence[str] = CHOICES) -> str:
    """Return the name; raise UserError where it is none of the choices."""
    if name not in choices:
        raise UserError(f"--family is {name!r}; one of {', '.join(choices)} was expected.")
    return name


class Material:
    """Texts, prepared once for each family and shared by every fit."""

    def __init__(
        self,
        texts: Sequence[str],
        room: Callable[[], TrunkRoom],
        say: Say,
        base: str,
        choose_precision: Callable[[Callable[[str], Any]], str] = lambda _: "int8",
    ) -> None:
        self.texts = texts
        self._room_of, self._say, self._base, self._choose_precision = room, say, base, choose_precision
        self.precision: str | None = None
        self._room: TrunkRoom | None = None
        self._counts: Counts | None = None
        self._embeddings: Any = None
        self._static: tuple[Student, Any] | None = None
        self.trunk_digest: str | None = None
        self.windows: Windows | None = None
        self.fitted: dict[str, tuple[tuple[str, ...], CrossFit]] = {}
        """By family, the answers and the cross-fit of the last version developed from this material."""

    @property
    def room(self) -> TrunkRoom:
        """Where trunks are opened; made when an encoder is first asked for."""
        if self._room is None:
            self._room = self._room_of()
        return self._room

    def linear(self) -> tuple[LinearStudent, Counts]:
        """Return an unfitted linear student and the counted n-grams."""
        student = LinearStudent()
        if self._counts is None:
            self._counts = student.prepare(self.texts, self._say(f"counting n-grams of {len(self.texts):,} texts"))
        return student, self._counts

    def static(self) -> tuple[Student, Any]:
        """Return an unfitted static student, which has had the trunk read its own vocabulary, and the texts' words."""
        if self._static is None:
            from insource.training.students.static import StaticStudent
            from insource.training.students.static_lexicon import make_lexicon

            digest = self.room.ensure(self._base, "int8")
            tokenizer = read_tokenizer(self.room.base(self._base).folder / TOKENIZER_FILE, links=True)
            student = StaticStudent(make_lexicon(tokenizer, self.room.embedder(digest), self.room.get(digest).blocks))
            self._static = student, student.prepare(self.texts)
        return self._static

    def encoder(self, labels: Sequence[str] = ()) -> tuple[Student, Any]:
        """Return an unfitted frozen-encoder student, which may learn from the labels' words, and the embeddings."""
        if self.trunk_digest is None:
            self.precision = self._choose_precision(self._student)
            digest = self.room.ensure(self._base, self.precision)
            self.windows = choose_windows(self.texts, self.room.get(digest))
            self.trunk_digest = self.room.windowed(digest, self.windows.most)
        student = self._student_of(self.trunk_digest, labels)
        if self._embeddings is None:
            self._embeddings = student.prepare(self.texts)
        return student, self._embeddings

    def of(self, family: str, labels: Sequence[str] = ()) -> tuple[Student, Any]:
        """Return an unfitted student of a family, and the texts as it learns from them; `labels` as for `encoder`."""
        if family == "linear":
            return self.linear()
        if family == "static":
            return self.static()
        if family == "encoder-frozen":
            return self.encoder(labels)
        from insource.training.students.two_tier import Tiers, TwoTierStudent

        linear, counts = self.linear()
        encoder, embeddings = self.encoder(labels)
        return TwoTierStudent(linear, encoder), Tiers(counts, embeddings)  # type: ignore[arg-type]

    def _student(self, precision: str) -> Any:
        return self._student_of(self.room.ensure(self._base, precision))

    def _student_of(self, digest: str, labels: Sequence[str] = ()) -> Any:
        from insource.training.students.encoder_frozen import EncoderFrozenStudent

        return EncoderFrozenStudent(self.room.get(digest), self.room.embedder(digest), labels=labels)

    def embedder(self) -> Known:
        """Return the trunk with the embeddings of these texts at hand, to serve them without embedding them again."""
        self.encoder()
        assert self.trunk_digest is not None
        return Known(self.room.get(self.trunk_digest), self.texts, self._embeddings)


class Known:
    """An embedder that looks texts up which it has seen; row by row the same numbers as the trunk's."""

    def __init__(self, trunk: Trunk, texts: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        self._trunk, self._embeddings = trunk, embeddings
        self._rows = {text: row for row, text in enumerate(texts)}

    @property
    def dimension(self) -> int:
        """The length of an embedding."""
        return self._trunk.dimension

    def embed_one(self, text: str) -> NDArray[np.float32]:
        """Return the embedding of a text."""
        row = self._rows.get(text)
        return self._trunk.embed_one(text) if row is None else self._embeddings[row]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of texts."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        return np.stack([self.embed_one(text) for text in texts])
