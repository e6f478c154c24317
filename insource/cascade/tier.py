"""One place in a cascade: who is asked, in which time, and from which score on the answer is accepted.

It knows one tier and one request; the order of tiers and what becomes of the request are the cascade's business.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from insource.backends.contract import Backend
from insource.cascade.honour import unfit
from insource.cascade.refusal import Refusal, refusal_of
from insource.errors import UpstreamTimeout
from insource.types import Answer, Outcome, Reason, Request

Number = Callable[[str], int]
"""Gives the number of a label in its closed set; `AnswerSpace.index`."""
_UNSURE = frozenset({Reason.BELOW_THRESHOLD, Reason.NO_THRESHOLD, Reason.NO_SPECIALIST})


@dataclass(frozen=True, slots=True)
class Tier:
    """A specialist, or an upstream in the house, with the version that serves.

    `name` is the upstream's, None for the specialist. `threshold` None accepts nothing. `refused` says why the version
    could not be opened. `deadline` is in seconds; it is not kept for a backend that answers inline, as nothing could
    interrupt that. `number` gives an answer's number in the closed set, where decisions are to say it.
    """

    backend: Backend | None
    threshold: float | None = None
    version: int | None = None
    digest: str | None = None
    name: str | None = None
    refused: Refusal | None = None
    deadline: float | None = None
    number: Number | None = None
    inline: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inline", self.backend is not None and self.backend.info.inline)

    def numbered(self, answer: Answer | None) -> int | None:
        """Return the number of an answer, None where it has none or decisions are not to say it."""
        if self.number is None or answer is None or answer.label is None:
            return None
        return self.number(answer.label)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a tier made of a request: `scored` is its answer wherever it spoke, `earlier` what the tier before said."""

    outcome: Outcome
    reason: Reason
    detail: str | None = None
    scored: Answer | None = None
    tier: Tier | None = None
    earlier: Verdict | None = None

    @property
    def unsure(self) -> bool:
        """Whether the next tier may be asked: this one is too unsure, and neither failed nor met a field it cannot."""
        return self.outcome is Outcome.ESCALATED and self.reason in _UNSURE

    @property
    def best(self) -> Verdict | None:
        """The last verdict with an answer that honours the request's fields, or None."""
        verdict: Verdict | None = self
        while verdict is not None and (verdict.scored is None or verdict.reason is Reason.UNSUPPORTED_FIELD):
            verdict = verdict.earlier
        return verdict


def up(reason: Reason, detail: str | None = None, tier: Tier | None = None, scored: Answer | None = None) -> Verdict:
    """Return the verdict that a request goes further up."""
    return Verdict(Outcome.ESCALATED, reason, detail, scored, tier)


async def ask(tier: Tier, request: Request) -> Verdict:
    """Ask one tier within its deadline; whatever goes wrong there is a reason, never an error."""
    backend = tier.backend
    if backend is None:
        return _unasked(tier)
    if tier.inline or tier.deadline is None:
        return await _ask_alone(tier, backend, request)
    try:
        async with asyncio.timeout(tier.deadline) as limit:
            answer = await backend.answer(request)
    except TimeoutError as error:
        if limit.expired():
            return up(Reason.SPECIALIST_SLOW, f"no answer within {tier.deadline * 1000:.0f} ms", tier)
        return _failed(tier, error)
    except Exception as error:
        return _failed(tier, error)
    return _judge(tier, request, answer)


async def ask_many(tier: Tier, requests: Sequence[Request]) -> list[Verdict]:
    """Ask one tier for a batch without its deadline; where the batch fails, each request is asked by itself."""
    if not requests:
        return []
    backend = tier.backend
    if backend is None:
        return [_unasked(tier)] * len(requests)
    try:
        answers = await backend.answer_many(requests)
        return [_judge(tier, request, answer) for request, answer in zip(requests, answers, strict=True)]
    except Exception:
        return [await _ask_alone(tier, backend, request) for request in requests]


async def _ask_alone(tier: Tier, backend: Backend, request: Request) -> Verdict:
    try:
        answer = await backend.answer(request)
        return _judge(tier, request, answer)
    except Exception as error:
        return _failed(tier, error)


def _judge(tier: Tier, request: Request, answer: Answer) -> Verdict:
    score, content = answer.score, answer.content
    if content is None and tier.name is not None:
        return up(Reason.BELOW_THRESHOLD, "the reply is outside the closed set", tier)
    if score is None or content is None or not math.isfinite(score):
        who = "specialist" if tier.name is None else "tier"
        return up(Reason.SPECIALIST_FAILED, f"the {who} gave no score or no answer", tier)
    misfit = unfit(request.fields, content, request.dialect)
    if misfit is not None:
        return up(Reason.UNSUPPORTED_FIELD, misfit, tier, answer)
    if tier.threshold is None:
        return up(Reason.NO_THRESHOLD, None, tier, answer)
    if score < tier.threshold:
        return up(Reason.BELOW_THRESHOLD, None, tier, answer)
    return Verdict(Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, None, answer, tier)


def _unasked(tier: Tier) -> Verdict:
    if tier.refused is None:
        return up(Reason.NO_SPECIALIST, None, tier)
    return up(tier.refused.reason, tier.refused.detail, tier)


def _failed(tier: Tier, error: Exception) -> Verdict:
    if isinstance(error, UpstreamTimeout):
        return up(Reason.SPECIALIST_SLOW, "its server did not answer in time", tier)
    refusal = refusal_of(error)
    return up(refusal.reason, refusal.detail, tier)
