"""A specialist: a served artifact behind the one contract, from a request to a scored answer.

It opens families by name and knows neither thresholds nor what is done with an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from insource.answers import AnswerSpace
from insource.backends.arrays import write_arrays
from insource.backends.batching import Batcher
from insource.backends.contract import BackendInfo, Health
from insource.backends.engine import Engine, Evidence, Probabilities
from insource.backends.model_files import read_arrays
from insource.backends.onnx import default_threads
from insource.errors import ArtifactDamaged, DataError, InsourceError
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.types import Answer, Request

SCORE_FILE = "score.safetensors"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a specialist makes of a text: its answer and score, the runner-up, and what decided between them."""

    label: str
    probability: float
    score: float
    runner_up: str
    runner_up_probability: float
    evidence: tuple[Evidence, ...]


class Specialist:
    """Answers requests of one task from a closed set, each with a score in [0, 1].

    A quick engine computes on the event loop; any other on threads that all its requests share, each text by itself.
    Raises DataError for a request without text.
    """

    def __init__(
        self, name: str, engine: Engine, scorer: Scorer, answers: AnswerSpace, inputs: InputSettings, digest: str | None
    ) -> None:
        self.name, self.answers, self.inputs = name, answers, inputs
        self._engine, self._scorer = engine, scorer
        self._info = BackendInfo(f"specialist:{name}", digest, 1, inputs.max_characters, engine.inline)
        self._batcher = Batcher(default_threads(), name="specialist")
        self._closed = False

    @property
    def info(self) -> BackendInfo:
        """The version's name and digest, the number of characters read, and whether it answers inline."""
        return self._info

    async def answer(self, request: Request) -> Answer:
        """Answer one request with label, rendered content and score; a moderation with every answer's probability."""
        text = self._text(request)
        start = time.perf_counter()
        if request.dialect == "moderations":
            compute = self._engine.probabilities
            found = compute(text) if self._engine.inline else await self._batcher.run(compute, text)
            answer = self._answer(*self._told(found), time.perf_counter() - start)
            return replace(answer, probabilities=dict(zip(self.answers.answers, found.tolist(), strict=True)))
        if self._engine.inline:
            label, score = self.answer_text(text)
        else:
            label, score = await self._batcher.run(self.answer_text, text)
        return self._answer(label, score, time.perf_counter() - start)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests in their order, on a thread."""
        texts = [self._text(request) for request in requests]
        start = time.perf_counter()
        answered = await asyncio.to_thread(self.answer_texts, texts)
        each = (time.perf_counter() - start) / max(len(texts), 1)
        return [self._answer(label, score, each) for label, score in answered]

    def answer_text(self, text: str) -> tuple[str, float]:
        """Return the label of a text and its score."""
        return self._told(self._engine.probabilities(text))

    def answer_texts(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Return label and score of each text; the same as one at a time."""
        return [self._told(row) for row in self.probabilities(texts)]

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Return the probability of each answer for each text, float64 (n, K)."""
        return self._engine.probabilities_many(texts)

    def scores(self, probabilities: Probabilities) -> NDArray[np.float64]:
        """Return the score that goes with each row of probabilities, float64 (n,)."""
        return np.array([self._scorer.score_one(row) for row in probabilities], dtype=np.float64)

    def explain(self, text: str) -> Explanation:
        """Say what decided for the first answer over the second."""
        probabilities = self._engine.probabilities(text)
        second, first = (int(i) for i in np.argsort(probabilities, kind="stable")[-2:])
        return Explanation(
            label=self.answers.answers[first],
            probability=float(probabilities[first]),
            score=self._scorer.score_one(probabilities),
            runner_up=self.answers.answers[second],
            runner_up_probability=float(probabilities[second]),
            evidence=tuple(self._engine.explain(text, first, second)),
        )

    async def health(self) -> Health:
        """Ready until closed."""
        return Health(not self._closed, "closed" if self._closed else "")

    async def __aenter__(self) -> Self:
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._batcher.close()

    def _text(self, request: Request) -> str:
        if self._closed:
            raise InsourceError(f"{self.info.name} is closed; it was asked for an answer. Open it again.")
        text = self.inputs.text_of(request)
        if text is None:
            raise DataError(f"Request {request.id} has no text that {self.info.name} could read; send it upstream.")
        return text

    def _told(self, probabilities: Probabilities) -> tuple[str, float]:
        return self.answers.answers[int(probabilities.argmax())], self._scorer.score_one(probabilities)

    def _answer(self, label: str, score: float, seconds: float) -> Answer:
        return Answer(
            served_by=self._info.name,
            content=self.answers.render(label),
            label=label,
            score=score,
            seconds={"specialist": seconds},
        )


def write_specialist(
    folder: Path,
    *,
    task: str,
    family: str,
    model: Mapping[str, Any],
    scorer: Scorer,
    answers: AnswerSpace,
    inputs: InputSettings,
    trunk: str | None,
) -> dict[str, Any]:
    """Write the scorer beside the model's files and return the manifest that `open_specialist` reads."""
    write_arrays(folder / SCORE_FILE, scorer.to_arrays())
    return {
        "kind": "specialist",
        "task": task,
        "family": family,
        "model": dict(model),
        "answers": answers.to_json(),
        "inputs": inputs.to_json(),
        "trunk": trunk,
    }


def open_specialist(
    folder: Path, manifest: Mapping[str, Any], *, name: str, digest: str | None, trunk: Callable[[str], Any]
) -> Specialist:
    """Open the specialist that lies, verified, in `folder`; `trunk` gives the loaded trunk of a digest.

    Raises ArtifactDamaged where the files do not make a specialist of the manifest's family.
    """
    try:
        answers, inputs = AnswerSpace.from_json(manifest["answers"]), InputSettings.from_json(manifest["inputs"])
        scorer = Scorer.from_arrays(read_arrays(folder / SCORE_FILE))
        engine = _open_engine(folder, manifest["family"], manifest["trunk"], trunk)
        _try_once(engine, scorer, len(answers))
    except (OSError, KeyError, ValueError, DataError, SafetensorError) as error:
        raise ArtifactDamaged(
            f"{folder} is no specialist that can be served ({type(error).__name__}: {error}); the manifest and files "
            "that `insource train` writes were expected. Train the version again."
        ) from error
    return Specialist(name, engine, scorer, answers, inputs, digest)


def _try_once(engine: Engine, scorer: Scorer, answers: int) -> None:
    """Raise ValueError where engine, scorer and answers are not made for each other."""
    found, known = len(engine.probabilities("")), len(scorer.agreement.answers_)
    if not found == known == answers:
        raise ValueError(f"the model has {found} answers, the scorer {known}, the manifest {answers}")


def _open_engine(folder: Path, family: str, digest: str | None, trunk: Callable[[str], Any]) -> Engine:
    """Import and open one family's engine; the families that can be served are listed here and nowhere else."""
    if family == "linear":
        from insource.backends.linear import LinearEngine

        return LinearEngine.load(folder)
    if family == "static":
        from insource.backends.static import StaticEngine

        return StaticEngine.load(folder)
    if family in ("encoder-frozen", "encoder", "two-tier") and digest is not None:
        from insource.backends.encoder import EncoderEngine, TwoTierEngine

        kind = TwoTierEngine if family == "two-tier" else EncoderEngine
        engine: Engine = kind.load(folder, trunk(digest))
        return engine
    known = "linear, static, encoder-frozen, encoder or two-tier"
    raise ValueError(f"family {family!r} with trunk {digest!r}; {known} was expected")
