"""Answers about a span of rows, or about one request, with the proofs that they rest on.

What follows from rows, and in which words, is the verifier's to say: what a stranger checks is what was run here. It
writes no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from insource.errors import UserError
from insource.governance.auditing.told import Told, told_by
from insource.governance.verifier.verify_ledger import (
    ANSWERS,
    NOT_ESTABLISHED,
    Act,
    Seen,
    by,
    statements,
    task_of,
)
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.proving import Prover, Report, Span

Statement = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sources:
    """What answers are taken from: the ledger's rows with their proofs, the ledger beside them, and what is told."""

    prover: Prover
    ledger: LedgerReader
    told: Told


def answers_of_span(
    sources: Sources,
    span: Span,
    task: str | None,
    *,
    report: Report,
    contents: bool = False,
    write: Callable[[bytes], object] | None = None,
) -> dict[str, Any]:
    """Return the answers about rows, of one task where it is named; `write` takes the lines of their export.

    `report` hears how many rows were read, of how many. Raises UserError for a task that neither rows nor what is told
    know, StoreError where the rows are not whole, or not those that were signed: nothing is answered then.
    """
    _check_known(sources, task)
    seen, head = Seen(task), dict[str, Any]()
    for line in sources.prover.export(span, contents=contents, report=report):
        if write is not None:
            write(line)
        told = msgspec.json.decode(line)
        if "kind" in told:
            seen.add(told)
        elif "format" in told:
            head = told
    return _answers(sources, seen, head, task)


def answers_of_request(sources: Sources, request_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the answers about one request, and the proof of its rows. Raises UserError as `Prover.prove` does."""
    proof, seen = sources.prover.prove(request_id), Seen(None)
    for row in proof["rows"]:
        seen.add(json.loads(row["leaf"]))
    if not seen.decisions:
        raise UserError(f"The rows about {request_id!r} are no request's; the id in the x-insource-request-id header "
                        "of a reply was expected.")  # fmt: skip
    return _answers(sources, seen, proof, None), proof


def _check_known(sources: Sources, task: str | None) -> None:
    """Raise UserError for a task that nobody knows: of a name written wrongly it would be said that nothing left."""
    if task is None or sources.told.knows(task) or next(sources.ledger.rows(task), None) is not None:
        return
    if not any(task_of(act) == task for act in sources.ledger.acts()):
        raise UserError(f"No row of the ledger is of task {task!r}, and neither configuration nor registry have it; "
                        "the name of a task was expected. `insource tasks` lists them.")  # fmt: skip


def _answers(sources: Sources, seen: Seen, of: dict[str, Any], task: str | None) -> dict[str, Any]:
    first, last = of.get("first"), of.get("last")
    proofs, unproved = _proofs(sources, seen)
    elsewhere = _outside(proofs, first, last)
    found = statements(seen, elsewhere, first, last)
    told = [*sources.told.statements(found, [*seen.acts, *elsewhere]), *unproved, *_unsigned(sources)]
    if of.get("request") is not None:
        told.append(sources.told.text(sources.ledger, of["request"]))
    return {
        "format": ANSWERS,
        "first": first,
        "last": last,
        "request": of.get("request"),
        "task": task,
        "signed": sources.prover.checkpoint.size,
        "key": of["key"],
        "statements": [*found, *told],
        "proofs": proofs,
        "not_established": list(NOT_ESTABLISHED),
    }


def _proofs(sources: Sources, seen: Seen) -> tuple[list[dict[str, Any]], list[Statement]]:
    """Return the proved acts about the versions that were asked and their tasks; told is which cannot be proved yet."""
    asked = {(str(by(each)), str(each.task)) for _, each, _ in seen.wanted() if each.version is not None}
    proofs, unproved = [], []
    for subject in sorted({name for pair in asked for name in pair}):
        if not sources.ledger.acts(subject):
            continue
        try:
            proofs.append(sources.prover.prove(subject))
        except UserError as error:  # newer than the checkpoint
            facts = {"subject": subject, "why": str(error)}
            text = f"Acts about {subject} outside these rows are not proved: {error}"
            unproved.append(told_by("ledger, unproven", "approved", "unproved", facts, text))
    return proofs, unproved


def _outside(proofs: Iterable[dict[str, Any]], first: int | None, last: int | None) -> list[Any]:
    """Return the acts of proofs that lie outside a span."""
    found = {}
    for row in (json.loads(row["leaf"]) for proof in proofs for row in proof["rows"]):
        act = Act(*map(row["row"].get, Act._fields))
        if row["kind"] == "acts" and (first is None or last is None or not first <= act.seq <= last):
            found[act.seq] = act
    return list(found.values())


def _unsigned(sources: Sources) -> Iterator[Statement]:
    size, last = sources.prover.checkpoint.size, sources.ledger.last_row()
    if last > size:
        text = (f"Rows {size + 1:,} to {last:,} of the ledger are covered by no checkpoint yet; a running gateway "
                "signs once a second, and `insource status` says where it refuses to.")  # fmt: skip
        yield told_by("ledger, unproven", "complete", "unsigned", {"first": size + 1, "last": last}, text)
