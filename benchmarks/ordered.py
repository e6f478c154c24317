"""A data set as one stream, prepared once and replayed in many orders: texts counted and embedded a single time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import part
from insource.backends.onnx import Trunk
from insource.inputs import InputSettings
from insource.lifecycle.stream import Stream, to_stream
from insource.store.artifacts import ArtifactStore
from insource.traffic import read
from insource.training.families import Known, Material
from insource.training.students.contract import Student
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.linear import Block, Counts, LinearStudent
from insource.training.trunks import TrunkRoom

BASE = "all-MiniLM-L6-v2"
if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Result = TypeVar("Result", bound="DataclassInstance")


class Sentences:
    """A trunk of which the sentence embedding alone is read: the last block, a third of the length."""

    blocks = 1

    def __init__(self, trunk: Trunk) -> None:
        self.info, self.dimension, self.embed_one = trunk.info, trunk.sentence_dimension, trunk.sentence_one

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the sentence embeddings of texts, float32 (n, dimension)."""
        return np.stack([self.embed_one(text) for text in texts])


class Ordered(Material):
    """The material of a stream in another order, with nothing computed anew; `sentences` reads the last block alone."""

    def __init__(self, of: Material, order: NDArray[np.intp], room: TrunkRoom, *, sentences: bool = False) -> None:
        super().__init__([of.texts[row] for row in order], lambda: room, _say, BASE)
        self._of, self._order = of, order
        self._unfitted, embeddings = of.encoder()
        self.trunk_digest, self.precision = of.trunk_digest, of.precision
        self._trunk: Any = room.get(of.trunk_digest or "")
        if sentences:
            self._trunk = Sentences(self._trunk)
            self._unfitted = EncoderFrozenStudent(self._trunk, self._trunk.embed)
        self._embeddings = embeddings[order, -self._trunk.dimension :]

    def linear(self) -> tuple[LinearStudent, Counts]:
        """Return an unfitted student and the counts."""
        if self._counts is None:
            counts = self._of.linear()[1]
            self._counts = Counts(*(_of(each, self._order) for each in (counts.words, counts.characters)))
        return LinearStudent(), self._counts

    def encoder(self) -> tuple[Student, NDArray[np.float32]]:
        """Return an unfitted student and the embeddings, without looking the trunk up again for each version."""
        return self._unfitted.fresh(), self._embeddings

    def embedder(self) -> Known:
        """Return the trunk with these embeddings at hand."""
        return Known(self._trunk, self.texts, self._embeddings)


@dataclass(frozen=True)
class Asked:
    """All requests of a set, train and test together; gold is the reference."""

    name: str
    stream: Stream
    material: Material
    room: TrunkRoom


def prepare(data: Path, home: Path, name: str, most: int | None = None) -> Asked:
    """Read a set, count its n-grams and embed it; embeddings are kept in `home`."""
    examples = [example for split in ("train", "test") for example in read(part(data, name, split)).examples]
    if most is not None:
        examples = [examples[at] for at in np.random.default_rng(0).permutation(len(examples))[:most]]
    stream = to_stream(examples, InputSettings())
    room = TrunkRoom(home, ArtifactStore(home), _say)
    return Asked(name, stream, Material(stream.texts, lambda: room, _say, BASE), room)


def reordered(stream: Stream, order: NDArray[np.intp]) -> Stream:
    """Return the stream's requests in another order."""

    def of(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[row] for row in order)

    return replace(
        stream,
        requests=of(stream.requests),
        texts=of(stream.texts),
        references=of(stream.references),
        gold=of(stream.gold),
        usages=of(stream.usages),
        groups=stream.groups[order],
    )


def _of(block: Block, order: NDArray[np.intp]) -> Block:
    return Block(block.counts[order], block.names)


def _say(title: str) -> Any:
    return lambda done, total: None


def kept(path: Path, kind: type[Result], make: Callable[[], Result]) -> Result:
    """Return what is kept in a file, made where it is not: a run that was stopped goes on where it was."""
    if path.exists():
        return kind(**json.loads(path.read_text()))
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(asdict(made)) + "\n")
    part.replace(path)
    return made


def alone() -> None:
    """Keep this process to one core: several at once are better than one on all."""
    if hasattr(os, "sched_setaffinity"):
        available = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {available[os.getpid() % len(available)]})
