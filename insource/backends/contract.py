"""The one contract: whatever answers a request is a Backend.

A specialist, the upstream, the scripted fake, the cascade and every wrapper have this shape. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from insource.types import Answer, Request


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """Who answers: a name, the artifact's digest where there is one, and the limits kept.

    `inline` says that an answer is computed on the event loop without ever waiting, so that no deadline can cut it.
    """

    name: str
    digest: str | None = None
    max_batch: int = 1
    max_characters: int | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a backend can answer now, and if not, why."""

    ready: bool
    detail: str = ""


@runtime_checkable
class Backend(Protocol):
    """An async context manager that answers requests; closed by leaving the context."""

    @property
    def info(self) -> BackendInfo:
        """Name, digest and limits."""
        ...

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raise an InsourceError where that is not possible."""
        ...

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests in their order; the same answers as one at a time."""
        ...

    async def health(self) -> Health:
        """Say whether it can answer now."""
        ...

    async def __aenter__(self) -> Self:
        """Open what it needs."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        ...
