"""The shipped double: a backend that answers from recorded references, with chosen latency, score and faults.

The same double as an HTTP server is in `scripted_app`. Nothing here is a model, and whatever shows its figures says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Self

from insource.backends.contract import BackendInfo, Health
from insource.backends.references import References, estimated_usage
from insource.backends.scripted_app import Invoice, Price, scripted_app
from insource.errors import UpstreamError, UpstreamUnreachable
from insource.types import Answer, Example, Request

__all__ = ["Invoice", "Price", "Scripted", "scripted_app"]


class Scripted:
    """A backend that plays back references; deterministic for its seed, in whatever order requests come.

    `score` makes it stand in for a specialist: a number for all, or a function of the answer given. `latency` is in
    seconds, `fault_rate` the share of request ids that end in UpstreamUnreachable. An unrecorded request raises
    UpstreamError.
    """

    def __init__(
        self,
        references: Mapping[str, str] | Iterable[Example] | References,
        *,
        score: float | Callable[[Request, str], float | None] | None = None,
        latency: float = 0.0,
        fault_rate: float = 0.0,
        seed: int = 0,
        name: str = "scripted",
    ) -> None:
        self._references = references if isinstance(references, References) else References(references)
        self._score = score
        self._latency = latency
        self._fault_rate = fault_rate
        self._seed = seed
        self._name = name
        self._open = False
        self.asked = 0

    @property
    def info(self) -> BackendInfo:
        """Its name; it has no artifact."""
        return BackendInfo(self._name)

    async def answer(self, request: Request) -> Answer:
        """Return the recorded answer; raise UpstreamError where none is, UpstreamUnreachable for a scripted fault."""
        if not self._open:
            raise UpstreamError(f"The backend '{self._name}' is closed; it was asked to answer. Open it first.")
        self.asked += 1
        if self._latency:
            await asyncio.sleep(self._latency)
        if self._fault_rate and Random(f"{self._seed}:{request.id}").random() < self._fault_rate:
            raise UpstreamUnreachable(
                f"The backend '{self._name}' broke off by script (fault_rate {self._fault_rate})."
            )
        content = self._references.find(request)
        if content is None:
            raise UpstreamError(
                f"The backend '{self._name}' has no reference for this request; it knows {len(self._references)} "
                "texts. Send one of those, or record this one."
            )
        score = self._score(request, content) if callable(self._score) else self._score
        usage = estimated_usage(request.messages, content)
        return Answer(self._name, content, label=content, score=score, usage=usage)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer one after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """Ready while open."""
        return Health(self._open, "" if self._open else "closed")

    async def __aenter__(self) -> Self:
        """Open."""
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self._open = False
