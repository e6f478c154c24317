"""Several upstreams for one purpose: which is asked first, and who steps in on failure, never on unsureness.

It asks only those that policy permits, none that rests, and none again once a reply's body has begun. It knows no
task, no HTTP and no address; the caller gets what the last one asked said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import repeat
from math import ceil
from random import Random
from time import monotonic
from types import TracebackType
from typing import Self

from insource.backends.contract import BackendInfo, Health
from insource.errors import InsourceError, UpstreamError, UpstreamResting
from insource.policy.member import Member, Said, close
from insource.policy.rename import TASK_PREFIX, for_upstream
from insource.policy.retry_budget import RetryBudget
from insource.policy.rules import kept_local
from insource.types import Answer, Request

REPEATED = frozenset({429, 500, 502, 503, 504})
FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0


class Failover:
    """Asks one of its members, drawn by weight, and on failure the same again, then the others, then those of weight 0.

    Failure is no reply, one that does not begin in time, or status 429, 500, 502, 503 or 504. A further attempt takes
    a token of the budget, a member whose breaker admits it, and time before that member's deadline; otherwise the
    caller gets the last failure as it is, its own status and Retry-After included. The same member is asked again
    after a full-jitter wait of at most 0.1 s, doubled each time up to 2 s (Brooker, "Exponential Backoff and Jitter",
    AWS Architecture Blog, 2015). Any member that policy forbids is as good as absent, so one of weight 0 is asked
    first where it alone may be.

    Breakers count what happens before a reply's body: a body that breaks off is its reader's to see. The members stay
    their opener's; leaving the context closes this door only. `now` dates replies for Retry-After.
    """

    def __init__(
        self,
        members: Sequence[Member],
        budget: RetryBudget,
        *,
        random: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._members = list(members)
        self._budget = budget
        self._random = random or Random().random
        self._sleep = sleep
        self._clock = clock
        self._now = now
        self._closed = False

    @property
    def info(self) -> BackendInfo:
        """The members' names."""
        return BackendInfo(", ".join(member.name for member in self._members))

    def permits(self, request: Request) -> bool:
        """Whether the policy lets some member take the request."""
        return any(member.egress.permits(request) for member in self._members)

    async def answer(self, request: Request) -> Answer:
        """Return the reply of the first member that gives one, with its name and the count of attempts.

        Raises KeptLocal where policy permits no member, UpstreamResting where all permitted ones rest, else what the
        last attempt raised.
        """
        if self._closed:
            raise InsourceError(f"The way to {self.info.name} is closed; it was asked to answer. Open a new one.")
        members = self._able(request)
        turns = self._turns(members)
        for member in turns:
            ticket = member.breaker.enter()
            if ticket is not None:
                break
        else:
            raise _resting(members)
        self._budget.earn()
        started = self._clock()
        outcome = await member.ask(request, ticket, self._now, self._left(member, started))
        if _is_failure(outcome):
            return await self._go_on(request, turns, member, outcome, started)
        return _signed(outcome, member, 1)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer one after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """Ready while some member is and does not rest."""
        if self._closed:
            return Health(False, "closed")
        for member in self._members:
            if member.breaker.rests_for <= 0 and (await member.egress.health()).ready:
                return Health(True)
        return Health(False, "every upstream is closed or rests")

    async def __aenter__(self) -> Self:
        """Open this door; the members are opened by whoever owns them."""
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close this door; leave the members."""
        self._closed = True

    def _able(self, request: Request) -> list[Member]:
        """Return the members that policy permits and that know a model to be asked for."""
        permitted = [member for member in self._members if member.egress.permits(request)]
        if not permitted:
            raise kept_local([member.name for member in self._members], request)
        if request.model.startswith(TASK_PREFIX):
            named = [member for member in permitted if member.model is not None]
            if not named:
                for_upstream(request, None)
            return named
        return permitted

    def _turns(self, members: list[Member]) -> Iterator[Member]:
        """Return the members in the order to ask them, each as often as it may be asked."""
        if len(members) == 1:
            return repeat(members[0], 1 + members[0].retries)
        return self._by_weight(members)

    def _by_weight(self, members: list[Member]) -> Iterator[Member]:
        """Draw among those with a weight, as late as it can be, then yield the rest."""
        drawn = [member for member in members if member.weight > 0]
        while drawn:
            member = drawn[0] if len(drawn) == 1 else self._draw(drawn)
            drawn.remove(member)
            yield from repeat(member, 1 + member.retries)
        for member in members:
            if member.weight <= 0:
                yield from repeat(member, 1 + member.retries)

    def _draw(self, members: list[Member]) -> Member:
        point = self._random() * sum(member.weight for member in members)
        for member in members:
            point -= member.weight
            if point < 0:
                return member
        return members[-1]

    async def _go_on(
        self, request: Request, turns: Iterator[Member], asked: Member, outcome: Said, started: float
    ) -> Answer:
        """Make further attempts while they are allowed; a reply is held until another attempt takes its place."""
        attempts, repeats = 1, 0
        try:
            for member in turns:
                repeats = repeats + 1 if member is asked else 0
                wait = self._wait(repeats)
                if not member.breaker.admits() or wait >= self._left(member, started):
                    continue
                if not self._budget.spend():
                    break
                if wait > 0:
                    await self._sleep(wait)
                ticket = member.breaker.enter()
                if ticket is None:
                    self._budget.give_back()
                    continue
                outcome = await member.ask(request, ticket, self._now, self._left(member, started), outcome)
                attempts, asked = attempts + 1, member
                if not _is_failure(outcome):
                    break
        except BaseException:
            await close(outcome)
            raise
        return _signed(outcome, asked, attempts)

    def _wait(self, repeats: int) -> float:
        """Seconds before asking the same member again: anything up to a bound that doubles; none before another."""
        return self._random() * min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (repeats - 1)) if repeats else 0.0

    def _left(self, member: Member, started: float) -> float:
        """Seconds until the member's deadline for this request."""
        return member.deadline - (self._clock() - started) if member.deadline is not None else float("inf")


def _is_failure(outcome: Said) -> bool:
    if isinstance(outcome, UpstreamError):
        return True
    return outcome.relay is not None and outcome.relay.status in REPEATED


def _signed(outcome: Said, member: Member, attempts: int) -> Answer:
    if isinstance(outcome, UpstreamError):
        raise outcome
    attempts += outcome.attempts - 1  # a kept connection that was closed, and the request sent once more
    if attempts == outcome.attempts and outcome.served_by == member.name:
        return outcome
    return replace(outcome, served_by=member.name, attempts=attempts)


def _resting(members: Sequence[Member]) -> UpstreamResting:
    """Return the refusal where nobody may be asked; a trial under way counts as a second."""
    seconds = min(member.breaker.rests_for for member in members) or 1.0
    names = ", ".join(f"'{member.name}'" for member in members)
    error = UpstreamResting(
        f"Every upstream that may take the request rests after failures or at its own wish: {names}; one that takes "
        f"requests was expected. Try again in {ceil(seconds)} s."
    )
    error.retry_after = seconds
    return error
