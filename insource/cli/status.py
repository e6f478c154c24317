"""`insource status`: a running gateway and what it did in the last hour, in one table, live with --watch.

It joins what the gateway says of itself with the ledger and the registry; the figures are those of the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import console, emit, json_option, printable, table
from insource.errors import StoreError, UserError

if TYPE_CHECKING:
    from rich.console import Console, Group

    from insource.cli.gateway_state import GatewayState
    from insource.config import Config
    from insource.governance.figures import Report, Share, TaskFigures

PERIOD = timedelta(hours=1)
REFRESH_SECONDS = 1.0
READING_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Stored:
    """What ledger and registry say; `report` is None, and `trouble` says why, where they cannot be read.

    `rollout` is about the one task that was asked for, if any.
    """

    report: Report | None = None
    reviews: int | None = None
    trouble: str | None = None
    rollout: Mapping[str, Any] | None = None
    keys: tuple[Mapping[str, Any], ...] | None = None


@click.command("status", epilog="\b\nExample:\n  insource status --watch")
@click.argument("task", required=False)
@click.option("--watch", is_flag=True, help="Stay and refresh every second; Ctrl-C ends it.")
@json_option
@click.pass_context
def command(ctx: click.Context, task: str | None, watch: bool, json_path: str | None) -> None:
    """Show the gateway at the configured address, and all tasks (or TASK) over the last hour.

    Of TASK also where it stands in the rollout: stage, the evidence for and against with about how many requests a
    verdict will take, its risk with the bound of now, drift, and what it saved.

    Exits with 1 where the gateway cannot be reached; what is stored is shown all the same.
    """
    config = configuration(ctx)
    if watch:
        shown = console()
        if json_path is not None or not shown.is_terminal:
            raise UserError("--watch draws on a terminal; one was expected, and no --json. Leave --watch out.")
        sparing = Sparing(lambda: stored_figures(config, task, datetime.now(UTC)))
        reached = follow(lambda: (gateway_state(config), sparing()), config, time.sleep, shown)
        ctx.exit(0 if reached else 1)
    stored, state = stored_figures(config, task, datetime.now(UTC)), gateway_state(config)
    emit(to_data(config, state, stored), json_path, lambda shown: shown.print(drawn(config, state, stored)))
    ctx.exit(0 if state.reachable else 1)


def gateway_state(config: Config) -> GatewayState:
    """Ask the gateway at the configured address."""
    import asyncio
    import os

    from insource.cli.gateway_state import KEY_VARIABLE, look

    at = config.gateway
    return asyncio.run(look(at.host, at.port, key=os.environ.get(KEY_VARIABLE), certificate=at.tls_cert))


def stored_figures(config: Config, task: str | None, now: datetime) -> Stored:
    """Return the report of the last hour and the number of reviews that wait; raises UnknownTask."""
    from insource.cli.keys import describe
    from insource.cli.report import make_report
    from insource.cli.status_task import look

    try:
        report = make_report(config, now=now, since=now - PERIOD, task=task)
        with open_registry(config) as registry:
            rollout = look(config, registry, task) if task is not None else None
            keys = tuple(describe(registry, config.home, now))
            return Stored(report, registry.waiting_reviews(), rollout=rollout, keys=keys)
    except StoreError as error:
        return Stored(trouble=str(error))


class Sparing:
    """Reads again only when reading takes a small share of the time: a large ledger is read less often."""

    def __init__(self, read: Callable[[], Stored], clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._last: Stored | None = None
        self._again = 0.0

    def __call__(self) -> Stored:
        """Return what was read last, or read anew."""
        started = self._clock()
        if self._last is None or started >= self._again:
            self._last = self._read()
            ended = self._clock()
            self._again = ended + (ended - started) * (1 / READING_SHARE - 1)
        return self._last


def follow(
    read: Callable[[], tuple[GatewayState, Stored]], config: Config, wait: Callable[[float], None], shown: Console
) -> bool:
    """Draw again after every `wait` until Ctrl-C; return whether the gateway was reachable at the end."""
    from rich.live import Live

    reachable = False
    try:
        with Live(console=shown, auto_refresh=False) as live:
            while True:
                state, stored = read()
                reachable = state.reachable
                live.update(drawn(config, state, stored), refresh=True)
                wait(REFRESH_SECONDS)
    except KeyboardInterrupt:
        return reachable


def to_data(config: Config, state: GatewayState, stored: Stored) -> dict[str, Any]:
    """Return everything as `--json` has it."""
    from insource.config.digest import config_digest

    report = stored.report
    data: dict[str, Any] = {
        "gateway": asdict(state),
        "configuration": config_digest(config),
        "proofs": _proofs(config),
        "reviews_waiting": stored.reviews,
        "trouble": stored.trouble,
        "rollout": stored.rollout,
        "keys": stored.keys,
    }
    if report is None:
        return data | {"since": None, "requests": None, "coverage": None, "tasks": []}
    return data | {
        "since": report.since,
        "requests": report.totals.requests,
        "coverage": report.totals.coverage,
        "tasks": [_task_data(config, task) for task in report.tasks],
    }


def _proofs(config: Config) -> dict[str, Any]:
    """Return how many of the ledger's rows are signed, and why no further one is, None where they are."""
    from insource.store.proof.folder import ProofFolder
    from insource.store.proof.note import Checkpoint

    folder = ProofFolder(config.home)
    try:
        note = folder.checkpoint()
        return {"signed_rows": 0 if note is None else Checkpoint.read(note).size, "refusal": folder.refusal}
    except StoreError as error:
        return {"signed_rows": None, "refusal": str(error)}


