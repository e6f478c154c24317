"""The audit sample: a coin tossed on every request before anything is decided picks those that get the reference too;
labels are bought for a few more.

It wraps a cascade, adds nothing to the reply and delays none; what it learns goes through `record`. It knows neither
the ledger nor what its audits will be used for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from insource.backends.contract import Backend, BackendInfo, Health
from insource.backends.reply import Reply, ReplyReader, read_reply, read_whole
from insource.cascade.bought_label import BoughtLabels
from insource.cascade.cascade import Clock, Permits, utc_now
from insource.cascade.choice import NOT_TOSSED, Choice, Chooser, Toss
from insource.cascade.coin import Coin
from insource.cascade.jobs import Jobs
from insource.errors import InsourceError, KeptLocal
from insource.types import Answer, Audit, Decision, Outcome, Reason, Relay, Request, Stage, Usage

LOG = logging.getLogger(__name__)
Normalise = Callable[[str], str | None]
"""Maps a raw reply to the label of the task's closed set, or None; `AnswerSpace.normalise`."""

_ACCEPTS = frozenset({Reason.ABOVE_THRESHOLD, Reason.SUSPENDED})
_SPOKEN_TO = frozenset({
    Reason.NO_SPECIALIST, Reason.SPECIALIST_FAILED, Reason.SPECIALIST_SLOW, Reason.ARTIFACT_DAMAGED
})  # fmt: skip
"""Why a version that could have answered said nothing: which is evidence, too, unlike a request that none can read."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an audit needs to know of the version that decided: how it reads references, and its stage."""

    normalise: Normalise
    stage: Stage | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An audit, its request, the reference as it came, and the tokens the upstream spent on it beyond the reply.

    `audit` is None where no version was there to answer and only the reference is known. `usage` is None for an
    escalated request, whose tokens are those of its reply, and where the upstream named none; `served_by` names the
    upstream that gave the reference beyond the reply. `decided` is the specialist's version that decided, None where a
    tier in the house or nobody did; `beside` says that the audit is of a version which did not decide. `bought` says of
    a request that was picked for a label whether one was taken of the budget: picked for its score it teaches, and is
    no evidence, so that it has no audit.
    """

    audit: Audit | None
    request: Request
    reference: str | None = None
    usage: Usage | None = None
    served_by: str | None = None
    decided: int | None = None
    beside: bool = False
    bought: bool | None = None


Record = Callable[[Finding], Awaitable[None]]
"""Takes what an audit found; it is called in the background."""


class AuditSample:
    """A chooser around a chooser: tosses the coin, and compares what the tier asked last said with the reference.

    An accepted request that the coin picked goes to `reference` as well, after the reply and in the background, at
    most `concurrency` at a time and `backlog` in all; beyond that, and where `permits` does not let the request leave,
    the audit is recorded without a reference. An escalated one has its reference in the upstream's reply, which is
    read as it passes. A version that failed is recorded without a comparison; a request that no version can read is no
    evidence. An audit belongs to the version of its decision: `known` has each by its tier's name (None: a specialist)
    and number. `safe` is the answer that a moderation which flags nothing stands for. Leaving the context waits for
    the background. For an accepted request that `labels` picks the reference is asked for in the same way.
    """

    def __init__(
        self,
        inner: Chooser,
        *,
        reference: Backend | None,
        permits: Permits,
        known: Mapping[tuple[str | None, int], Known],
        record: Record,
        coin: Coin,
        rate: float,
        safe: str | None = None,
        labels: BoughtLabels | None = None,
        concurrency: int = 8,
        backlog: int = 256,
        clock: Clock = utc_now,
    ) -> None:
        self._inner = inner
        self._reference = reference
        self._permits = permits
        self._known = known
        self._record = record
        self._coin = coin
        self._rate = rate
        self._safe = safe
        self._labels = labels
        self._slots = asyncio.Semaphore(concurrency)
        self._backlog = backlog
        self._clock = clock
        self._jobs = Jobs()

    @property
    def info(self) -> BackendInfo:
        """The wrapped chooser's."""
        return self._inner.info

    def toss(self, request: Request) -> Toss:
        """Toss the coin for a request; the same request id falls the same way again."""
        return Toss(self._coin(request.id) < self._rate, self._rate)

    async def decide(self, request: Request, toss: Toss = NOT_TOSSED) -> Choice:
        """Toss, then choose; a toss handed in is ignored, as this is where tossing is done."""
        return self._picked(request, await self._inner.decide(request, self.toss(request)))

    async def decide_many(self, requests: Sequence[Request], tosses: Sequence[Toss] | None = None) -> list[Choice]:
        """Toss for each, then choose for each."""
        choices = await self._inner.decide_many(requests, [self.toss(request) for request in requests])
        return [self._picked(request, choice) for request, choice in zip(requests, choices, strict=True)]

    async def reply(self, request: Request, choice: Choice) -> Answer:
        """Reply as the wrapped chooser does, and see to it that an audited request gets its reference."""
        audited = choice.decision.audited and (choice.scored is not None or choice.decision.reason in _SPOKEN_TO)
        try:
            answer = await self._inner.reply(request, choice)
        except InsourceError as error:
            if audited:
                self._jobs.spawn(self._note(request, choice, None, f"no reference: {error.code}"))
            raise
        if choice.picked and self._labels is not None and self._reference is not None:
            self._jobs.spawn(self._buy(self._labels, self._reference, request))
        if not audited:
            return answer
        if choice.decision.outcome is Outcome.ACCEPTED:
            self._ask_reference(request, choice)
        elif answer.relay is not None:
            return replace(answer, relay=self._watched(answer.relay, request, choice))
        else:
            self._jobs.spawn(self._note(request, choice, answer.content, None))
        return answer

    async def answer(self, request: Request) -> Answer:
        """Choose, then reply."""
        return await self.reply(request, await self.decide(request))

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer in order."""
        choices = await self.decide_many(requests)
        return [await self.reply(request, choice) for request, choice in zip(requests, choices, strict=True)]

    async def health(self) -> Health:
        """The wrapped chooser's."""
        return await self._inner.health()

    async def __aenter__(self) -> Self:
        """Open the wrapped chooser."""
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the audits under way, then close the wrapped chooser."""
        await self.drain()
        await self._inner.__aexit__(kind, error, trace)

    async def drain(self) -> None:
        """Wait until no audit is under way; cancelling the wait cancels the audits."""
        await self._jobs.idle()

    def _ask_reference(self, request: Request, choice: Choice) -> None:
        if self._reference is None:
            self._jobs.spawn(self._note(request, choice, None, "no upstream is configured"))
        elif not self._permits(request):
            self._jobs.spawn(self._note(request, choice, None, f"no reference: {KeptLocal.code}"))
        elif len(self._jobs) >= self._backlog:
            self._jobs.spawn(self._note(request, choice, None, f"{self._backlog} audits were waiting already"))
        else:
            self._jobs.spawn(self._compare(self._reference, request, choice))

    def _picked(self, request: Request, choice: Choice) -> Choice:
        """Return the choice, marked where a label is to be bought for it; what may not leave is never picked."""
        if self._labels is None or choice.decision.outcome is not Outcome.ACCEPTED:
            return choice
        room = len(self._jobs) < self._backlog // 2  # the other half is for audits alone
        picked = room and self._permits(request) and self._labels.picks(choice)
        return replace(choice, picked=True) if picked else choice

    async def _buy(self, labels: BoughtLabels, reference: Backend, request: Request) -> None:
        finding = Finding(None, request, bought=False)
        if await labels.reserve(self._clock()):
            finding = replace(finding, bought=True)
            try:
                async with self._slots:
                    reply, served_by = await self._ask(reference, request)
                    content = reply.content if reply.status == 200 else None
                    finding = replace(finding, reference=content, usage=reply.usage, served_by=served_by)
            except Exception as error:  # whatever the upstream does; the label stays counted
                LOG.warning("a label brought no reference (%s)", getattr(error, "code", type(error).__name__))
        await self._record(finding)

    async def _ask(self, reference: Backend, request: Request) -> tuple[Reply, str]:
        answer = await reference.answer(request)
        return await read_reply(answer, dialect=request.dialect, safe=self._safe), answer.served_by

    async def _compare(self, reference: Backend, request: Request, choice: Choice) -> None:
        async with self._slots:
            try:
                reply, served_by = await self._ask(reference, request)
            except InsourceError as error:
                return await self._note(request, choice, None, f"no reference: {error.code}")
            except Exception as error:
                return await self._note(request, choice, None, f"no reference: {type(error).__name__}")
        await self._note_reply(request, choice, reply, reply.usage, served_by)

    async def _note_reply(
        self, request: Request, choice: Choice, reply: Reply, usage: Usage | None, served_by: str | None = None
    ) -> None:
        content, detail = reply.content, None if reply.content is not None else reply.detail
        if reply.status != 200:
            content, detail = None, f"the upstream answered {reply.status}"
        await self._note(request, choice, content, detail, usage, served_by)

    async def _note(
        self,
        request: Request,
        choice: Choice,
        content: str | None,
        detail: str | None,
        usage: Usage | None = None,
        served_by: str | None = None,
    ) -> None:
        decision, scored = choice.decision, choice.scored
        audit = None
        if decision.decider is not None and decision.version is not None:
            known = self._known[decision.tier, decision.version]
            agrees, told = None, detail
            if scored is None:
                told = (
                    decision.reason.value if decision.detail is None else f"{decision.reason.value}: {decision.detail}"
                )
            elif content is not None:
                agrees = known.normalise(content) == scored.label
            audit = Audit(
                decision.request_id,
                self._clock(),
                decision.decider,
                decision.version,
                decision.outcome is Outcome.ACCEPTED and decision.reason is Reason.ABOVE_THRESHOLD,
                agrees,
                told,
                decision.reason in _ACCEPTS,
                known.stage,
                decision.score,
                sum(scored.seconds.values()) if scored is not None and scored.seconds else None,
            )
        await self._record(Finding(audit, request, content, usage, served_by, _decided(decision)))

    def _watched(self, relay: Relay, request: Request, choice: Choice) -> Relay:
        """Return the same relay, read on the side; the audit is recorded once it has passed or was given up."""
        dialect, safe = request.dialect, self._safe
        if relay.whole is not None:
            reply = read_whole(relay.status, relay.headers, relay.whole, dialect, safe=safe)
            self._jobs.spawn(self._note_reply(request, choice, reply, None))
            return relay
        reader = ReplyReader(relay.status, relay.headers, dialect=dialect, safe=safe)

        async def chunks() -> AsyncGenerator[bytes, None]:
            try:
                async for chunk in relay.chunks:
                    reader.feed(chunk)
                    yield chunk
            finally:
                self._jobs.spawn(self._note_reply(request, choice, reader.finish(), None))

        watched = chunks()

        async def close() -> None:
            await watched.aclose()
            await relay.close()

        return replace(relay, chunks=watched, close=close)


def _decided(decision: Decision) -> int | None:
    return decision.version if decision.tier is None else None
