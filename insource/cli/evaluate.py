"""`insource evaluate`: a registered version measured on a labelled file, through the backend that serves it.

It reads the file and shows the figures; measuring is `training.evaluate`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from insource.training.evaluate import Evaluation

_EPILOG = "\b\nExample:\n  insource evaluate triage@2 labelled.jsonl --errors mistakes.jsonl"


@click.command(epilog=_EPILOG)
@click.argument("name", metavar="NAME[@V]")
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option("--errors", type=click.Path(dir_okay=False), metavar="OUT", help="Write the mistakes as JSON lines.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read, and count them.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, name: str, file: str, errors: str | None, skip_bad: bool, json_path: str | None
) -> None:
    """Measure a version on FILE: accuracy, coverage, risk, latency. Gold counts where a line has gold."""
    from insource.cli.opening import configuration, open_version, split_name
    from insource.cli.progress import Bars
    from insource.errors import DataError
    from insource.traffic import examples_of_task, read, write
    from insource.training.evaluate import evaluate

    config = configuration(ctx)
    with Bars() as bars:
        version, specialist = open_version(config, name, bars.say)
        traffic = read(file, skip_bad=skip_bad, progress=bars.say("reading"))
        _, examples = examples_of_task(traffic, split_name(name)[0] if traffic.tasks else None)
        pairs = [
            (text, reference)
            for example in examples
            if (text := specialist.inputs.text_of(example.request)) is not None
            and (reference := example.gold if example.gold is not None else example.answer) is not None
        ]
        if not pairs:
            raise DataError(f"{file} has no line with both a text and a reference; evaluate needs labelled lines.")
        space, calibration = specialist.answers, version.calibration
        busy = bars.say(f"answering {len(pairs):,} texts")
        busy(0, None)
        measured = evaluate(
            specialist,
            [text for text, _ in pairs],
            [space.find(reference) for _, reference in pairs],
            threshold=calibration.threshold if calibration else None,
            confidence_level=calibration.confidence_level if calibration else 0.95,
        )
        busy(1, 1)
    if errors is not None:
        write(errors, _mistakes(measured, pairs))
    outside = sum(1 for reference in measured.references.tolist() if not reference)
    result = {
        "task": version.task,
        "version": version.version,
        **measured.figures(),
        "skipped": traffic.skipped,
        "left_out": len(examples) - len(pairs),
        "outside": outside,
    }
    emit(result, json_path, lambda console: _show(console, result, measured, errors))


def _mistakes(measured: Evaluation, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the wrong answers, the surest first."""
    accepted, wrong = measured.accepted, measured.wrong
    rows = [
        {
            "text": text,
            "reference": reference,
            "answer": label,
            "score": float(score),
            "accepted": bool(kept),
        }
        for (text, reference), label, score, kept, bad in zip(
            pairs, measured.labels.tolist(), measured.scores, accepted, wrong, strict=True
        )
        if bad
    ]
    return sorted(rows, key=lambda row: -row["score"])


def _show(console: Console, result: dict[str, Any], measured: Evaluation, errors: str | None) -> None:
    from insource.cli.output import milliseconds, percent, printable, table

    latency = result["latency_ms"]
    risk = "nothing accepted" if result["selective_risk"] is None else percent(result["selective_risk"])
    rows = [
        ("rows", f"{result['rows']:,}" + (f" ({result['outside']:,} outside the set)" if result["outside"] else "")),
        ("accuracy", percent(result["accuracy"])),
        *((f"  {printable(each['field'])}", percent(each["accuracy"])) for each in result["per_field"]),
        ("macro F1", percent(result["macro_f1"])),
        ("coverage", percent(result["coverage"])),
        ("risk of accepted answers", risk),
        ("one answer", f"p50 {milliseconds(latency['p50'])} · p99 {milliseconds(latency['p99'])}"),
        ("throughput", f"{result['texts_per_second']:,.0f} texts/s"),
    ]
    console.print(table(f"{result['task']}@{result['version']}", ("", ""), rows))
    forgotten = [
        (row["answer"], f"{row['rows']:,}", percent(row["recall"]), percent(row["precision"]))
        for row in measured.forgotten()
    ]
    if forgotten:
        console.print(table("least often found", ("answer", "rows", "recall", "precision"), forgotten))
    confused = measured.confused()
    if confused:
        console.print(table("most often confused", ("reference", "answer", "times"), confused))
    if errors is not None:
        console.print(f"{int(measured.wrong.sum()):,} mistakes, the surest first: {errors}")
