"""`insource explain`: every step from match to reason, and what decided between the first answer and the second.

It reads the ledger or takes a text; what decided is the specialist's own account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from insource.backends.specialist import Specialist
    from insource.config import Config
    from insource.store.columns import Feedback
    from insource.store.ledger_reader import LedgerRow
    from insource.types import Decision, SpecialistVersion

_EPILOG = '\b\nExample:\n  insource explain --text "where is my card?" --task triage'

SHOWN = 80
"""So many characters of a training row are printed; --json has them all."""


@click.command(epilog=_EPILOG)
@click.argument("request_id", required=False, metavar="[REQUEST_ID]")
@click.option("--text", metavar="TEXT", help="Explain what would be decided for this text.")
@click.option("--task", "name", metavar="NAME[@V]", help="The task (or version) for --text.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, request_id: str | None, text: str | None, name: str | None, json_path: str | None
) -> None:
    """Explain a recorded request (its id stands in the x-insource-request-id header), or a text."""
    from insource.cli.opening import configuration
    from insource.errors import UserError

    config = configuration(ctx)
    if (request_id is None) == (text is None):
        raise UserError("explain takes either a REQUEST_ID or --text; one of the two was expected.")
    if text is not None and name is None:
        raise UserError("--text was given without a task; name the task beside it: --task NAME.")
    found = _text(config, text, name or "") if text is not None else _recorded(config, request_id or "")
    emit(found, json_path, lambda console: _show(console, found))


def _recorded(config: Config, request_id: str) -> dict[str, Any]:
    from insource.errors import UserError
    from insource.store.ledger import FILE
    from insource.store.ledger_reader import LedgerReader

    if not (config.home / FILE).exists():
        raise UserError(
            f"There is no ledger in {config.home}, so no request is recorded there; one that `insource serve` wrote "
            "was expected. Check --home, or explain a text with --text."
        )
    with LedgerReader(config.home) as ledger:
        row, gold = ledger.decision(request_id), ledger.feedback(request_id)
    if row is None:
        raise UserError(
            f"The ledger in {config.home} has no request {request_id!r}; the id from a reply's x-insource-request-id "
            "header was expected. Check --home, or explain a text with --text."
        )
    decision = row.decision
    found: dict[str, Any] = {"request_id": request_id, "steps": _steps(row, gold, _doubted(config, decision)),
                             "decided_by": None}  # fmt: skip
    if decision.task is None or decision.version is None or decision.score is None:
        return found
    kept = row.content.text if row.content is not None else None
    if not kept:
        found["note"] = (
            'The text is not kept (the task\'s content is not "full", its retention is over, or it was erased), so '
            "what decided cannot be shown; give it again with --text."
        )
        return found
    return {**found, **_decided(config, f"{decision.task}@{decision.version}", kept, recorded=True)}


def _doubted(config: Config, decision: Decision) -> str | None:
    """Return why every request was audited when this one was decided, None where that was not so."""
    from insource.cli.opening import open_registry
    from insource.store.registry import FILE

    everyone = decision.audit_rate == 1.0 and decision.task is not None and decision.version is not None
    if not everyone or not (config.home / FILE).exists():
        return None
    with open_registry(config) as registry:
        doubt = registry.doubt_at(decision.task or "", decision.version or 0, decision.time)
    return None if doubt is None else f"in doubt since {doubt.time:%Y-%m-%d %H:%M} UTC ({doubt.who}): {doubt.why}"


def _steps(row: LedgerRow, gold: Sequence[Feedback], doubted: str | None) -> list[str]:
    """Tell a decision's way in words."""
    decision, settlement = row.decision, row.settlement
    steps = [f"matched: {f'task {decision.task}' if decision.task else 'no task'}"]
    if decision.audit_rate:
        fell = "picked" if decision.audited else "passed over"
        steps.append(f"audit coin at {decision.audit_rate:g}, before anything was decided: {fell}")
    if doubted is not None:
        steps.append(doubted)
    if decision.version is not None:
        steps.append(f"version: {decision.task}@{decision.version}, artifact {(decision.digest or '')[:12]}")
    if decision.score is not None:
        steps.append(f"score {decision.score:.4f} against {_threshold(decision.threshold)}")
    detail = f" ({decision.detail})" if decision.detail else ""
    steps.append(f"{decision.outcome.value}: {decision.reason.value}{detail}")
    if settlement is not None:
        steps.append(
            f"served by {settlement.served_by}, status {settlement.status}, in {settlement.seconds * 1000:.1f} ms"
        )
    elif row.aborted:
        steps.append("aborted: the gateway stopped before the reply was settled")
    for audit in row.audits:
        own = (audit.task, audit.version) == (decision.decider, decision.version)
        stage = f" in {audit.stage}" if audit.stage is not None else ""
        whose = "the specialist" if own else f"{audit.task}@{audit.version}{stage}"
        steps.append(f"audit: {whose} {_verdict(audit.agrees)}")
    return steps + [f"gold: {each.who} gave the answer {each.answer} ({each.source})" for each in gold]


