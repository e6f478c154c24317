"""`insource learn`: trains candidates from the references that the ledger has collected, once or on a schedule.

It runs beside the gateway, never in it: at low priority, on fewer cores. What to learn from is for `lifecycle` to say.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_artifacts, open_registry
from insource.cli.output import emit, json_option, printable
from insource.cli.progress import Bars
from insource.errors import InsourceError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.config import Config
    from insource.lifecycle.learn import Learned, NotYet
    from insource.training.recipe import Recipe
    from insource.types import Task

    Found = Learned | NotYet | InsourceError

NICENESS = 10
_EVERY = re.compile(r"(\d{1,5})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command("learn", epilog="\b\nExample:\n  insource learn triage")
@click.argument("task", required=False)
@click.option("--watch", is_flag=True, help="Stay, and look again after every pause; Ctrl-C ends it.")
@click.option("--every", default="1h", show_default=True, metavar="TIME", help="The pause of --watch: 30m, 1h, 1d.")
@click.option("--anyway", is_flag=True, help="Train, however few references are new.")
@click.option("--new-answers", is_flag=True, help="Learn answers, too, that the last version does not know.")
@click.option("--family", default="auto", metavar="NAME",
              help="linear, static, two-tier, encoder-frozen or auto [auto].")  # fmt: skip
@click.option("--balance", type=float, metavar="SHARE",
              help="Make rare answers likelier: 0 not at all, 1 as if all were as frequent "
                   "[the last version's, or 0].")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes splits and folds.")
@click.option("--threads", type=click.IntRange(min=1), help="Cores to use [all but one].")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    task: str | None,
    watch: bool,
    every: str,
    anyway: bool,
    new_answers: bool,
    family: str,
    balance: float | None,
    seed: int,
    threads: int | None,
    json_path: str | None,
) -> None:
    """Train a candidate of TASK (or of every task that keeps its texts) from the references since its last version.

    Gold counts above the upstream's answers; a specialist's own accepted answers are never learned. The candidate is
    moved on by the steward, or by `insource promote`. Its base model is the last version's. Needs content = "full".
    """
    from insource.training.recipe import Recipe

    seconds = parse_pause(every)
    if watch and (json_path is not None or new_answers or anyway):
        raise UserError(
            "--watch excludes --json, --anyway and --new-answers, which are a person's judgement of one run; none of "
            "them was expected beside it. Leave it out."
        )
    config = configuration(ctx)
    used = give_way(threads)
    click.echo(f"learning on {used} of {os.cpu_count() or 1} cores, at low priority", err=True)
    recipe = Recipe(family, seed=seed, balance=balance or 0.0)
    recipe.check()
    same = ("base",) if balance is not None else ("base", "balance")
    while watch:
        follow(lambda: learn_all(config, task, recipe, same=same))
        time.sleep(seconds)
    found = learn_all(config, task, recipe, anyway=anyway, new_answers=new_answers, same=same)
    emit({"tasks": {name: _data(each) for name, each in found.items()}}, json_path, lambda shown: _show(shown, found))
    refused = next((each for each in found.values() if isinstance(each, InsourceError)), None)
    if refused is not None:
        raise refused


def follow(learn: Callable[[], Mapping[str, Found]]) -> None:
    """Learn once and say what came of it; a ledger that is not there yet, or busy, is waited for."""
    try:
        found = learn()
    except InsourceError as error:
        click.echo(printable(f"nothing was learned. {error}", keep="\n"), err=True)
        return
    for name, each in found.items():
        for line in _told(name, each):
            click.echo(line)


def learn_all(
    config: Config, only: str | None, recipe: Recipe, *, anyway: bool = False, new_answers: bool = False,
    same: Sequence[str] = (),
) -> dict[str, Found]:  # fmt: skip
    """Learn each task (or one), `same` as for `School.learn`; what one refuses does not keep the others from learning.

    Raises UserError where there is none to learn, or no ledger yet.
    """
    from insource.cli.watched_home import tasks_of
    from insource.lifecycle.learn import School

    found: dict[str, Found] = {}
    with Bars() as bars, open_registry(config) as registry, open_ledger(config) as ledger:
        school = School(ledger, registry, open_artifacts(config), home=config.home, say=bars.say,
                        now=lambda: datetime.now(UTC))  # fmt: skip
        for task in _chosen(tasks_of(config, registry), only):
            try:
                found[task.name] = school.learn(task, recipe, anyway=anyway, new_answers=new_answers, same=same)
            except InsourceError as error:
                found[task.name] = error
    return found


@contextmanager
def open_ledger(config: Config) -> Iterator[Any]:
    """Yield the ledger of a home; raise UserError where there is none yet."""
    from insource.store.ledger import FILE
    from insource.store.ledger_reader import LedgerReader

    if not (config.home / FILE).exists():
        raise UserError(
            f"There is no ledger in {config.home} yet; one with references was expected. Let traffic pass through "
            "`insource serve` first, or train from a file with `insource train`."
        )
    with LedgerReader(config.home) as ledger:
        yield ledger


def parse_pause(text: str) -> float:
    """Return "90s", "30m", "1h" or "1d" in seconds; raise UserError for anything else."""
    found = _EVERY.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise UserError(f"--every is {text!r}; a number and a unit, such as 30m, 1h or 1d, was expected.")
    return float(int(found[1]) * _UNITS[found[2]])


def give_way(threads: int | None, nice: Callable[[int], int] = os.nice) -> int:
    """Lower this process's priority, keep it to so many cores (all but one), and return how many it may use.

    Training beside serving on the same cores loses more than it takes, so one core is always left where there are two.
    """
    nice(NICENESS)
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    mine = sorted(os.sched_getaffinity(0))
    kept = mine[-(threads or max(len(mine) - 1, 1)) :]
    os.sched_setaffinity(0, kept)
    return len(kept)


def _chosen(tasks: Mapping[str, Task], only: str | None) -> list[Task]:
    from insource.errors import UnknownTask

    if only is not None:
        if only not in tasks:
            raise UnknownTask(
                f"Task {only!r} is neither configured nor trained here; `insource tasks` lists the tasks."
            )
        return [tasks[only]]
    full = [task for task in tasks.values() if task.content == "full"]
    if not full:
        raise UserError(
            'No task keeps its texts; one with content = "full" was expected, since there is nothing else to learn '
            "from. Set it in [tasks.NAME] of insource.toml: the default keeps digests only."
        )
    return full


def _data(found: Found) -> dict[str, Any]:
    from insource.lifecycle.learn import Learned

    if isinstance(found, Learned):
        return found.to_json()
    if isinstance(found, InsourceError):
        return {"refused": str(found), "code": found.code}
    return {"not_yet": found.why}


def _show(console: Console, found: Mapping[str, Found]) -> None:
    for name, each in found.items():
        for line in _told(name, each):
            console.print(line)


def _told(name: str, found: Found) -> Iterator[str]:
    from insource.cli.output import percent
    from insource.lifecycle.learn import Learned

    if isinstance(found, InsourceError):
        yield printable(f"{name}: nothing was learned. {found}", keep="\n")
    elif isinstance(found, Learned):
        version, calibration = found.trained.version, found.trained.version.calibration
        yield (f"{version.name} ({version.family}) is a candidate: {found.evidence:,} references certify, "
               f"{found.also:,} more teach, {found.gold:,} are gold, {found.new:,} new")  # fmt: skip
        for why, number in found.left_out.items():
            yield f"  left out: {number:,} {why}"
        if calibration is not None and calibration.threshold is not None:
            yield (f"  certified coverage {percent(calibration.coverage)}, risk at most "
                   f"{percent(calibration.risk_upper_bound)}; the steward takes it from here")  # fmt: skip
        else:
            yield "  it certifies nothing yet, and stays a candidate"
    else:
        yield f"{name}: nothing to learn yet: {found.why}"
