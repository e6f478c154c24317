"""Specialist first, tiers in the house next, upstream if unsure: the cascade of one task (or of none).

It knows no HTTP, no database and no mathematics of thresholds: it compares scores with numbers, and asks the policy
one question, whether a request may leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from insource.backends.contract import Backend, BackendInfo, Health
from insource.cascade.choice import NOT_TOSSED, Choice, Toss
from insource.cascade.honour import told, unsupported
from insource.cascade.tier import Tier, Verdict, ask, ask_many, up
from insource.errors import AwaitingReview, InsourceError, KeptLocal, UpstreamError, UpstreamUnreachable
from insource.inputs import text_of
from insource.types import Answer, Decision, Outcome, Reason, Request, Task, WhenKept

Clock = Callable[[], datetime]
Pacer = Callable[[float], bool]
Permits = Callable[[Request], bool]
"""Says whether a request may leave, by its sensitivity; without any upstream, whether one might have taken it."""

REVIEW = "review: "
"""What the detail of a decision begins with where the request waits for a person."""


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


class Cascade:
    """Answers one task's requests: the first tier at or above its threshold, else the upstream.

    A tier is asked only where the one before it was asked and is unsure; each is certified on what the ones before it
    escalate, so where one fails its requests go straight up. A request that nothing here accepts and that
    `permits` lets go nowhere is kept, as the task says (`when_kept`); its best answer, where that is asked for, is
    accepted with reason `kept_local` and lies outside the promise. So does one kept by `pacer`, for a budget instead
    of a target: given an unsure request's score it says whether to escalate. With `task` None all goes up. While
    `suspended` nothing is accepted, not even a best answer, but tiers are asked, so that what they would say is known.
    Entering opens the tiers' backends; the upstream is shared and belongs to whoever opened it.
    """

    def __init__(
        self,
        task: Task | None,
        *,
        tiers: Sequence[Tier] = (),
        upstream: Backend | None,
        permits: Permits,
        pacer: Pacer | None = None,
        suspended: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        self._task = task
        self._tiers = tuple(tiers)
        self._upstream = upstream
        self._permits = permits
        self._pacer = pacer
        self._suspended = suspended
        self._clock = clock
        self._closed = False

    @property
    def info(self) -> BackendInfo:
        """The task's name and the first tier's digest."""
        digest = self._tiers[0].digest if self._tiers else None
        return BackendInfo(f"task:{self._task.name}" if self._task else "upstream", digest)

    async def decide(self, request: Request, toss: Toss = NOT_TOSSED) -> Choice:
        """Choose between a tier's answer, the upstream and keeping; send no upstream anything, raise no tier's failure.

        Raises InsourceError once the cascade is closed.
        """
        self._check_open()
        verdict = self._before(request)
        if verdict is None:
            verdict = await ask(self._tiers[0], request)
            for tier in self._tiers[1:]:
                if not verdict.unsure:
                    break
                verdict = replace(await ask(tier, request), earlier=verdict)
        return self._choice(request, toss, verdict)

    async def decide_many(self, requests: Sequence[Request], tosses: Sequence[Toss] | None = None) -> list[Choice]:
        """Choose for each request with the tiers' batches; the same choices as `decide`, but for the deadlines.

        No deadline is kept: this is for offline replay. Where a batch fails, each request is asked by itself.
        """
        self._check_open()
        tosses = tosses if tosses is not None else [NOT_TOSSED] * len(requests)
        verdicts = [self._before(request) for request in requests]
        asked = [number for number, verdict in enumerate(verdicts) if verdict is None]
        for tier in self._tiers:
            found = await ask_many(tier, [requests[number] for number in asked])
            for number, verdict in zip(asked, found, strict=True):
                earlier = verdicts[number]
                verdicts[number] = verdict if earlier is None else replace(verdict, earlier=earlier)
            asked = [number for number, verdict in zip(asked, found, strict=True) if verdict.unsure]
        return [
            self._choice(request, toss, verdict)
            for request, toss, verdict in zip(requests, tosses, verdicts, strict=True)
            if verdict is not None
        ]

    async def reply(self, request: Request, choice: Choice) -> Answer:
        """Return the accepted answer, or the upstream's.

        Raises KeptLocal or AwaitingReview for a request that was kept, UpstreamError where the upstream fails; each
        with its decision. The upstream's own policy has the last word: its KeptLocal is passed on in the same way.
        """
        decision = choice.decision
        if choice.answer is not None:
            return choice.answer
        try:
            if decision.outcome is Outcome.KEPT:
                raise _kept_error(decision)
            if self._upstream is None:
                raise UpstreamUnreachable(_no_upstream(decision))
            answer = await self._upstream.answer(request)
        except (UpstreamError, KeptLocal) as error:
            error.decision = decision
            raise
        return Answer(  # replace() would take twice as long
            answer.served_by,
            answer.content,
            answer.label,
            answer.score,
            answer.usage,
            answer.seconds,
            decision,
            answer.relay,
            answer.probabilities,
            answer.attempts,
        )

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
        """Ready while a tier or the upstream is."""
        if self._closed:
            return Health(False, "closed")
        for backend in (*self._backends(), self._upstream):
            if backend is not None and (await backend.health()).ready:
                return Health(True)
        refused = next((tier.refused for tier in self._tiers if tier.refused is not None), None)
        return Health(False, refused.detail if refused else "neither specialist nor upstream is ready")

    async def __aenter__(self) -> Self:
        """Open the tiers."""
        for backend in self._backends():
            await backend.__aenter__()
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the tiers; leave the upstream."""
        self._closed = True
        for backend in reversed(self._backends()):
            await backend.__aexit__(kind, error, trace)

    def _backends(self) -> list[Backend]:
        return [tier.backend for tier in self._tiers if tier.backend is not None]

    def _check_open(self) -> None:
        if self._closed:
            raise InsourceError(f"The cascade of {self.info.name} is closed; it was asked to decide. Open a new one.")

    def _before(self, request: Request) -> Verdict | None:
        """Return the verdict where no tier need be asked."""
        if self._task is None:
            return up(Reason.NO_TASK)
        if not self._tiers:
            return up(Reason.NO_SPECIALIST)
        first = self._tiers[0]
        if first.refused is not None:
            return up(first.refused.reason, first.refused.detail, first)
        field = unsupported(request.fields, request.dialect)
        if field is not None:
            return up(Reason.UNSUPPORTED_FIELD, told(field), first)
        if text_of(request, self._task.messages) is None:
            return up(Reason.NO_INPUT, None, first)
        return None

    def _choice(self, request: Request, toss: Toss, verdict: Verdict) -> Choice:
        if self._suspended and verdict.outcome is Outcome.ACCEPTED:
            verdict = replace(verdict, outcome=Outcome.ESCALATED, reason=Reason.SUSPENDED)
        if verdict.outcome is Outcome.ESCALATED:
            verdict = self._paced(verdict)
            if verdict.outcome is Outcome.ESCALATED and not self._permits(request):
                verdict, toss = self._kept(verdict), NOT_TOSSED  # nobody may give a kept request a reference
        scored, tier = verdict.scored, verdict.tier
        decision = Decision(
            request.id,
            self._clock(),
            verdict.outcome,
            verdict.reason,
            self._task.name if self._task else None,
            tier.version if tier else None,
            tier.digest if tier else None,
            scored.score if scored else None,
            tier.threshold if tier else None,
            toss.audited,
            toss.rate,
            verdict.detail,
            tier.name if tier else None,
            request.sensitivity,
            tier.numbered(scored) if tier else None,
            request.key.id if request.key is not None else None,
        )
        return Choice(decision, replace(scored, decision=decision) if scored else None)

    def _paced(self, verdict: Verdict) -> Verdict:
        score = verdict.scored.score if verdict.unsure and verdict.scored is not None else None
        if self._pacer is None or self._suspended or score is None or self._pacer(score):
            return verdict
        return replace(verdict, outcome=Outcome.ACCEPTED, reason=Reason.BUDGET_SPENT)

    def _kept(self, verdict: Verdict) -> Verdict:
        """Return what becomes of an escalated request that may not leave."""
        why = verdict.reason.value if verdict.detail is None else f"{verdict.reason.value}: {verdict.detail}"
        wanted, best = self._task.when_kept if self._task else WhenKept.REFUSE, verdict.best
        if wanted is WhenKept.BEST and best is not None and not self._suspended:
            return Verdict(Outcome.ACCEPTED, Reason.KEPT_LOCAL, why, best.scored, best.tier)
        detail, said = REVIEW + why if wanted is WhenKept.REVIEW else why, best or verdict
        return Verdict(Outcome.KEPT, Reason.KEPT_LOCAL, detail, said.scored, said.tier)


def _kept_error(decision: Decision) -> KeptLocal:
    rated = decision.sensitivity.value if decision.sensitivity else "restricted, as nobody rated it"
    what = f"The request was not answered here, and as its sensitivity is {rated}, it may go to no upstream; "
    if (decision.detail or "").startswith(REVIEW):
        return AwaitingReview(what + "it waits for a person.")
    return KeptLocal(what + "an upstream that the policy allows for it was expected.")


def _no_upstream(decision: Decision) -> str:
    return (
        f"The request was escalated ({decision.reason.value}), and no upstream is configured; "
        "name one in [upstreams.NAME] of insource.toml."
    )
