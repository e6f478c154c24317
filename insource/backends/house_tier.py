"""A tier in the house: a model server (vLLM, llama.cpp, Ollama) asked for its answer and how sure it is of it.

It turns a request into one that such a server answers in a piece, and the reply into a scored answer from the task's
closed set. It knows neither thresholds nor policy: the upstream it is given stands behind its egress already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from insource.answers import AnswerSpace
from insource.backends.contract import Backend, BackendInfo, Health
from insource.backends.reply import read_whole
from insource.errors import ArtifactDamaged, DataError, InsourceError, UpstreamError
from insource.inputs import InputSettings
from insource.types import Answer, Request, SpecialistVersion, Usage

FAMILY = "house"
KINDS = ("probability", "answer")
MAX_BYTES = 2**20
SURE = 1e-9
_PATH = "/v1/chat/completions"
_HEADERS: Mapping[str, str] = {"content-type": "application/json"}
_SHARED = ("temperature", "top_p", "seed")
_VALUES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")


@dataclass(frozen=True, slots=True)
class Said:
    """What the server replied: status, text, and the product of its tokens' probabilities, None where it names none."""

    status: int
    content: str | None = None
    probability: float | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class TierScore:
    """The score of an answer in [0, 1].

    "probability": sigmoid(slope * logit(probability) + intercept) with slope > 0, so that no two answers change their
    order. "answer", for a server that names no probabilities: the `rates` at which each answer agreed with references.
    """

    kind: str
    slope: float = 1.0
    intercept: float = 0.0
    rates: tuple[float, ...] = ()

    def of(self, answer: int, probability: float | None) -> float | None:
        """Return the score of answer number `answer`; None where a probability is needed and there is none."""
        if self.kind == "answer":
            return self.rates[answer]
        if probability is None:
            return None
        return 1.0 / (1.0 + math.exp(-self.slope * logit(probability) - self.intercept))

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest holds."""
        return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept, "rates": list(self.rates)}

    @classmethod
    def from_json(cls, value: Any, answers: int) -> Self:
        """Read what `to_json` wrote for a set of so many answers; raise ValueError where it is something else."""
        score = msgspec.convert(value, cls)
        rates = answers if score.kind == "answer" else 0
        numbers = (score.slope, score.intercept, *score.rates)
        if score.kind not in KINDS or len(score.rates) != rates or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a score of kind {score.kind!r} with {len(score.rates)} rates for {answers} answers")
        if not 0.0 < score.slope <= 1e3 or abs(score.intercept) > 600.0:
            raise ValueError(f"a score with slope {score.slope:g} and intercept {score.intercept:g}")
        return score


def logit(probability: float) -> float:
    """Return the logit, clipped so that certainty stays finite."""
    clipped = min(max(probability, SURE), 1.0 - SURE)
    return math.log(clipped) - math.log1p(-clipped)


class HouseTier:
    """Answers requests of one task from a closed set, by asking a server in the house; each with a score in [0, 1].

    A reply outside the set has neither content nor score, one without the log-probabilities that its score needs has
    no score. Raises UpstreamError where the server fails, KeptLocal where the policy keeps the request from it. The
    upstream is shared: entering and leaving do not open and close it.
    """

    def __init__(
        self, name: str, upstream: Backend, model: str, answers: AnswerSpace, score: TierScore, digest: str | None
    ) -> None:
        self.name, self.model, self.answers, self.score, self.upstream = name, model, answers, score, upstream
        self._info = BackendInfo(f"tier:{name}", digest)
        self._closed = False

    @property
    def info(self) -> BackendInfo:
        """The version's name and digest."""
        return self._info

    async def answer(self, request: Request) -> Answer:
        """Ask the server once."""
        if self._closed:
            raise InsourceError(f"{self._info.name} is closed; it was asked for an answer. Open it again.")
        start = time.perf_counter()
        said = await ask_house(self.upstream, request, self.model)
        if said.status != 200:
            raise UpstreamError(
                f"{self._info.name} asked '{self.upstream.info.name}' and got status {said.status}; 200 was expected. "
                "Check that server, and that it serves the model."
            )
        answer = Answer(self._info.name, usage=said.usage, seconds={"tier": time.perf_counter() - start})
        label = self.answers.normalise(said.content) if said.content is not None else None
        if label is None:
            return answer
        score = self.score.of(self.answers.index(label), said.probability)
        return replace(answer, content=self.answers.render(label), label=label, score=score)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Ask for one after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """The server's, until closed."""
        return Health(False, "closed") if self._closed else await self.upstream.health()

    async def __aenter__(self) -> Self:
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True


