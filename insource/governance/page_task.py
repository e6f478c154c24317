"""One task's section of the page: its promise and what became of it, reasons, latency, versions and answers.

It lays figures out; it computes none.
"""

from __future__ import annotations

from collections.abc import Iterator

from insource.governance.drawing import KINDS, latency_lines, share_bar, stacked_bar
from insource.governance.figures import TaskFigures, Verdict, VersionFigures
from insource.governance.markup import heading, notes, paragraph, safe, table
from insource.governance.wording import (
    VERDICTS,
    count,
    joules,
    milliseconds,
    money,
    percent,
    percent_range,
    promise,
    promoted,
    saved,
)

GRAVE = frozenset({"bound_crossed", "artifact_damaged"})


def section(task: TaskFigures, anchor: str, level: float) -> str:
    """Return the section; `anchor` is its heading's id."""
    return f'<section aria-labelledby="{safe(anchor)}">{"".join(_parts(task, anchor, level))}</section>'


def _parts(task: TaskFigures, anchor: str, level: float) -> Iterator[str]:
    yield heading(2, task.name, anchor)
    yield f'<p><span class="verdict {task.verdict.value}">Promise: {safe(VERDICTS[task.verdict])}</span></p>'
    yield paragraph(promise(task))
    yield notes("cautions grave", (caution.text for caution in task.cautions if caution.code in GRAVE))
    yield notes("cautions", (caution.text for caution in task.cautions if caution.code not in GRAVE))
    if task.requests:
        yield _bars(task, level)
        yield _reasons(task)
        yield _latency(task)
        yield _sums(task)
    if task.versions:
        yield _versions(task)
    if task.active and task.active.per_answer:
        yield _answers(task.active)


def _bars(task: TaskFigures, level: float) -> str:
    active, risk = task.active, task.audits.risk
    about = f"{percent(level, 0)} interval as a whisker"
    coverage = f"Coverage: {percent_range(task.coverage)}"
    marks = [(active.certified_coverage if active else None, "certified")]
    top = max([2 * task.target_risk, *([risk.high * 1.1] if risk else [])])
    found = f"Risk realised: {percent_range(risk)}"
    bounds = [(task.target_risk, "promised at most"), (active.risk_upper_bound if active else None, "certified bound")]
    kind = "riskbroken" if task.verdict is Verdict.BROKEN else "risk"
    compared = f"{count(task.audits.disagreed)} of {count(task.audits.compared)} audited accepted answers differ"
    return (
        '<div class="pair">'
        + _figure(f"{coverage}, {about}", share_bar(task.coverage, marks, 1.0, coverage, "k0"))
        + _figure(f"{found}; {compared}", share_bar(risk, bounds, min(top, 1.0), f"{found}; {compared}", kind))
        + "</div>"
    )


def _reasons(task: TaskFigures) -> str:
    parts = [(reason.replace("_", " "), size) for reason, size in task.reasons.items()]
    said = "; ".join(f"{name} {count(size)} ({percent(size / task.requests)})" for name, size in parts)
    legend = "".join(
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="k{i % KINDS}" width="10" height="10"/></svg>'
        f"{safe(name)} {count(size)} ({safe(percent(size / task.requests))})</li>"
        for i, (name, size) in enumerate(parts)
    )
    bar = stacked_bar(parts, f"Reasons: {said}")
    return _figure("Why requests were accepted or escalated", f'{bar}<ul class="legend">{legend}</ul>')


def _latency(task: TaskFigures) -> str:
    known = {name: found for name, found in task.latency.items() if found is not None}
    if not known:
        return ""
    said = "; ".join(
        f"{name} median {milliseconds(found.p50)}, p95 {milliseconds(found.p95)}, p99 {milliseconds(found.p99)}"
        for name, found in known.items()
    )
    caption = f"Latency, from arrival to the last byte (large dot: median; then p95, p99): {said}"
    return _figure(caption, latency_lines(known, f"Latency: {said}"))


def _sums(task: TaskFigures) -> str:
    audits = task.audits
    rows = (
        ("Requests", f"{count(task.requests)}, of which {count(task.accepted)} accepted"),
        ("Picked by the audit coin", f"{count(audits.coin)} (rate {percent(task.audit_rate)})"),
        ("Accepted and audited", f"{count(audits.audited)}, of which {count(audits.compared)} with a reference"),
        ("Cost upstream", money(task.cost)),
        ("Cost saved", saved(task.cost_saved)),
        ("Energy, local", joules(task.energy.local)),
        ("Energy, upstream", joules(task.energy.upstream)),
        ("Energy saved", joules(task.energy.saved)),
        ("Decisions never settled", count(task.aborted)),
    )
    return table("Sums over the period", ("Figure", "Value"), rows)


def _versions(task: TaskFigures) -> str:
    rows = (
        (
            version.name,
            version.stage,
            version.family,
            percent(version.certified_coverage),
            percent(version.risk_upper_bound),
            percent(version.accuracy),
            percent_range(version.audits.risk),
            promoted(version),
            version.digest.removeprefix("sha256:")[:12],
        )
        for version in task.versions
    )
    columns = ("Version", "Stage", "Family", "Certified coverage", "Risk bound", "Test accuracy", "Risk realised",
               "Promoted", "Digest")  # fmt: skip
    return heading(3, "Versions") + table("Who promoted what, and why", columns, rows, figures=(3, 4, 5))


def _answers(version: VersionFigures) -> str:
    rows = (
        (row.answer, row.rows, row.accepted, row.missed, percent(row.missed_upper_bound)) for row in version.per_answer
    )
    columns = ("Answer", "Rows", "Accepted", "Missed", "Missed, upper bound")
    return heading(3, f"Answers of {version.name} on its test rows") + table(
        "Missed: accepted with another answer", columns, rows, figures=(1, 2, 3, 4)
    )


def _figure(caption: str, drawing: str) -> str:
    return f"<figure><figcaption>{safe(caption)}</figcaption>{drawing}</figure>"
