"""`insource train`: from a labelled traffic file to a certified candidate in the registry.

It reads the file and shows the outcome; training is `training.run`'s business, a tier's certificate `train_tier`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option
from insource.cli.promises import promise_options, promised

if TYPE_CHECKING:
    from rich.console import Console

    from insource.cli.opening import Say
    from insource.config import Config
    from insource.store.registry import Registry
    from insource.training.outcome import Trained
    from insource.types import Example, Task

    Run = Callable[[Sequence[Example], Registry, Say, int], tuple[Any, Any]]

_EPILOG = "\b\nExample:\n  insource train last-month.jsonl --task triage --target-risk 0.02 --guard unsafe=0.1"


@click.command(epilog=_EPILOG)
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option("--task", "task_name", required=True, metavar="NAME", help="The task to train; lines may name it.")
@promise_options
@click.option("--family", default="auto", metavar="NAME",
              help="linear, static, two-tier, encoder-frozen, encoder or auto [auto].")  # fmt: skip
@click.option("--tier", metavar="HOUSE", help="Certify this upstream in the house as a tier, instead of training.")
@click.option("--strict", is_flag=True, help="Certify on rows set aside, instead of cross-fitting.")
@click.option("--no-certify", is_flag=True, help="Fit on every row and certify nothing.")
@click.option("--gold", is_flag=True, help="Learn from gold instead of the teacher's answer where there is gold.")
@click.option("--balance", type=float, default=0.0, metavar="SHARE",
              help="Make rare answers likelier: 0 not at all, 1 as if all were as frequent [0].")  # fmt: skip
@click.option("--base", default="all-MiniLM-L6-v2", metavar="NAME", help="Base model: known name, folder or hub id.")
@click.option("--teacher-version", "teacher", type=click.IntRange(min=1), metavar="V",
              help="Distil this version into family encoder, on requests without an answer, too.")  # fmt: skip
@click.option("--layers", type=click.IntRange(min=1), metavar="N", help="Leave so many of the encoder's layers.")
@click.option("--small-vocabulary", is_flag=True, help="Leave it the words that the rows it learns from use.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="How often it sees a row [4 to 10].")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Its highest learning rate [0.0002].")
@click.option("--precision", type=click.Choice(["auto", "int8", "fp32"]), default="auto", help="Of the encoder [auto].")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes splits and folds.")
@click.option("--show-suspects", "suspects", type=click.IntRange(min=1), is_flag=False, flag_value=20, metavar="[N]",
              help="List the N surest examples whose answer looks wrong [20]; --json has all.")  # fmt: skip
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read, and count them.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, file: str, task_name: str, json_path: str | None, **chosen: Any) -> None:
    """Train, certify and register a specialist from FILE (JSON lines, plain or .gz).

    With --tier nothing is trained: the server of [upstreams.HOUSE] is asked for every request of FILE that the task's
    active specialist would escalate, and the score from which on its answers are accepted is certified. What it has
    answered is kept: a run that was broken off goes on where it stopped.
    """
    from insource.cli import train_suspects
    from insource.cli.opening import configuration, open_registry
    from insource.cli.progress import Bars
    from insource.errors import UserError
    from insource.traffic import examples_of_task, read

    if chosen["strict"] and chosen["no_certify"]:
        raise UserError("--strict and --no-certify exclude each other; at most one was expected. Drop one.")
    train_suspects.check_choices(chosen)
    config = configuration(ctx)
    task = promised(config, task_name, chosen)
    run = _training(config, task, chosen) if chosen["tier"] is None else _certifying(config, task, chosen)
    with Bars() as bars:
        traffic = read(file, skip_bad=chosen["skip_bad"], progress=bars.say("reading"))
        _, examples = examples_of_task(traffic, task_name)
        with open_registry(config) as registry:
            trained, show = run(examples, registry, bars.say, traffic.skipped)
    most = chosen["suspects"]
    told = trained.to_json() | (train_suspects.listed(trained) if most else {})

    def show_all(console: Console) -> None:
        show(console, trained)
        if most:
            train_suspects.show(console, trained, most)

    emit(told, json_path, show_all)


def _training(config: Config, task: Task, chosen: Mapping[str, Any]) -> Run:
    """Return what trains a specialist, with the choices checked."""
    from insource.cli.opening import open_artifacts
    from insource.training.recipe import Recipe
    from insource.training.run import train
    from insource.training.tuning.settings import Settings

    method = "strict" if chosen["strict"] else "none" if chosen["no_certify"] else "cross-fit"
    told = {name: chosen[name] for name in ("epochs", "rate") if chosen[name] is not None}
    recipe = Recipe(
        chosen["family"], method, chosen["seed"], chosen["base"], chosen["precision"], chosen["gold"],
        Settings(**told) if told else None, chosen["layers"], chosen["small_vocabulary"], chosen["teacher"],
        chosen["balance"],
    )  # fmt: skip
    recipe.check()

    def run(examples: Sequence[Example], registry: Registry, say: Say, skipped: int) -> tuple[Any, Any]:
        artifacts = open_artifacts(config)
        trained = train(examples, task, recipe, home=config.home, registry=registry, artifacts=artifacts, say=say,
                        now=_now, skipped=skipped)  # fmt: skip
        return trained, _show

    return run


def _certifying(config: Config, task: Task, chosen: Mapping[str, Any]) -> Run:
    """Return what certifies a tier in the house, with the choices checked."""
    from insource.cli.train_tier import certify, check_choices, show

    tier = chosen["tier"]
    model = check_choices(config, tier, chosen)

    def run(examples: Sequence[Example], registry: Registry, say: Say, skipped: int) -> tuple[Any, Any]:
        gold, seed = chosen["gold"], chosen["seed"]
        return certify(config, task, tier, model, examples, registry, say, skipped=skipped, gold=gold, seed=seed), show

    return run


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _show(console: Console, trained: Trained) -> None:
    from insource.cli.output import milliseconds, percent, table

    version, calibration, figures = trained.version, trained.version.calibration, trained.figures
    rows: list[tuple[str, str]] = [
        ("family", version.family),
        ("why", figures.why),
        ("rows", "train {:,} · calibration {:,} · test {:,}".format(*figures.rows)),
        ("left out", _left_out(trained)),
        ("answers", _answers(trained)),
    ]
    if figures.test is not None:
        told = f"accuracy {percent(figures.test.accuracy)} · macro F1 {percent(figures.test.macro_f1)}"
        rows.append((f"on {figures.rows[2]:,} test rows", told))
    if calibration is not None:
        accepts = calibration.threshold is not None
        bound = f"risk at most {percent(calibration.risk_upper_bound)} at confidence {calibration.confidence_level:g}"
        rows.append(
            ("certified", f"accepts {percent(calibration.coverage)} · {bound}" if accepts else "accepts nothing")
        )
        rows += [
            (f"guard {each.answer}", f"missed at most {percent(each.missed_upper_bound)} (limit {percent(each.limit)})")
            for each in calibration.guards
        ]
    rows += [
        ("size", f"{figures.size_bytes / 1e6:.1f} MB"),
        ("one answer", f"p50 {milliseconds(figures.latency_ms[0])} · p99 {milliseconds(figures.latency_ms[1])}"),
        ("artifact", str(trained.artifact)),
        ("took", f"{trained.seconds:.1f} s"),
    ]
    console.print(table(f"{version.name}, a candidate", ("", ""), rows))
    for note in trained.notes:
        console.print(f"note: {note}")
    if calibration is not None and calibration.threshold is not None:
        console.print(f"Next: insource promote {version.name}")
    elif calibration is None:
        console.print("Nothing was certified (--no-certify), so it will accept nothing.")


def _left_out(trained: Trained) -> str:
    snapshot = trained.snapshot
    told = f"{trained.skipped:,} bad · {snapshot.unlabelled:,} without a reference"
    more = ((snapshot.textless, "without text"), (snapshot.outside, "with an answer outside the set"))
    return " · ".join([told, *(f"{count:,} {what}" for count, what in more if count)])


def _answers(trained: Trained) -> str:
    space = trained.snapshot.answers
    once = f", {len(space.rare)} of them seen once" if space.rare else ""
    return f"{len(space)} in a closed set{once}"