def _task_data(config: Config, task: TaskFigures) -> dict[str, Any]:
    from insource.config.keeping import keeping

    configured = config.tasks.get(task.name)
    newest = task.active or (task.versions[-1] if task.versions else None)
    return {
        "task": task.name,
        "version": newest and newest.version,
        "stage": newest and newest.stage,
        "tiers": list(configured.tiers) if configured else [],
        "requests": task.requests,
        "accepted": task.accepted,
        "kept": task.reasons.get("kept_local", 0),
        "coverage": task.coverage,
        "risk": task.audits.risk,
        "risk_upper_bound": newest and newest.risk_upper_bound,
        "target_risk": task.target_risk,
        "verdict": task.verdict.value,
        "latency": task.latency,
        "cost": task.cost,
        "cost_saved": task.cost_saved,
        "cautions": [caution.text for caution in task.cautions],
        "keeping": asdict(keeping(config, task.name)),
    }


def drawn(config: Config, state: GatewayState, stored: Stored) -> Group:
    """Return the tables and the remarks below them."""
    from rich.console import Group
    from rich.text import Text

    from insource.config.keeping import task_lines

    data = to_data(config, state, stored)
    parts: list[Any] = [table(f"Gateway {state.url}", ("", ""), _gateway_rows(data, state, stored))]
    if data["tasks"]:
        columns = ("task", "version", "stage", "tiers", "requests", "coverage", "kept", "risk realised",
                   "risk at most", "promised", "p50 here", "p50 up")  # fmt: skip
        parts.append(table("Last hour", columns, map(_task_row, data["tasks"])))
    elif stored.trouble is None:
        parts.append(Text("No task is configured or trained yet."))
    if stored.trouble is not None:
        parts.append(Text(printable(f"! the stored figures cannot be read: {stored.trouble}")))
    if (refusal := data["proofs"]["refusal"]) is not None:
        parts.append(Text(printable(f"! the ledger's proofs are NOT signed: {refusal}")))
    if stored.rollout is not None:
        parts += [Text(line) for line in _rollout(stored)]
    parts += [Text(printable(line)) for line in task_lines(config, [row["task"] for row in data["tasks"]])]
    parts += [Text(printable(f"! {row['task']}: {caution}")) for row in data["tasks"] for caution in row["cautions"]]
    return Group(*parts)


def _rollout(stored: Stored) -> list[str]:
    """Return the lines on the one task asked for; audits become requests by what the last hour saw of both."""
    from insource.cli.status_task import lines
    from insource.governance.wording import saved

    task = stored.report.tasks[0] if stored.report is not None and stored.report.tasks else None
    rate = task.audits.coin / task.requests if task is not None and task.requests else None
    told = list(lines(stored.rollout or {}, rate))
    if task is not None and task.cost_saved.known:
        told.append(f"  saved in the last hour: {saved(task.cost_saved)}")
    return told


def _gateway_rows(data: Mapping[str, Any], state: GatewayState, stored: Stored) -> list[tuple[str, object]]:
    from insource.cli.keys import key_rows
    from insource.governance.wording import count, percent_range

    rows: list[tuple[str, object]] = [("state", _condition(state))]
    if state.reachable and state.detail is not None:
        rows.append(("figures", state.detail))
    elif state.reachable:
        rows += [
            ("workers", state.workers),
            ("in flight", state.in_flight),
            ("ledger", f"{count(state.ledger_waiting or 0)} rows waiting, {count(state.ledger_lost or 0)} lost"),
            ("configuration", _configuration(state, data["configuration"])),
        ]
        rows += [(f"upstream {name}", _breaker(told)) for name, told in sorted(state.upstreams.items())]
    if stored.report is not None:
        totals = stored.report.totals
        answered = f", {percent_range(totals.coverage)} answered here" if totals.requests else ""
        rows.append(("last hour", f"{count(totals.requests)} requests{answered}"))
    if stored.keys is not None:
        rows += key_rows(stored.keys)
    if stored.reviews is not None:
        rows.append(("reviews", f"{count(stored.reviews)} waiting"))
    return rows


def _condition(state: GatewayState) -> str:
    if not state.reachable:
        return f"not reachable: {state.detail}; what follows is what is stored"
    return "ready" if state.ready else "starting or draining: it takes no requests now"


def _configuration(state: GatewayState, here: str) -> str:
    digests = ", ".join(f"{digest} ({workers})" for digest, workers in sorted(state.configurations.items()))
    if len(state.configurations) == 1:
        digests = next(iter(state.configurations))
    told = digests or "unknown"
    if state.loaded is not None:
        told += f", loaded {state.loaded:%Y-%m-%d %H:%M:%S} UTC"
    if state.configurations and here not in state.configurations:
        told += f"; the file here says {here}"
    if state.reloads_refused:
        told += f"; {state.reloads_refused} reloads refused"
    return told


def _breaker(told: str) -> str:
    return "asked" if told == "closed" else "resting: its circuit breaker is open"


def _task_row(row: Mapping[str, Any]) -> tuple[object, ...]:
    from insource.governance.wording import count, milliseconds, percent, percent_range

    risk: Share | None = row["risk"]
    coverage: Share | None = row["coverage"]
    latency = row["latency"]
    here, up = (found.p50 if (found := latency.get(outcome)) else None for outcome in ("accepted", "escalated"))
    return (
        row["task"],
        f"@{row['version']}" if row["version"] else "not trained",
        row["stage"],
        ", ".join(row["tiers"]) or None,
        count(row["requests"]),
        percent(coverage.value if coverage else None),
        count(row["kept"]),
        percent_range(risk),
        percent(row["risk_upper_bound"]),
        percent(row["target_risk"]),
        milliseconds(here),
        milliseconds(up),
    )
