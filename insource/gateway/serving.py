"""What serves now: one stack per task, swapped whole when the registry promotes another version.

A request takes the snapshot it finds and keeps it to its end; a stack that was replaced closes after its last request.
It knows versions and stages; it does not know why one was promoted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from insource.backends.contract import Backend
from insource.cascade.builder import Active, ActiveTier, standing_tiers
from insource.cascade.choice import Chooser
from insource.cascade.match import Matcher
from insource.cascade.refusal import refusal_of
from insource.types import Request, SpecialistVersion, Task

_LOG = logging.getLogger(__name__)


class Versions(Protocol):
    """What is asked of the registry."""

    def tasks(self) -> tuple[str, ...]:
        """All tasks with a version."""
        ...

    def active(self, task: str) -> SpecialistVersion | None:
        """The version that serves a task."""
        ...

    def changed(self) -> int:
        """A number that changes with the registry."""
        ...


class Answers(Protocol):
    """A task's closed set of answers."""

    def normalise(self, raw: str) -> str | None:
        """Map a raw reply to its label, or None."""
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


House = Callable[[str], tuple[Backend, float]]
"""Gives the way to an upstream in the house, and the seconds that it has as a tier."""

BuildStack = Callable[[Task | None, Active | None, tuple[ActiveTier, ...]], Chooser]
"""Nests the stack of a task (None: of no task) around what is active for it."""

Refused = Callable[[SpecialistVersion, str], None]


class Stack:
    """What answers one task's requests, and how many are in it."""

    def __init__(self, task: Task | None, versions: tuple[SpecialistVersion | None, ...], chooser: Chooser) -> None:
        self.task = task
        self.versions = versions
        self.chooser = chooser
        self._users = 0
        self._idle: asyncio.Future[None] | None = None

    @property
    def version(self) -> SpecialistVersion | None:
        """The specialist's."""
        return self.versions[0] if self.versions else None

    @property
    def asks_house(self) -> bool:
        """Whether an upstream in the house may be asked while it is decided."""
        return self.task is not None and bool(self.task.tiers)

    def __enter__(self) -> None:
        """Keep the stack open for one request."""
        self._users += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if not self._users and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self) -> None:
        """Close it once its last request and its last audit are done; no request may enter meanwhile."""
        if self._users:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        await self.chooser.__aexit__(None, None, None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All stacks at one moment."""

    matcher: Matcher
    stacks: Mapping[str, Stack]
    straight: Stack

    def find(self, request: Request) -> Stack:
        """Return the stack of the request's task, or the one straight upstream; raise UnknownTask."""
        matched = self.matcher.match(request)
        return self.stacks[matched.task.name] if matched else self.straight


class Serving:
    """Keeps the snapshot in step with the registry. `refused` hears of each version that could not be opened."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        versions: Versions,
        open_specialist: OpenSpecialist,
        house: House,
        build: BuildStack,
        refused: Refused,
    ) -> None:
        """Index the tasks; raise ConfigError where two of them claim the same requests."""
        Matcher(tasks.values())
        self._tasks = tasks
        self._versions = versions
        self._open_specialist = open_specialist
        self._house = house
        self._build = build
        self._refused = refused
        self._seen: int | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The stacks to use for a request that arrives now."""
        assert self._snapshot is not None, "refresh() was not awaited"
        return self._snapshot

    async def refresh(self) -> bool:
        """Take over what the registry says if it changed; return whether it had. Raises StoreError; then all stays."""
        seen = await asyncio.to_thread(self._versions.changed)
        if self._snapshot is not None and seen == self._seen:
            return False
        wanted = await asyncio.to_thread(self._wanted)
        before = self._snapshot.stacks if self._snapshot else {}
        stacks: dict[str, Stack] = {}
        for task, versions in wanted:
            kept = before.get(task.name)
            same = kept is not None and _identities(kept.versions) == _identities(versions)
            stacks[task.name] = kept if kept is not None and same else await self._opened(task, versions)
        straight = self._snapshot.straight if self._snapshot else await self._straight()
        self._snapshot = Snapshot(Matcher(task for task, _ in wanted), stacks, straight)
        self._seen = seen
        for name, stack in before.items():
            if stacks.get(name) is not stack:
                self._retire(stack)
        return True

    async def close(self) -> None:
        """Close every stack, each after its last request; cancelling this leaves them."""
        if self._snapshot is not None:
            for stack in (*self._snapshot.stacks.values(), self._snapshot.straight):
                self._retire(stack)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _wanted(self) -> list[tuple[Task, tuple[SpecialistVersion | None, ...]]]:
        """Return the configured tasks, and those with an active version that nobody configured.

        Of each, the active version of the specialist and of every tier.
        """
        active = {name: self._versions.active(name) for name in self._versions.tasks()}
        tasks = [*self._tasks.values()]
        tasks += [Task(name) for name, found in active.items() if found and "/" not in name and name not in self._tasks]
        return [(task, tuple(active.get(name) for name in (task.name, *tier_names(task)))) for task in tasks]

    async def _opened(self, task: Task, versions: tuple[SpecialistVersion | None, ...]) -> Stack:
        specialist = await self._active(versions[0], None)
        tiers = []
        for name, version in zip(task.tiers, versions[1:], strict=True):
            upstream, deadline = self._house(name)
            found = await self._active(version, upstream)
            if found is not None:
                tiers.append(ActiveTier(name, found, deadline))
        for tier in tiers:
            if tier not in standing_tiers(versions[0], tiers):
                _LOG.warning("%s is not asked: it has no threshold, or was certified behind another version; certify "
                             "it again with `insource train --tier`", tier.active.version.name)  # fmt: skip
        chooser = self._build(task, specialist, tuple(tiers))
        await chooser.__aenter__()
        return Stack(task, versions, chooser)

    async def _active(self, version: SpecialistVersion | None, upstream: Backend | None) -> Active | None:
        """Open a version; where that fails, return why."""
        if version is None:
            return None
        try:
            given = (version,) if upstream is None else (version, upstream)
            specialist = await asyncio.to_thread(self._open_specialist, *given)
        except Exception as error:
            refusal = refusal_of(error)
            self._refused(version, refusal.detail)
            return Active(version, None, lambda _: None, refusal)
        return Active(version, specialist, specialist.answers.normalise)

    async def _straight(self) -> Stack:
        chooser = self._build(None, None, ())
        await chooser.__aenter__()
        return Stack(None, (), chooser)

    def _retire(self, stack: Stack) -> None:
        job = asyncio.ensure_future(stack.close())
        self._closing.add(job)
        job.add_done_callback(self._closing.discard)


def tier_names(task: Task) -> tuple[str, ...]:
    """Return the names under which the registry holds the versions of a task's tiers."""
    return tuple(f"{task.name}/{tier}" for tier in task.tiers)


def _identities(versions: tuple[SpecialistVersion | None, ...]) -> list[tuple[int, str] | None]:
    return [(version.version, version.digest) if version else None for version in versions]
