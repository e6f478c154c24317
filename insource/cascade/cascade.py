"""Specialist first, upstream if unsure: the cascade of one task (or of none).

It knows no HTTP, no database and no mathematics of thresholds: it compares one score with one number.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from insource.backends.contract import Backend, BackendInfo, Health
from insource.cascade.choice import NOT_TOSSED, Choice, Toss
from insource.cascade.honour import unfit, unsupported
from insource.cascade.refusal import Refusal, refusal_of
from insource.cascade.rename import for_upstream
from insource.errors import InsourceError, UpstreamError, UpstreamUnreachable
from insource.inputs import text_of
from insource.types import Answer, Decision, Outcome, Reason, Request, Task

Clock = Callable[[], datetime]
Pacer = Callable[[float], bool]


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    reason: Reason
    detail: str | None = None
    scored: Answer | None = None


class Cascade:
    """Answers one task's requests: the specialist's answer at or above the threshold, else the upstream's.

    `deadline` is in seconds and holds for a specialist that lets the loop run. `pacer` is for a budget instead of a
    target: given an unsure request's score it says whether to escalate; an answer kept so has reason `budget_spent`
    and lies outside the promise. `refused` says why the version could not be opened. With `task` None all goes up.
    Entering opens the specialist; the upstream is shared and belongs to whoever opened it.
    """

    def __init__(
        self,
        task: Task | None,
        *,
        specialist: Backend | None = None,
        threshold: float | None = None,
        version: int | None = None,
        digest: str | None = None,
        upstream: Backend | None = None,
        upstream_model: str | None = None,
        deadline: float | None = None,
        pacer: Pacer | None = None,
        refused: Refusal | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._task = task
        self._specialist = specialist
        self._threshold = threshold
        self._version = version
        self._digest = digest
        self._upstream = upstream
        self._upstream_model = upstream_model
        self._deadline = deadline
        self._pacer = pacer
        self._refused = refused
        self._clock = clock
        self._closed = False

    @property
    def info(self) -> BackendInfo:
        """The task's name and the artifact's digest."""
        return BackendInfo(f"task:{self._task.name}" if self._task else "upstream", self._digest)

    async def decide(self, request: Request, toss: Toss = NOT_TOSSED) -> Choice:
        """Choose between the specialist's answer and the upstream; send nothing and raise nothing of the specialist's.

        Raises InsourceError once the cascade is closed.
        """
        self._check_open()
        verdict = self._before(request)
        if verdict is None:
            verdict = await self._ask(request)
        return self._choice(request, toss, verdict)

    async def decide_many(self, requests: Sequence[Request], tosses: Sequence[Toss] | None = None) -> list[Choice]:
        """Choose for each request with the specialist's batch; the same choices as `decide`, but for the deadline.

        The deadline is not kept: this is for offline replay. Where the batch fails, each request is asked by itself.
        """
        self._check_open()
        tosses = tosses if tosses is not None else [NOT_TOSSED] * len(requests)
        verdicts = [self._before(request) for request in requests]
        asked = [number for number, verdict in enumerate(verdicts) if verdict is None]
        for number, verdict in zip(asked, await self._ask_many([requests[number] for number in asked]), strict=True):
            verdicts[number] = verdict
        return [
            self._choice(request, toss, verdict)
            for request, toss, verdict in zip(requests, tosses, verdicts, strict=True)
            if verdict is not None
        ]

    async def reply(self, request: Request, choice: Choice) -> Answer:
        """Return the accepted answer, or the upstream's; raise UpstreamError with its decision where that fails."""
        if choice.answer is not None:
            return choice.answer
        try:
            if self._upstream is None:
                raise UpstreamUnreachable(_no_upstream(choice.decision))
            answer = await self._upstream.answer(for_upstream(request, self._upstream_model))
        except UpstreamError as error:
            error.decision = choice.decision
            raise
        return replace(answer, decision=choice.decision)

    async def answer(self, request: Request) -> Answer:
        """Choose, then reply."""
        return await self.reply(request, await self.decide(request))

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer in order; the escalated ones go up one after the other."""
        return [
            await self.reply(request, choice)
            for request, choice in zip(requests, await self.decide_many(requests), strict=True)
        ]

    async def health(self) -> Health:
        """Ready while the specialist or the upstream is."""
        if self._closed:
            return Health(False, "closed")
        for backend in (self._specialist, self._upstream):
            if backend is not None and (await backend.health()).ready:
                return Health(True)
        return Health(False, self._refused.detail if self._refused else "neither specialist nor upstream is ready")

    async def __aenter__(self) -> Self:
        """Open the specialist."""
        if self._specialist is not None:
            await self._specialist.__aenter__()
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the specialist; leave the upstream."""
        self._closed = True
        if self._specialist is not None:
            await self._specialist.__aexit__(kind, error, trace)

    def _check_open(self) -> None:
        if self._closed:
            raise InsourceError(f"The cascade of {self.info.name} is closed; it was asked to decide. Open a new one.")

    def _before(self, request: Request) -> _Verdict | None:
        """Return the verdict where the specialist need not be asked."""
        if self._task is None:
            return _up(Reason.NO_TASK)
        if self._refused is not None:
            return _up(self._refused.reason, self._refused.detail)
        if self._specialist is None:
            return _up(Reason.NO_SPECIALIST)
        field = unsupported(request.fields)
        if field is not None:
            return _up(Reason.UNSUPPORTED_FIELD, field)
        if text_of(request, self._task.messages) is None:
            return _up(Reason.NO_INPUT)
        return None

    async def _ask(self, request: Request) -> _Verdict:
        assert self._specialist is not None
        try:
            async with asyncio.timeout(self._deadline) as limit:
                answer = await self._specialist.answer(request)
        except TimeoutError as error:
            return _up(Reason.SPECIALIST_SLOW, _late(self._deadline)) if limit.expired() else _failed(error)
        except Exception as error:
            return _failed(error)
        return self._judge(request, answer)

    async def _ask_many(self, requests: Sequence[Request]) -> list[_Verdict]:
        if not requests:
            return []
        assert self._specialist is not None
        try:
            answers = await self._specialist.answer_many(requests)
            return [self._judge(request, answer) for request, answer in zip(requests, answers, strict=True)]
        except Exception:
            return [await self._ask_alone(request) for request in requests]

    async def _ask_alone(self, request: Request) -> _Verdict:
        assert self._specialist is not None
        try:
            return self._judge(request, await self._specialist.answer(request))
        except Exception as error:
            return _failed(error)

    def _judge(self, request: Request, answer: Answer) -> _Verdict:
        score = answer.score
        if score is None or not math.isfinite(score) or answer.content is None:
            return _up(Reason.SPECIALIST_FAILED, "the specialist gave no score or no answer")
        field = unfit(request.fields, answer.content)
        if field is not None:
            return _Verdict(Outcome.ESCALATED, Reason.UNSUPPORTED_FIELD, field, answer)
        if self._threshold is not None and score >= self._threshold:
            return _Verdict(Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD, None, answer)
        if self._pacer is not None and not self._pacer(score):
            return _Verdict(Outcome.ACCEPTED, Reason.BUDGET_SPENT, None, answer)
        reason = Reason.NO_THRESHOLD if self._threshold is None else Reason.BELOW_THRESHOLD
        return _Verdict(Outcome.ESCALATED, reason, None, answer)

    def _choice(self, request: Request, toss: Toss, verdict: _Verdict) -> Choice:
        scored = verdict.scored
        decision = Decision(
            request_id=request.id,
            time=self._clock(),
            outcome=verdict.outcome,
            reason=verdict.reason,
            task=self._task.name if self._task else None,
            version=self._version,
            digest=self._digest,
            score=scored.score if scored else None,
            threshold=self._threshold,
            audited=toss.audited,
            audit_rate=toss.rate,
            detail=verdict.detail,
        )
        return Choice(decision, replace(scored, decision=decision) if scored else None)


def _up(reason: Reason, detail: str | None = None) -> _Verdict:
    return _Verdict(Outcome.ESCALATED, reason, detail)


def _failed(error: Exception) -> _Verdict:
    refusal = refusal_of(error)
    return _up(refusal.reason, refusal.detail)


def _late(deadline: float | None) -> str:
    return f"no answer within {(deadline or 0.0) * 1000:.0f} ms"


def _no_upstream(decision: Decision) -> str:
    return (
        f"The request was escalated ({decision.reason.value}), and no upstream is configured; "
        "name one in [upstreams.NAME] of insource.toml."
    )