def house_request(request: Request, model: str) -> Request:
    """Return the chat completion to ask the server for: its model, in a piece, with log-probabilities.

    All else that a chat completion says is kept byte for byte; of another dialect only the messages and the fields
    that mean the same in both. The client's headers, its key among them, are not for a server in the house.
    """
    if request.dialect == "chat" and request.body:
        values = _VALUES.decode(request.body)
    else:
        told = request.fields if request.dialect == "chat" else {
            name: request.fields[name] for name in _SHARED if name in request.fields
        }  # fmt: skip
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        values = {name: _raw(value) for name, value in {**told, "messages": messages}.items()}
    for name in ("stream_options", "top_logprobs"):
        values.pop(name, None)
    values |= {"model": _raw(model), "stream": _FALSE, "logprobs": _TRUE}
    body = msgspec.json.encode(values)
    return replace(
        request, model=model, body=body, headers=_HEADERS, path=_PATH, method="POST", stream=False, dialect="chat"
    )


async def ask_house(upstream: Backend, request: Request, model: str) -> Said:
    """Ask the server once and read its reply to the end; raise what the upstream and its relay raise."""
    try:
        asked = house_request(request, model)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DataError(f"Request {request.id} is no JSON object that a tier could be asked with.") from error
    answer = await upstream.answer(asked)
    relay = answer.relay
    if relay is None:
        return Said(200, answer.content, None, answer.usage)
    read = bytearray()
    try:
        async for chunk in relay.chunks:
            read += chunk
            if len(read) > MAX_BYTES:
                break
    finally:
        await relay.close()
    reply = read_whole(relay.status, relay.headers, bytes(read), max_bytes=MAX_BYTES)
    return Said(relay.status, reply.content, _probability(read), reply.usage)


def write_house_tier(
    *, task: str, tier: str, model: str, answers: AnswerSpace, inputs: InputSettings, score: TierScore
) -> dict[str, Any]:
    """Return the manifest that `open_house_tier` reads; the artifact has no other file, as the weights are not ours."""
    return {
        "kind": "specialist",
        "task": task,
        "family": FAMILY,
        "tier": tier,
        "model": {"name": model},
        "answers": answers.to_json(),
        "inputs": inputs.to_json(),
        "score": score.to_json(),
        "trunk": None,
    }


def open_house_tier(
    folder: Path, manifest: Mapping[str, Any], *, name: str, digest: str | None, upstream: Backend
) -> HouseTier:
    """Open the tier whose artifact lies, verified, in `folder`; `upstream` is its server, behind the egress.

    Raises ArtifactDamaged where the manifest is not a tier's.
    """
    model, answers, score = read_house_tier(folder, manifest)
    return HouseTier(name, upstream, model, answers, score, digest)


def read_house_tier(folder: Path, manifest: Mapping[str, Any]) -> tuple[str, AnswerSpace, TierScore]:
    """Return model, answers and score of a tier's manifest; raise ArtifactDamaged where it is not one."""
    try:
        if manifest["family"] != FAMILY:
            raise ValueError(f"family {manifest['family']!r}; {FAMILY!r} was expected")
        answers, model = AnswerSpace.from_json(manifest["answers"]), manifest["model"]["name"]
        if not isinstance(model, str) or not model:
            raise ValueError(f"model {model!r}; a name was expected")
        return model, answers, TierScore.from_json(manifest["score"], len(answers))
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise ArtifactDamaged(
            f"{folder} is no tier that can be asked ({type(error).__name__}: {error}); the manifest that `insource "
            "train --tier` writes was expected. Train it again."
        ) from error


def behind(versions: Sequence[SpecialistVersion]) -> list[dict[str, Any]]:
    """Return what a tier's lineage keeps of the versions asked before it: digest and threshold of each that accepts."""
    return [
        {"digest": version.digest, "threshold": version.calibration.threshold}
        for version in versions
        if version.calibration is not None and version.calibration.threshold is not None
    ]


class _Token(msgspec.Struct):
    logprob: float


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct):
    logprobs: _Logprobs | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []


_BODY = msgspec.json.Decoder(_Body)


def _probability(body: bytearray) -> float | None:
    """Return the product of the tokens' probabilities; None where there are none, or one is impossible."""
    try:
        choices = _BODY.decode(body).choices
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    tokens = choices[0].logprobs.content if choices and choices[0].logprobs else None
    if not tokens or any(token.logprob > 1e-3 for token in tokens):
        return None
    return math.exp(min(math.fsum(token.logprob for token in tokens), 0.0))


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
