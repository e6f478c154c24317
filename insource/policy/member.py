"""One upstream among those to choose from, and one attempt at it, of which its breaker is told.

It knows neither the other members nor whether another attempt is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from insource.backends.contract import Backend
from insource.errors import UpstreamError, UpstreamTimeout
from insource.policy.breaker import Breaker
from insource.policy.rename import for_upstream
from insource.policy.retry_after import retry_after
from insource.types import Answer, Relay, Request

Said = Answer | UpstreamError
"""What an attempt came to; an upstream that gave no reply is a value here."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is told of asking an upstream: how often the request went out, how many of these were repeats, what failed.

    `failure` is an error's code or a status; None where it did not fail.
    """

    upstream: str
    sent: int
    repeats: int
    failure: str | None = None


Watch = Callable[[Attempt], None]


def _nobody(attempt: Attempt) -> None:
    return None


class Guarded(Backend, Protocol):
    """An upstream behind its rules."""

    def permits(self, request: Request) -> bool:
        """Whether the policy lets the request go there."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One upstream to choose from: weight 0 steps in only on failure; `model` is what it is asked for by task:NAME.

    `retries` is how often it may be asked again; `deadline` the seconds from a request's start in which its reply must
    begin, over all attempts. `watch` is told of every attempt.
    """

    name: str
    egress: Guarded
    breaker: Breaker
    weight: float = 1.0
    retries: int = 0
    deadline: float | None = None
    model: str | None = None
    watch: Watch = _nobody

    async def ask(
        self, request: Request, ticket: int, now: Callable[[], datetime], seconds: float, before: Said | None = None
    ) -> Said:
        """Ask once with a ticket of the breaker; `seconds` are left, which counts only where there is a deadline.

        An attempt that was cancelled, or that raised what is not the upstream's, is neither success nor failure.
        `before` is the failure whose place this attempt takes: its reply is closed.
        """
        try:
            if before is not None:
                await close(before)
            request = for_upstream(request, self.model)
            if self.deadline is None:
                answer = await self.egress.answer(request)
            else:
                answer = await self._in_time(request, ticket, seconds)
        except UpstreamError as error:
            self.breaker.failed(ticket)
            self.watch(Attempt(self.name, 1, int(before is not None), error.code))
            return error
        except asyncio.CancelledError:
            self.breaker.abandoned(ticket)
            self.watch(Attempt(self.name, 1, int(before is not None)))
            raise
        except BaseException:
            self.breaker.abandoned(ticket)
            raise
        status = answer.relay.status if answer.relay is not None else 200
        well = _is_well(status)
        if well:
            self.breaker.succeeded(ticket)
        else:
            self.breaker.failed(ticket, _pause(answer.relay, now))
        resent = answer.attempts - 1
        self.watch(Attempt(self.name, 1 + resent, resent + (before is not None), None if well else str(status)))
        return answer

    async def _in_time(self, request: Request, ticket: int, seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self.egress.answer(request)
        except asyncio.CancelledError:
            if limit.expired():  # whoever waits gave up at the same moment; it was too slow all the same
                self.breaker.failed(ticket)
            raise
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise UpstreamTimeout(
                f"The upstream '{self.name}' had begun no reply when the request's {self.deadline:g} s were over. "
                "Check it, or raise deadline_s if it needs longer."
            ) from error


async def close(said: Said) -> None:
    """Close the relay of a reply that nobody will read."""
    if isinstance(said, Answer) and said.relay is not None:
        await said.relay.close()


def _is_well(status: int) -> bool:
    """Whether a reply comes from a healthy upstream; what it cannot do (501, 505) or refuses is the request's fault."""
    return (status < 500 and status not in (408, 429)) or status in (501, 505)


def _pause(relay: Relay | None, now: Callable[[], datetime]) -> float | None:
    """Return the seconds for which a reply asks to be left alone."""
    return retry_after(relay.headers, now()) if relay is not None and relay.status in (429, 503) else None
