"""What is written to the store while faults are tried: decisions, settlements, acts, contents; versions and promotions.

It knows the store's public functions; it knows no fault. Whatever a call confirmed is noted at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from insource.errors import InsourceError
from insource.store import ledger as ledgers
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Content, Decision, Outcome, Reason, Settlement

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

Note = Callable[[object], None]
REFUSALS = (InsourceError, apsw.Error)
"""APSW's own only at a close: SQLite ignores a failed checkpoint there, a file layer in Python hands its error on."""


async def write_ledger(home: Path, chance: random.Random, note: Note, *, bursts: int = 12) -> int:
    """Open the ledger, write bursts of decisions with settlements and texts, close it; return how many were refused."""
    refused = 0
    try:
        ledger = Ledger.open(home, clock=lambda: NOON)
    except REFUSALS:
        return 1
    try:
        number = 0
        for _ in range(bursts):
            size = chance.choice((1, 1, 2, 5, 12))
            done = await asyncio.gather(
                *[_decide(ledger, f"r{number + each}", chance.choice((10, 900, 9_000)), note) for each in range(size)]
            )
            refused += done.count(False)
            number += size
        if chance.random() < 0.5:
            await ledger.purge(NOON + timedelta(days=1))
    except REFUSALS:
        refused += 1
    finally:
        try:
            ledger.close()
        except REFUSALS:
            refused += 1
    return refused


async def _decide(ledger: Ledger, request_id: str, length: int, note: Note) -> bool:
    decision = Decision(request_id, NOON, Outcome.ESCALATED, Reason.BELOW_THRESHOLD, task="triage", version=1)
    content = Content(request_id, NOON, "triage", "x" * length)
    try:
        await ledger.append(decision, content, keep_text=True)
    except REFUSALS:
        return False
    note(("decision", request_id))
    settled = ledger.settle(Settlement(request_id, NOON, 200, "upstream", 0.5))

    def told(future: Future[None]) -> None:
        if not future.cancelled() and future.exception() is None:
            note(("settlement", request_id))

    settled.add_done_callback(told)
    return True


def write_registry(home: Path, chance: random.Random, note: Note) -> int:
    """Register and promote a few versions; return how many calls were refused."""
    refused = 0
    try:
        registry = Registry.open(home)
    except REFUSALS:
        return 1
    for number in range(chance.randint(2, 6)):
        try:
            version = registry.register("triage", "linear", f"{number:064x}", None, {"n": number}, NOON)
            note(("version", version.digest))
            if chance.random() < 0.7:
                registry.promote("triage", version.version, "soak", "tried", NOON)
                note(("active", version.version))
        except REFUSALS:
            refused += 1
    with suppress(apsw.Error):
        registry.close()
    return refused


def missing_from_ledger(home: Path, noted: list[tuple[str, object]]) -> list[str]:
    """Open the ledger as after a restart and say what is missing of the noted; StoreError where it is damaged."""
    Ledger.open(home, clock=lambda: NOON).close()
    with LedgerReader(home) as reader:
        rows = {row.decision.request_id: row for row in reader.rows()}
    _check_integrity(home / ledgers.FILE)
    lost = [f"{kind} {what}" for kind, what in noted if kind == "decision" and what not in rows]
    lost += [f"text of {what}" for kind, what in noted
             if kind == "decision" and what in rows and rows[str(what)].content is None]  # fmt: skip
    settled = {name for name, row in rows.items() if row.settlement is not None}
    return lost + [f"{kind} {what}" for kind, what in noted if kind == "settlement" and what not in settled]


def missing_from_registry(home: Path, noted: list[tuple[str, object]]) -> list[str]:
    """Do the same with the registry; a promotion may have been followed by a later one."""
    with Registry.open(home) as registry:
        versions = registry.versions("triage")
        active = registry.active("triage")
    _check_integrity(home / "registry.db")
    digests = {version.digest for version in versions}
    lost = [f"{kind} {what}" for kind, what in noted if kind == "version" and what not in digests]
    promoted = [what for kind, what in noted if kind == "active"]
    if promoted and (active is None or active.version < max(map(int, map(str, promoted)))):
        lost.append(f"promotion of {promoted[-1]}")
    return lost


def _check_integrity(path: Path) -> None:
    connection = apsw.Connection(str(path))
    try:
        if (found := connection.execute("PRAGMA integrity_check").get) != "ok":
            raise apsw.CorruptError(str(found))
    finally:
        connection.close()
