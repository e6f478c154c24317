"""Opened versions, each loaded once and shared by every stack that serves it; closed after the last one.

It knows versions and backends; which of them serve, and why, stands in `serving`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence, Set
from types import TracebackType
from typing import Any, Protocol, Self

from insource.backends.contract import Backend, BackendInfo, Health
from insource.cascade.builder import Active
from insource.cascade.refusal import Refusal, refusal_of
from insource.types import Answer, Request, SpecialistVersion

Identity = tuple[str, int, str]
"""A version's task, number and digest."""


class Answers(Protocol):
    """A task's closed set of answers."""

    def normalise(self, raw: str) -> str | None:
        """Map a raw reply to its label, or None."""
        ...

    def find(self, text: str) -> str | None:
        """Map what a person writes to its label, or None."""
        ...

    def index(self, label: str) -> int:
        """Return a label's number."""
        ...


class Specialist(Backend, Protocol):
    """A backend with a closed set of answers."""

    @property
    def answers(self) -> Answers:
        """The set."""
        ...


class OpenSpecialist(Protocol):
    """Verifies and opens a version's artifact; called in a thread. Raises ArtifactDamaged for other bytes.

    `upstream` is the upstream in the house that a tier's version asks; a specialist's has none.
    """

    def __call__(self, version: SpecialistVersion, upstream: Backend | None = None) -> Specialist:
        """Open it."""
        ...


Refused = Callable[[SpecialistVersion, str], None]
"""Hears of a version that could not be opened, and why."""

Opened = Callable[[SpecialistVersion], None]
"""Hears of a version that was loaded."""


class Shared:
    """A loaded specialist with several users: the first that enters opens it, the last that leaves closes it."""

    def __init__(self, specialist: Specialist) -> None:
        self.answers = specialist.answers
        self._specialist = specialist
        self._users = 0

    @property
    def info(self) -> BackendInfo:
        """The specialist's."""
        return self._specialist.info

    def answer(self, request: Request) -> Coroutine[Any, Any, Answer]:
        """Answer as the specialist does."""
        return self._specialist.answer(request)

    def answer_many(self, requests: Sequence[Request]) -> Coroutine[Any, Any, list[Answer]]:
        """Answer as the specialist does."""
        return self._specialist.answer_many(requests)

    async def health(self) -> Health:
        """The specialist's."""
        return await self._specialist.health()

    async def __aenter__(self) -> Self:
        """Open it for the first user."""
        self._users += 1
        if self._users == 1:
            await self._specialist.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it after the last."""
        self._users -= 1
        if not self._users:
            await self._specialist.__aexit__(kind, error, trace)


class Loading:
    """The versions that are held loaded, whoever uses them besides, and those that could not be."""

    def __init__(self, open_specialist: OpenSpecialist, refused: Refused, opened: Opened) -> None:
        self._open_specialist = open_specialist
        self._refused = refused
        self._opened = opened
        self._held: dict[Identity, Shared] = {}
        self._failed: dict[Identity, Refusal] = {}

    def has(self, version: SpecialistVersion | None) -> bool:
        """Whether a version can be given at once: it is held, or was tried and is not to be had, or is none."""
        return version is None or identity(version) in self._held or identity(version) in self._failed

    async def load(self, version: SpecialistVersion, upstream: Backend | None = None) -> None:
        """Load a version and hold it; where that fails, keep why."""
        key = identity(version)
        given = (version,) if upstream is None else (version, upstream)
        try:
            specialist = await asyncio.to_thread(self._open_specialist, *given)
            shared = await Shared(specialist).__aenter__()
        except Exception as error:
            self._failed[key] = refusal = refusal_of(error)
            self._refused(version, refusal.detail)
        else:
            self._held[key] = shared
            self._opened(version)

    def active(self, version: SpecialistVersion) -> Active:
        """Return a version that `has` says is here, as it stands in the registry now."""
        shared = self._held.get(identity(version))
        if shared is None:
            return Active(version, None, lambda _: None, self._failed[identity(version)])
        answers = shared.answers
        return Active(version, shared, answers.normalise, number=answers.index, find=answers.find)

    async def keep(self, wanted: Set[Identity]) -> None:
        """Let go of all others: each is closed once its last stack is, and loaded or tried again when wanted again."""
        self._failed = {key: why for key, why in self._failed.items() if key in wanted}
        for key in [key for key in self._held if key not in wanted]:
            await self._held.pop(key).__aexit__(None, None, None)


def identity(version: SpecialistVersion) -> Identity:
    """Return what tells a version's bytes from every other's."""
    return version.task, version.version, version.digest