def _text(config: Config, text: str, name: str) -> dict[str, Any]:
    decided = _decided(config, name, text, recorded=False)
    stage, suspended = _standing(config, decided["decided_by"])
    threshold = decided["threshold"]
    above = threshold is not None and decided["score"] >= threshold
    reason = "above_threshold" if above else "no_threshold" if threshold is None else "below_threshold"
    steps = [
        f"task {name.partition('@')[0]}, version {decided['decided_by']}, {stage}",
        f"score {decided['score']:.4f} against {_threshold(threshold)}",
        *([f"the task is suspended {suspended}"] if suspended else []),
        "escalated: suspended" if suspended else f"{'accepted' if above else 'escalated'}: {reason}",
    ]
    return {"text": text, "steps": steps, **decided}


def _standing(config: Config, name: str) -> tuple[str, str | None]:
    """Return a version's stage in words, and since when, by whom and why its task is suspended, None where not."""
    from insource.cli.opening import find_version, open_registry
    from insource.store.stages import place

    with open_registry(config) as registry:
        version = find_version(registry, name)
        suspension = registry.suspension(version.task)
    told = None
    if suspension is not None:
        told = f"since {suspension.time:%Y-%m-%d %H:%M} UTC by {suspension.who}: {suspension.why}"
    return place(version.stage, version.share), told


def _decided(config: Config, name: str, text: str, *, recorded: bool) -> dict[str, Any]:
    """Return what the specialist of a version says of a text, and why; a recorded text is what it saw already."""
    from insource.cli.opening import open_version
    from insource.cli.progress import Bars

    with Bars() as bars:
        version, specialist = open_version(config, name, bars.say)
        explanation = specialist.explain(_kept(specialist, text) if recorded else _seen(specialist, text))
    show = specialist.answers.display
    return {
        "decided_by": version.name,
        "family": version.family,
        "answer": show(explanation.label),
        "probability": explanation.probability,
        "score": explanation.score,
        "threshold": version.calibration.threshold if version.calibration else None,
        "runner_up": show(explanation.runner_up),
        "runner_up_probability": explanation.runner_up_probability,
        "evidence": _evidence(config, version, specialist, explanation.evidence),
    }


def _kept(specialist: Specialist, text: str) -> str:
    """Return what the specialist saw of a request whose text the ledger kept."""
    seen = specialist.inputs.text_of_kept(text)
    return text if seen is None else seen


def _seen(specialist: Specialist, text: str) -> str:
    """Return what the specialist would see of a user's message; raise UserError where that is nothing."""
    from insource.errors import UserError

    seen = specialist.inputs.text_of_user(text)
    if seen is None:
        raise UserError(
            f"--text is blank ({text!r}); a text was expected. The gateway sends such a request upstream (no_input)."
        )
    return seen


def _evidence(
    config: Config, version: SpecialistVersion, specialist: Specialist, evidence: Any
) -> list[dict[str, Any]]:
    from insource.store.snapshots import read_snapshot

    rows = read_snapshot(config.home, str(version.lineage.get("snapshot", "")))
    answers = specialist.answers
    told = []
    for each in evidence:
        text = each.text
        if each.row is not None:
            row = rows[each.row] if rows and each.row < len(rows) else None
            text = row.text if row is not None else "(this row of the training snapshot is not kept any more)"
        answer = None if each.answer is None else answers.display(answers.answers[each.answer])
        told.append({"kind": each.kind, "text": text, "weight": each.weight, "answer": answer})
    return told


def _threshold(threshold: float | None) -> str:
    return "no threshold: nothing is certified" if threshold is None else f"threshold {threshold:.4f}"


def _verdict(agrees: bool | None) -> str:
    if agrees is None:
        return "could not be compared: no reference came"
    return "agreed with the reference" if agrees else "differed from the reference"


def _shortened(text: str) -> str:
    """Return a text on one line, its end left out where it is long."""
    line = " ".join(text[: 4 * SHOWN].split())
    return line if len(line) <= SHOWN and len(text) <= 4 * SHOWN else f"{line[:SHOWN].rstrip()}…"


def _show(console: Console, found: dict[str, Any]) -> None:
    from insource.cli.output import percent, printable, table

    for number, step in enumerate(found["steps"], 1):
        console.print(f"{number}. {printable(step)}")
    if found.get("note"):
        console.print(f"note: {found['note']}")
    if not found["decided_by"]:
        return
    first, second = found["answer"], found["runner_up"]
    console.print(
        printable(
            f"answer {first} ({percent(found['probability'])}), then {second} "
            f"({percent(found['runner_up_probability'])})"
        )
    )
    grams = [(f"“{row['text']}”", f"{row['weight']:+.2f}") for row in found["evidence"] if row["kind"] == "n-gram"]
    near = [
        (_shortened(row["text"]), row["answer"], f"{row['weight']:.2f}")
        for row in found["evidence"]
        if row["kind"] != "n-gram"
    ]
    if grams:
        console.print(table(f"n-grams, in log-odds of {first} over {second}", ("n-gram", "weight"), grams))
    if near:
        console.print(table("nearest training rows", ("text", "reference", "cosine"), near))
