"""The report as one self-contained HTML page: no script, nothing fetched, readable in print and by a screen reader.

It knows how figures are laid out; it computes none.
"""

from __future__ import annotations

from collections.abc import Iterator

from insource.governance import energy
from insource.governance.figures import Report, TaskFigures
from insource.governance.markup import document, heading, notes, paragraph, safe, table, tiles
from insource.governance.page_task import GRAVE, section
from insource.governance.style import STYLE
from insource.governance.wording import (
    VERDICTS,
    count,
    joules,
    joules_value,
    moment,
    money,
    percent,
    percent_range,
    saved,
    verdicts,
)

WORDS = (
    ("Coverage", "the share of a task's requests that its specialist answered; the rest went upstream."),
    ("Risk", "the share of accepted answers that differ from the reference: the teacher's answer, or gold."),
    (
        "Certificate",
        "at the confidence level stated, at most the promised share of accepted answers differs from the reference, "
        "for requests like those that certified the version. It speaks for the version as a whole, not for one answer.",
    ),
    (
        "Risk realised",
        "what the audit sample found among accepted answers in the period. It watches; it does not certify, and who "
        "looks often sees the interval err more often than its level says.",
    ),
    ("Saved", "an accepted request that was not audited counts as the mean cost of the task's upstream replies."),
    (
        "Energy, local",
        f"{energy.LOCAL_FORMULA}. The ledger does not keep how an amount was found, so it is shown as modelled.",
    ),
    ("Energy, upstream", f"{energy.UPSTREAM_FORMULA}."),
    (
        "Energy saved",
        "upstream answers avoided, at the mean of the task's own, less the local work for all its requests; the range "
        "takes the worst end of each side. A claim under this model, not a measurement.",
    ),
)


def render_page(report: Report) -> str:
    """Return the page as HTML text; whatever stands in the figures is escaped."""
    return document("insource report", STYLE, "".join(_parts(report)))


def _parts(report: Report) -> Iterator[str]:
    since = moment(report.since) if report.since else "the first request on"
    yield f"<header>{heading(1, 'insource report')}"
    yield paragraph(f"Requests from {since} until {moment(report.now)}, all tasks of this store.", "soft")
    yield "</header><main>"
    if not report.ledger:
        yield paragraph("Nothing has been served here yet, so there is no ledger; what is registered is listed below.")
    else:
        yield _summary(report)
    yield notes("cautions grave", (
        f"{task.name}: {caution.text}" for task in report.tasks for caution in task.cautions if caution.code in GRAVE
    ))  # fmt: skip
    if report.tasks:
        yield _overview(report)
    else:
        yield paragraph("No task is configured or trained yet. `insource train FILE --task NAME` makes a version.")
    for number, task in enumerate(report.tasks, 1):
        yield section(task, f"task-{number}", report.level)
    yield f"</main><footer>{heading(2, 'How to read this')}<dl>"
    yield "".join(f"<dt>{safe(word)}</dt><dd>{safe(meaning)}</dd>" for word, meaning in WORDS)
    yield "</dl>"
    yield paragraph(f"Intervals: exact (Clopper and Pearson), two-sided, {percent(report.level, 0)}.")
    yield "</footer>"


def _summary(report: Report) -> str:
    totals = report.totals
    compared = f"{count(totals.compared)} accepted answers audited and compared"
    spent = f"spent: {money(totals.cost)}"
    outside = f"{count(totals.outside)} of no task" if totals.outside else "all of a task"
    return tiles((
        ("Requests", count(totals.requests), outside),
        ("Answered locally", percent(totals.coverage.value if totals.coverage else None), count(totals.accepted)),
        ("Promises", verdicts(totals), compared),
        ("Cost saved", saved(totals.cost_saved), spent),
        ("Energy saved, modelled", joules_value(totals.energy.saved), joules(totals.energy.saved, value=False)),
    ))  # fmt: skip


def _overview(report: Report) -> str:
    columns = ("Task", "Promise", "Active", "Requests", "Coverage", "Risk realised", "Saved")
    return heading(2, "Tasks") + table(
        "Each task with what its audits say about its promise; intervals in brackets.",
        columns,
        (_row(task) for task in report.tasks),
        figures=(3,),
    )


def _row(task: TaskFigures) -> tuple[str, ...]:
    return (
        task.name,
        VERDICTS[task.verdict],
        f"{task.active.name} ({task.active.family})" if task.active else "none",
        count(task.requests),
        percent_range(task.coverage),
        f"{percent_range(task.audits.risk)}; promised {percent(task.target_risk)}",
        saved(task.cost_saved),
    )
