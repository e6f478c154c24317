"""The shadow: versions that did not decide a request answer it too, aside, once its reference is known.

What they say reaches `record` and nobody else. It asks loaded specialists only: no upstream, no tool, nothing that
writes; it knows no ledger and no gate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from time import perf_counter
from types import TracebackType
from typing import Self

from insource.backends.contract import Backend, BackendInfo, Health
from insource.cascade.aside import Aside
from insource.cascade.audit_sample import Finding, Normalise, Record
from insource.cascade.cascade import Clock, utc_now
from insource.cascade.choice import NOT_TOSSED, Choice, Chooser, Toss
from insource.cascade.honour import unsupported
from insource.cascade.jobs import Jobs
from insource.cascade.tier import Tier, Verdict, ask
from insource.inputs import text_of
from insource.types import Answer, Audit, Outcome, Reason, Request, Stage, Task

BACKLOG = 64
GRACE_SECONDS = 1.0
"""How much longer than a version's deadline the thread may be held before its job counts as hung."""

Dropped = Callable[[int], None]
"""Hears how many answers were not asked for, as too many waited or the thread hung."""


@dataclass(frozen=True, slots=True)
class Beside:
    """An open version: the tier that asks it, how it reads references, its number and its stage."""

    tier: Tier
    normalise: Normalise
    version: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class _Waiting:
    finding: Finding
    beside: Beside


Said = tuple[Verdict, float]


class Shadow:
    """A chooser that adds nothing to another one; `take` belongs in the place of an audit sample's `record`.

    Of each finding whose reference is known the open versions that did not decide it are asked on a thread of its own,
    one after the other: at most `backlog` wait, beyond that they are dropped. A version that does not come back holds
    that thread; then nothing is asked until it does. Entering opens `opens`, leaving waits for what is under way.
    """

    def __init__(
        self,
        inner: Chooser,
        versions: Sequence[Beside],
        *,
        task: Task,
        record: Record,
        opens: Sequence[Backend] = (),
        dropped: Dropped = lambda number: None,
        backlog: int = BACKLOG,
        grace: float = GRACE_SECONDS,
        clock: Clock = utc_now,
    ) -> None:
        self._inner = inner
        self._versions = tuple(versions)
        self._task = task
        self._record = record
        self._opens = tuple(opens)
        self._dropped = dropped
        self._backlog = backlog
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._aside: Aside[Said] = Aside(f"shadow:{task.name}", task.deadline_ms / 1000 + grace)
        self._jobs = Jobs()
        self._opened = AsyncExitStack()

    @property
    def info(self) -> BackendInfo:
        """The wrapped chooser's."""
        return self._inner.info

    async def take(self, finding: Finding) -> None:
        """Record a finding, and have the versions that did not decide its request answer it as well.

        Not where a label was bought: picked for its score, the request is evidence about no version.
        """
        if finding.audit is not None or finding.bought is not None:
            await self._record(finding)
        if finding.bought is not None or finding.reference is None or not self._readable(finding.request):
            return
        for beside in self._versions:
            if beside.version != finding.decided:
                self._offer(_Waiting(finding, beside))

    async def decide(self, request: Request, toss: Toss = NOT_TOSSED) -> Choice:
        """Choose as the wrapped chooser does."""
        return await self._inner.decide(request, toss)

    async def decide_many(self, requests: Sequence[Request], tosses: Sequence[Toss] | None = None) -> list[Choice]:
        """Choose as the wrapped chooser does."""
        return await self._inner.decide_many(requests, tosses)

    async def reply(self, request: Request, choice: Choice) -> Answer:
        """Reply as the wrapped chooser does."""
        return await self._inner.reply(request, choice)

    async def answer(self, request: Request) -> Answer:
        """Answer as the wrapped chooser does."""
        return await self._inner.answer(request)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer as the wrapped chooser does."""
        return await self._inner.answer_many(requests)

    async def health(self) -> Health:
        """The wrapped chooser's."""
        return await self._inner.health()

    async def __aenter__(self) -> Self:
        """Open the wrapped chooser and the versions that nobody else opens."""
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self._inner)
            for backend in self._opens:
                await opened.enter_async_context(backend)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is under way, then close."""
        try:
            await self.drain()
        finally:
            self._waiting.clear()
            self._aside.close()
            await self._opened.__aexit__(kind, error, trace)

    async def drain(self) -> None:
        """Wait until nothing waits or is under way, but for what hangs."""
        await self._jobs.idle()

    def _readable(self, request: Request) -> bool:
        """Whether a specialist could answer the request; one that none could is no evidence about any."""
        fits = unsupported(request.fields, request.dialect) is None
        return fits and text_of(request, self._task.messages) is not None

    def _offer(self, waiting: _Waiting) -> None:
        if self._aside.stuck or len(self._waiting) >= self._backlog:
            self._dropped(1)
            return
        self._waiting.append(waiting)
        self._next()

    def _next(self) -> None:
        """Begin with the first that waits, if the thread is free."""
        if not self._waiting or not self._aside.free:
            return
        waiting = self._waiting.popleft()
        finding, beside = waiting.finding, waiting.beside
        end = self._jobs.begin()

        async def work() -> Said:
            started = perf_counter()
            verdict = await ask(beside.tier, finding.request)
            return verdict, perf_counter() - started

        def done(said: Said | None) -> None:
            self._jobs.spawn(self._record(self._found(waiting, said)))
            if said is None:
                self._dropped(len(self._waiting))
                self._waiting.clear()
            else:
                self._next()
            end()

        self._aside.run(work, done)

    def _found(self, waiting: _Waiting, said: Said | None) -> Finding:
        finding, beside = waiting.finding, waiting.beside
        verdict, seconds = said if said is not None else (_HUNG, None)
        scored, agrees, detail = verdict.scored, None, None
        if scored is None:
            detail = verdict.reason.value if verdict.detail is None else f"{verdict.reason.value}: {verdict.detail}"
        elif finding.reference is not None:
            agrees = beside.normalise(finding.reference) == scored.label
            seconds = sum(scored.seconds.values()) if scored.seconds else seconds
        audit = Audit(
            finding.request.id,
            self._clock(),
            self._task.name,
            beside.version,
            False,
            agrees,
            detail,
            verdict.outcome is Outcome.ACCEPTED,
            beside.stage,
            scored.score if scored is not None else None,
            seconds,
        )
        return replace(finding, audit=audit, reference=None, usage=None, served_by=None, beside=True)


_HUNG = Verdict(Outcome.ESCALATED, Reason.SPECIALIST_SLOW, "it has not come back")
