"""What serves now: one stack per task, swapped whole when the registry says otherwise.

A request takes the snapshot it finds and keeps it to its end; a stack that was replaced closes after its last request.
It follows stages, shares and suspensions, and does not know why one was changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from insource.backends.contract import Backend
from insource.cascade.builder import ActiveTier, Trial, standing_tiers
from insource.cascade.match import Matcher
from insource.gateway.loading import Identity, Loading, Opened, OpenSpecialist, Refused, identity
from insource.gateway.stack import BuildStack, Opening, Snapshot, Stack, Standing, tasks_here, tier_names
from insource.types import Doubt, SpecialistVersion, Suspension, Task

_LOG = logging.getLogger(__name__)


class Versions(Protocol):
    """What is asked of the registry."""

    def tasks(self) -> tuple[str, ...]:
        """All tasks with a version."""
        ...

    def active(self, task: str) -> SpecialistVersion | None:
        """The version that serves a task."""
        ...

    def trial(self, task: str) -> SpecialistVersion | None:
        """The version in shadow or canary."""
        ...

    def suspension(self, task: str) -> Suspension | None:
        """The suspension that stands."""
        ...

    def doubt(self, task: str) -> Doubt | None:
        """The doubt that stands about the version that serves."""
        ...

    def changed(self) -> int:
        """A number that changes with the registry."""
        ...


House = Callable[[str], tuple[Backend, float]]
"""Gives the way to an upstream in the house, and the seconds that it has as a tier."""


@dataclass(frozen=True, slots=True)
class Hears:
    """Who hears of a version that was refused, of one that was loaded, and of a snapshot that was taken."""

    refused: Refused = lambda version, detail: None
    opened: Opened = lambda version: None
    taken: Callable[[], None] = lambda: None


class Serving:
    """Keeps the snapshot in step with the registry.

    What needs no loading is taken over at once: a suspension, a share, a rollback to a version that is loaded still.
    A version that must be loaded first takes over when it is, and what served before serves until then.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        versions: Versions,
        open_specialist: OpenSpecialist,
        house: House,
        build: BuildStack,
        hears: Hears,
    ) -> None:
        """Index the tasks; raise ConfigError where two of them claim the same requests."""
        Matcher(tasks.values())
        self._tasks = tasks
        self._versions = versions
        self._house = house
        self._build = build
        self._hears = hears
        self._loading = Loading(open_specialist, hears.refused, hears.opened)
        self._latest: list[Standing] = []
        self._spares: dict[str, tuple[Identity, SpecialistVersion]] = {}
        self._seen: int | None = None
        self._turn = asyncio.Lock()
        self._loader: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The stacks to use for a request that arrives now."""
        assert self._snapshot is not None, "refresh() was not awaited"
        return self._snapshot

    async def refresh(self) -> bool:
        """Take over what the registry says if it changed, all of it, and return whether it had; raises as `follow`."""
        changed = await self.follow()
        if self._loader is not None:
            await self._loader
        return changed

    async def follow(self) -> bool:
        """Take over what the registry says if it changed, and return whether it had; what must be loaded comes later.

        Raises StoreError; then all stays. The first time all is loaded before it returns.
        """
        seen = await asyncio.to_thread(self._versions.changed)
        if self._snapshot is not None and seen == self._seen:
            return False
        self._latest = await asyncio.to_thread(self._wanted)
        if self._snapshot is None:
            for version, upstream in self._missing():
                await self._loading.load(version, upstream)
        await self._take()
        self._seen = seen
        if self._loader is None and self._missing():
            self._loader = asyncio.ensure_future(self._load())
        return True

    async def close(self) -> None:
        """Close every stack, each after its last request; cancelling this leaves them."""
        if self._loader is not None:
            self._loader.cancel()
        if self._snapshot is not None:
            for stack in (*self._snapshot.stacks.values(), self._snapshot.straight):
                self._retire(stack)
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._loading.keep(set())

    def _wanted(self) -> list[Standing]:
        """Return how the configured tasks stand, and those with a version in service that nobody configured."""
        names = self._versions.tasks()
        active = {name: self._versions.active(name) for name in names}
        found = []
        for name in tasks_here(self._tasks, names):
            task, known = self._tasks.get(name), name in active
            trial = self._versions.trial(name) if known else None
            if task is None and active.get(name) is None and trial is None:
                continue
            suspended = known and self._versions.suspension(name) is not None
            doubted = known and self._versions.doubt(name) is not None
            task, configured = task or Task(name), task is not None
            tiers = tuple(active.get(tier) for tier in tier_names(task))
            found.append(Standing(task, active.get(name), tiers, trial, suspended, doubted, configured))
        return found

    def _missing(self) -> list[tuple[SpecialistVersion, Backend | None]]:
        """Return what must be loaded of the first task that lacks something; of all tasks the first time."""
        lacking: list[tuple[SpecialistVersion, Backend | None]] = []
        for standing in self._latest:
            ways = (None, None, *(self._house(name)[0] for name in standing.task.tiers))
            for version, way in zip(standing.versions, ways, strict=True):
                if version is not None and not self._loading.has(version):
                    lacking.append((version, way))
            if lacking and self._snapshot is not None:
                break
        return lacking

    async def _load(self) -> None:
        """Load what is missing, task by task, and take each over when it is there."""
        try:
            while missing := self._missing():
                for version, upstream in missing:
                    await self._loading.load(version, upstream)
                await self._take()
        finally:
            self._loader = None

    async def _take(self) -> None:
        """Make a snapshot of what the registry wants, as far as it is loaded."""
        async with self._turn:
            before = self._snapshot.stacks if self._snapshot else {}
            stacks: dict[str, Stack] = {}
            for wanted in self._latest:
                name, kept = wanted.task.name, before.get(wanted.task.name)
                standing = self._possible(wanted, kept.standing if kept is not None else None)
                if standing is None:
                    continue
                self._spare(standing, kept.standing if kept is not None else None)
                same = kept is not None and kept.standing is not None and kept.standing.key == standing.key
                stacks[name] = kept if kept is not None and same else await self._opened(standing)
            straight = self._snapshot.straight if self._snapshot else await self._straight()
            tasks = [stack.task for stack in stacks.values() if stack.task is not None]
            self._snapshot = Snapshot(Matcher(tasks), stacks, straight)
            for name, stack in before.items():
                if stacks.get(name) is not stack:
                    self._retire(stack)
            held = {identity(spare) for _, spare in self._spares.values()}
            for standing in (*self._latest, *(stack.standing for stack in stacks.values())):
                held |= set(standing.identities() if standing is not None else ())
            await self._loading.keep(held)
        self._hears.taken()

    def _possible(self, wanted: Standing, before: Standing | None) -> Standing | None:
        """Return what is wanted as far as it is loaded, and what served before in the place of the rest.

        None where that is nothing at all, and nobody configured the task.
        """
        has = self._loading.has
        if all(has(version) for version in wanted.versions):
            return wanted
        if before is None and not wanted.configured:
            return None
        active, tiers = (before.active, before.tiers) if before is not None else (None, (None,) * len(wanted.tiers))
        return replace(
            wanted,
            active=wanted.active if has(wanted.active) else active,
            tiers=tuple(new if has(new) else old for new, old in zip(wanted.tiers, tiers, strict=True)),
            trial=wanted.trial if has(wanted.trial) else None,
        )

    def _spare(self, now: Standing, before: Standing | None) -> None:
        """Keep the version that a trial has replaced for as long as a rollback would bring it back."""
        name, active = now.task.name, now.active
        if active is None or now.trial is not None:
            self._spares.pop(name, None)
            return
        replaced = before.active if before is not None else None
        tried = before.trial if before is not None else None
        if replaced is not None and tried is not None and identity(tried) == identity(active) != identity(replaced):
            self._spares[name] = (identity(active), replaced)
        elif name in self._spares and self._spares[name][0] != identity(active):
            del self._spares[name]

    async def _opened(self, standing: Standing) -> Stack:
        task, opened = standing.task, self._loading.active
        tiers = []
        for name, version in zip(task.tiers, standing.tiers, strict=True):
            if version is not None:
                tiers.append(ActiveTier(name, opened(version), self._house(name)[1]))
        for tier in tiers:
            if tier not in standing_tiers(standing.active, tiers):
                _LOG.warning("%s is not asked: it has no threshold, or was certified behind another version; certify "
                             "it again with `insource train --tier`", tier.active.version.name)  # fmt: skip
        active = opened(standing.active) if standing.active is not None else None
        tried = opened(standing.trial) if standing.trial is not None else None
        trial = None if tried is None else Trial(tried.version, tried.specialist, tried.normalise, tried.refused,
                                                find=tried.find)  # fmt: skip
        opening = Opening(active, tuple(tiers), trial, standing.suspended, standing.doubted)
        chooser = self._build(task, opening)
        await chooser.__aenter__()
        return Stack(standing, opening, chooser)

    async def _straight(self) -> Stack:
        chooser = self._build(None, Opening())
        await chooser.__aenter__()
        return Stack(None, Opening(), chooser)

    def _retire(self, stack: Stack) -> None:
        job = asyncio.ensure_future(stack.close())
        self._closing.add(job)
        job.add_done_callback(self._closing.discard)
