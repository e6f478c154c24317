"""One task's stack: how the task stands in the registry, what it is built of, what answers, and who is in it.

It follows nothing by itself; `serving` makes stacks and retires them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from insource.backends.reply import Reply
from insource.cascade.builder import Active, ActiveTier, Trial
from insource.cascade.choice import Choice, Chooser
from insource.cascade.match import Matcher
from insource.gateway.loading import Identity, identity
from insource.types import Outcome, Request, SpecialistVersion, Task


@dataclass(frozen=True, slots=True)
class Standing:
    """What the registry says of a task: the active version, that of each tier, the trial, and whether it is suspended
    or its active version doubted.

    `configured` says whether the task stands in the configuration.
    """

    task: Task
    active: SpecialistVersion | None = None
    tiers: tuple[SpecialistVersion | None, ...] = ()
    trial: SpecialistVersion | None = None
    suspended: bool = False
    doubted: bool = False
    configured: bool = True

    @property
    def versions(self) -> tuple[SpecialistVersion | None, ...]:
        """All versions, at their places."""
        return (self.active, self.trial, *self.tiers)

    @property
    def key(self) -> tuple[object, ...]:
        """What tells one stack from another."""
        placed = [version and (identity(version), version.stage, version.share, version.calibration)
                  for version in self.versions]  # fmt: skip
        return (self.suspended, self.doubted, *placed)

    def identities(self) -> Iterator[Identity]:
        """Give the versions there are."""
        return (identity(version) for version in self.versions if version is not None)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a task's stack is to be built of, opened."""

    active: Active | None = None
    tiers: tuple[ActiveTier, ...] = ()
    trial: Trial | None = None
    suspended: bool = False
    doubted: bool = False


class Compared(NamedTuple):
    """Whether the specialist's answer was the reference of an escalated request, and that reference's number."""

    agrees: bool | None = None
    reference: int | None = None


NOT_COMPARED = Compared()
OUTSIDE = -1
"""The number of a reference outside the closed set."""

BuildStack = Callable[[Task | None, Opening], Chooser]
"""Nests the stack of a task (None: of no task)."""


class Stack:
    """What answers one task's requests, and how many are in it."""

    def __init__(self, standing: Standing | None, opening: Opening, chooser: Chooser) -> None:
        self.task = standing.task if standing is not None else None
        self.standing = standing
        self.chooser = chooser
        self._opening = opening
        self._users = 0
        self._idle: asyncio.Future[None] | None = None

    @property
    def version(self) -> SpecialistVersion | None:
        """The active specialist's."""
        return self.standing.active if self.standing is not None else None

    @property
    def trial(self) -> SpecialistVersion | None:
        """The one that is tried beside it."""
        return self.standing.trial if self.standing is not None else None

    @property
    def asks_house(self) -> bool:
        """Whether an upstream in the house may be asked while it is decided."""
        return self.task is not None and bool(self.task.tiers)

    def label(self, answer: str) -> str | None:
        """Return the label of a person's answer, None where it has none; the answer itself where no set is open."""
        spaces = [one for one in (self._opening.active, self._opening.trial) if one is not None and one.specialist]
        labels = [(one.find or one.normalise)(answer) for one in spaces]
        return next((label for label in labels if label is not None), None) if labels else answer

    def compared(self, choice: Choice, reply: Reply | None) -> Compared:
        """Hold what the specialist said of an escalated request against the reference in its reply."""
        decision, scored = choice.decision, choice.scored
        if scored is None or decision.tier is not None or decision.outcome is not Outcome.ESCALATED:
            return NOT_COMPARED
        active, trial = self._opening.active, self._opening.trial
        spoke = next(
            (one for one in (active, trial) if one is not None and one.version.version == decision.version), None
        )
        if spoke is None or reply is None or reply.status != 200 or reply.content is None:
            return NOT_COMPARED
        label = spoke.normalise(reply.content)
        number = None
        if spoke.number is not None and self.task is not None and self.task.content == "full":
            number = OUTSIDE if label is None else spoke.number(label)
        return Compared(label == scored.label, number)

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


def tier_names(task: Task) -> tuple[str, ...]:
    """Return the names under which the registry holds the versions of a task's tiers."""
    return tuple(f"{task.name}/{tier}" for tier in task.tiers)


def tasks_here(configured: Iterable[str], trained: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the tasks that are configured or have a version; tiers in the house are none."""
    return tuple(dict.fromkeys((*configured, *(name for name in trained if "/" not in name))))
