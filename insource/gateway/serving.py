"""What serves now: one stack per task, swapped whole when the registry promotes another version.

A request takes the snapshot it finds and keeps it to its end; a stack that was replaced closes after its last request.
It knows versions and stages; it does not know why one was promoted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from insource.backends.contract import Backend
from insource.cascade.builder import Active
from insource.cascade.choice import Chooser
from insource.cascade.match import Matcher
from insource.cascade.refusal import refusal_of
from insource.config import UpstreamConfig
from insource.types import Request, SpecialistVersion, Task


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


OpenSpecialist = Callable[[SpecialistVersion], Specialist]
"""Verifies and opens a version's artifact; called in a thread. Raises ArtifactDamaged for other bytes than promoted."""

BuildStack = Callable[[Task | None, Active | None], tuple[Chooser, UpstreamConfig | None]]
"""Nests the stack of a task (None: of no task) around what is active for it, and says what its upstream is."""

Refused = Callable[[SpecialistVersion, str], None]


class Stack:
    """What answers one task's requests, and how many are in it."""

    def __init__(
        self, task: Task | None, version: SpecialistVersion | None, chooser: Chooser, upstream: UpstreamConfig | None
    ) -> None:
        self.task = task
        self.version = version
        self.chooser = chooser
        self.upstream = upstream
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the stack open for one request."""
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def close(self) -> None:
        """Close it once its last request and its last audit are done."""
        await self._idle.wait()
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
        build: BuildStack,
        refused: Refused,
    ) -> None:
        self._tasks = tasks
        self._versions = versions
        self._open_specialist = open_specialist
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
        for task, version in wanted:
            kept = before.get(task.name)
            same = kept is not None and _identity(kept.version) == _identity(version)
            stacks[task.name] = kept if kept is not None and same else await self._opened(task, version)
        straight = self._snapshot.straight if self._snapshot else await self._entered(None, None)
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

    def _wanted(self) -> list[tuple[Task, SpecialistVersion | None]]:
        """Return the configured tasks, and those with an active version that nobody configured."""
        active = {name: self._versions.active(name) for name in self._versions.tasks()}
        wanted = [(task, active.get(name)) for name, task in self._tasks.items()]
        return wanted + [(Task(name), found) for name, found in active.items() if found and name not in self._tasks]

    async def _opened(self, task: Task, version: SpecialistVersion | None) -> Stack:
        if version is None:
            return await self._entered(task, None)
        try:
            specialist = await asyncio.to_thread(self._open_specialist, version)
            return await self._entered(task, Active(version, specialist, specialist.answers.normalise))
        except Exception as error:
            refusal = refusal_of(error)
            self._refused(version, refusal.detail)
            return await self._entered(task, Active(version, None, lambda _: None, refusal))

    async def _entered(self, task: Task | None, active: Active | None) -> Stack:
        chooser, upstream = self._build(task, active)
        await chooser.__aenter__()
        return Stack(task, active.version if active else None, chooser, upstream)

    def _retire(self, stack: Stack) -> None:
        job = asyncio.ensure_future(stack.close())
        self._closing.add(job)
        job.add_done_callback(self._closing.discard)


def _identity(version: SpecialistVersion | None) -> tuple[int, str] | None:
    return (version.version, version.digest) if version else None
