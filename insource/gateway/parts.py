"""What a gateway is made of: the parts that whoever runs it opens and hands over.

It holds them and does nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from insource.cascade.cascade import utc_now
from insource.cascade.coin import Coin, hash_coin
from insource.config import Config
from insource.gateway.keyring import KeyStore
from insource.gateway.limits import Limiter
from insource.gateway.loading import OpenSpecialist
from insource.gateway.recorder import Energy
from insource.gateway.serving import Versions
from insource.gateway.spans import NO_SPANS, Spans
from insource.policy.sensitivity import Check
from insource.store.doubts import KeptWatch
from insource.store.ledger_reader import LedgerReader
from insource.store.recertifications import Recertified
from insource.store.reviews import Review
from insource.store.stages import Proposal
from insource.store.writer import LedgerWriter
from insource.types import Decision, Key, SpecialistVersion


def new_request_id() -> str:
    """Return 48 bits of time in milliseconds and 80 random ones, in hexadecimal, so that ids sort as they come.

    The audit coin is a hash of it, so no caller may choose it.
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class ReviewQueue(Protocol):
    """Where requests wait for a person; the registry is one. Called in threads."""

    def ask_review(
        self, request_id: str, task: str, text: str, suggestion: str | None, time: datetime,
        score: float | None = None, subject: str | None = None,
    ) -> None:  # fmt: skip
        """Queue one."""
        ...

    def review(self, request_id: str) -> Review | None:
        """Say what became of it."""
        ...

    def waiting_reviews(self) -> int:
        """Count those that wait."""
        ...

    def purge_reviews(self, now: datetime, retention: timedelta, tasks: Mapping[str, timedelta] | None = None) -> int:
        """Erase the texts of those closed longer ago than `retention`, or than `tasks` says for theirs."""
        ...


class Rollout(Protocol):
    """How tasks stand in their rollout; the registry says. Called in threads."""

    def versions(self, task: str) -> tuple[SpecialistVersion, ...]:
        """All versions of a task, oldest first."""
        ...

    def proposal(self, task: str) -> Proposal | None:
        """The step that waits for a person."""
        ...

    def kept_watch(self, task: str) -> KeptWatch | None:
        """What was watched of the version that serves."""
        ...

    def recertified(self, task: str, version: int | None = None) -> Recertified | None:
        """The last time that a version's threshold was raised."""
        ...


class Purchases(Protocol):
    """Where labels are counted that are bought, for all workers; the registry does. Called in threads."""

    def reserve_label(self, task: str, limit: int, now: datetime) -> int | None:
        """Take one of the day's; return how many are taken by then, None where all were."""
        ...

    def labels_taken(self, task: str, now: datetime) -> int:
        """Say how many were taken of a day's."""
        ...


class Administered(Protocol):
    """Where keys are made and revoked; the registry does. Called in threads."""

    def keys(self) -> tuple[Key, ...]:
        """All keys ever made, oldest first."""
        ...

    def create_key(self, key: Key, why: str) -> tuple[Key, str]:
        """Make one; return it and its whole text."""
        ...

    def revoke_key(self, key_id: str, who: str, why: str, now: datetime) -> tuple[Key, bool]:
        """Revoke one for good; raise UnknownKey."""
        ...


class Registry(Versions, ReviewQueue, Rollout, Purchases, KeyStore, Administered, Protocol):
    """What the gateway asks of the registry."""


FindDecision = Callable[[Path, str], Decision | None]
"""Finds the decision of a request id in the ledger of a home; called in threads."""


def find_decision(home: Path, request_id: str) -> Decision | None:
    """Look the decision up beside the ledger's writer. Raises StoreError."""
    with LedgerReader(home) as reader:
        row = reader.decision(request_id)
    return row.decision if row is not None else None


def _no_trunk(trunk: str) -> Any:
    raise LookupError(trunk)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts; ledger and registry are open, and stay their opener's to close.

    `open_trunk` gives the loaded trunk of a digest or base model's name, for /v1/embeddings; `check` is the door for
    whatever rates a request's text; `limits` None keeps the limits of keys here, which is right for one worker alone.
    """

    config: Config
    ledger: LedgerWriter
    versions: Registry
    open_specialist: OpenSpecialist
    energy: Energy = lambda served_by, seconds: None
    clock: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = new_request_id
    coin: Coin = field(default_factory=lambda: hash_coin(os.urandom(32)))
    open_trunk: Callable[[str], Any] = _no_trunk
    check: Check | None = None
    find_decision: FindDecision = find_decision
    spans: Spans = NO_SPANS
    limits: Limiter | None = None
