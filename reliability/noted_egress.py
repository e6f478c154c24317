"""Upstreams whose egresses are noted, blinded or left out, and a ledger that notes what is durable: X5's witnesses.

They note what is let through and when, and what an auditor is told of it; nobody here judges it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insource.backends.contract import Backend
from insource.backends.upstream import Upstream
from insource.config import Config, UpstreamConfig
from insource.governance.verifier import verify_ledger
from insource.policy.egress import Egress, Upstreams
from insource.store.ledger import Ledger
from insource.types import Answer, Request, Sensitivity

CANARY = re.compile(rb"canary-(\d+)-(marked|plain)")


@dataclass
class Seen:
    """What was let through, by upstream and canary, which decisions were durable by then, and the canary by request."""

    passes: set[tuple[str, bytes]] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    early: list[str] = field(default_factory=list)
    asked: dict[str, bytes] = field(default_factory=dict)


class Pass(Upstream):
    """An upstream that notes what is let through to it; whoever reaches it went through its egress."""

    def __init__(self, config: UpstreamConfig, seen: Seen) -> None:
        super().__init__(config.name, config.base_url, silence=5.0)
        self._seen = seen

    async def answer(self, request: Request) -> Answer:
        """Note the request and its decision, and pass it on."""
        told = request.body + request.path.encode()
        self._seen.passes |= {(self.info.name, found[0]) for found in CANARY.finditer(told)}
        if request.id not in self._seen.recorded and self.info.name != "house":
            self._seen.early.append(request.id)
        return await super().answer(request)


class Blind(Egress):
    """Says to everybody who asks beforehand that all may leave; its inner egress has the last word."""

    def __init__(self, egress: Backend) -> None:
        super().__init__(egress, frozenset(Sensitivity))


class Doors(Upstreams):
    """Upstreams whose egresses are noted; blind ones; or, broken, none: the upstream itself stands in their place."""

    def __init__(self, config: Config, seen: Seen, *, blind: bool, broken: bool) -> None:
        super().__init__(config, {name: Pass(each, seen) for name, each in config.upstreams.items()})
        if broken:
            bare = {name: Upstream(name, each.base_url, silence=5.0) for name, each in config.upstreams.items()}
            self._egresses = {name: Blind(upstream) for name, upstream in bare.items()}
        elif blind:
            self._egresses = {name: Blind(egress) for name, egress in self._egresses.items()}


class Noting(Ledger):
    """A ledger that notes which decisions it has confirmed."""

    seen: Seen

    async def append(self, decision: Any, *arguments: Any, **options: Any) -> None:
        """Write it, then note it."""
        await super().append(decision, *arguments, **options)
        self.seen.recorded.add(decision.request_id)


@dataclass(frozen=True, slots=True)
class ToldAway:
    """What an auditor who asks about one request is told of where it went.

    `answered` are the upstreams that are named as having answered it, `tiers` those named as its tiers. `stayed`: that
    no row says it was sent; `elsewhere`: that it went, or may have gone, where no row says.
    """

    request_id: str
    stayed: bool
    answered: frozenset[str]
    tiers: frozenset[str]
    elsewhere: bool

    def fits(self, arrived: Set[str], in_vain: Set[str]) -> bool:
        """Say whether it agrees with the upstreams it arrived at; no row names those that are asked in vain."""
        unsaid = arrived - self.answered - self.tiers - in_vain
        return self.answered <= arrived and not (self.stayed and arrived) and (self.elsewhere or not unsaid)


def told_away(home: Path) -> Iterator[ToldAway]:
    """Yield, for each request in a home's ledger, what follows from its rows for an auditor."""
    rows: dict[str, verify_ledger.Seen] = defaultdict(lambda: verify_ledger.Seen(None))
    with closing(verify_ledger.open_ledger(home)) as database:
        for _, table, row in verify_ledger.read_rows(database):
            if "request_id" in row:
                rows[row["request_id"]].add(json.loads(verify_ledger.leaf_bytes(table, row)))
    for request_id, seen in rows.items():
        found = verify_ledger.statements(seen, [], None, None)
        left = [each["facts"] for each in found if each["kind"] == "left"]
        stayed = sum(sum(each["facts"].values()) for each in found if each["kind"] == "stayed")
        answered, tiers = (
            frozenset(each["upstream"] for each in left if each["purpose"] == what) for what in ("answer", "tier")
        )
        if seen.decisions:
            yield ToldAway(request_id, stayed > 0, answered, tiers, any(each["upstream"] is None for each in left))
