"""How sensitive one request is: what its task or the policy says, made stricter by its header and by a check.

Doubt means restricted: an unreadable header, a check that fails, is late or says nonsense. It knows no upstream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from insource.config import PolicyConfig
from insource.policy.breaker import Breaker
from insource.types import Request, Sensitivity, Task

HEADER = "x-insource-sensitivity"
Check = Callable[[Request], Awaitable[Sensitivity]]
"""Looks at a request's text and says how sensitive it is; the door for the detection of personal data."""

_BY_VALUE = {sensitivity.value: sensitivity for sensitivity in Sensitivity}


class Judge:
    """Rates requests; nothing that it says is ever less strict than what was said before.

    `check` gets `seconds` of the loop's time; a check that computes must do so in a thread. After five doubts in a row
    the check is left alone for 10 s and all counts as restricted meanwhile, so that a dead one delays nobody
    (`breaker` sets other figures). `on_doubt` is told the type of each error and not a word more.
    """

    def __init__(
        self,
        policy: PolicyConfig,
        check: Check | None = None,
        seconds: float = 1.0,
        *,
        on_doubt: Callable[[str], None] = lambda kind: None,
        breaker: Breaker | None = None,
    ) -> None:
        self._otherwise = policy.sensitivity
        self._check = check
        self._seconds = seconds
        self._on_doubt = on_doubt
        self._breaker = breaker if breaker is not None else Breaker()
        self._late: set[asyncio.Future[Sensitivity | str]] = set()

    @property
    def checks(self) -> bool:
        """Whether there is a check, so that callers without one need not wait."""
        return self._check is not None

    def rate(self, request: Request, task: Task | None) -> Sensitivity:
        """Return the strictest of what the task (else the policy) and the request's header say."""
        rated = task.sensitivity if task is not None and task.sensitivity is not None else self._otherwise
        told = request.headers.get(HEADER)
        if told is None:
            return rated
        return _stricter(rated, _BY_VALUE.get(told.strip().lower(), Sensitivity.RESTRICTED))

    async def check(self, request: Request, rated: Sensitivity) -> Sensitivity:
        """Return the strictest of `rated` and what the check says; restricted where it says nothing usable."""
        if self._check is None or rated is Sensitivity.RESTRICTED:
            return rated
        ticket = self._breaker.enter()
        if ticket is None:
            return self._doubt("resting")
        job = asyncio.ensure_future(_found(self._check, request))
        try:
            await asyncio.wait((job,), timeout=self._seconds)
        except asyncio.CancelledError:
            self._breaker.abandoned(ticket)
            raise
        finally:
            if not job.done():  # a check that does not heed it holds up nobody but itself
                job.cancel()
                self._late.add(job)
                job.add_done_callback(self._late.discard)
        found = job.result() if job.done() else "TimeoutError"
        if not isinstance(found, Sensitivity):
            self._breaker.failed(ticket)
            return self._doubt(found)
        self._breaker.succeeded(ticket)
        return _stricter(rated, found)

    def _doubt(self, kind: str) -> Sensitivity:
        with suppress(Exception):
            self._on_doubt(kind)
        return Sensitivity.RESTRICTED


def _stricter(one: Sensitivity, other: Sensitivity) -> Sensitivity:
    return one if one.rank >= other.rank else other


async def _found(check: Check, request: Request) -> Sensitivity | str:
    """Return what a check says, or what kind of doubt it leaves; whatever it raises ends here."""
    try:
        found = await check(request)
    except BaseException as error:  # sys.exit in a library is a doubt, too, and no end of the gateway
        return type(error).__name__
    return found if type(found) is Sensitivity else "wrong type"
