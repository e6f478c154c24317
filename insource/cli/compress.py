"""`insource compress`: a version made smaller, certified anew, with what that cost and saved beside its source.

It shows the outcome; compressing is `training.compression`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from insource.training.compression.compress import Compressed

_EPILOG = "\b\nExample:\n  insource compress triage@1 --layers 3 --vocabulary --quantise int8 --most-loss 0.02"
_PRECISIONS = ["int8", "int8-static", "int4", "fp32"]
_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(epilog=_EPILOG)
@click.argument("name", metavar="NAME[@V]")
@click.option("--quantise", type=click.Choice(_PRECISIONS), help="Write the encoder's weights in this precision.")
@click.option("--layers", type=click.IntRange(min=1), metavar="N", help="Keep N of the encoder's layers.")
@click.option("--heads", type=_SHARE, metavar="SHARE", help="Take out this share of its attention heads.")
@click.option("--width", type=_SHARE, metavar="SHARE", help="Take out this share of each layer's intermediate neurons.")
@click.option("--vocabulary", is_flag=True, help="Take out words that no row it learns from uses.")
@click.option("--most-loss", type=click.FloatRange(0, 1), default=0.01, show_default=True, metavar="X",
              help="Refuse to lose more accuracy than this on the rows held out.")  # fmt: skip
@click.option("--least-agreement", type=click.FloatRange(0, 1), metavar="A",
              help="Refuse to agree with the source on less than this.")  # fmt: skip
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    name: str,
    most_loss: float,
    least_agreement: float | None,
    json_path: str | None,
    **chosen: Any,
) -> None:
    """Make a version's encoder smaller, fit and certify its head anew, and register what comes out as a candidate.

    The source stays as it is. Both are measured on the rows held out from the source's training.
    """
    from insource.cli.opening import configuration, find_version, open_artifacts, open_registry
    from insource.cli.progress import Bars
    from insource.governance.energy import open_energy
    from insource.training.compression.compress import Limits, compress
    from insource.training.compression.smaller import How
    from insource.training.run import Workshop
    from insource.training.trunks import TrunkRoom

    config, energy = configuration(ctx), open_energy()
    with Bars() as bars, open_registry(config) as registry:
        version, artifacts = find_version(registry, name), open_artifacts(config)
        room = TrunkRoom(config.home, artifacts, bars.say)
        shop = Workshop(config.home, registry, artifacts, room, bars.say, _now)
        found = compress(
            version, How(**chosen), _task(config, version), shop,
            joules=lambda seconds: energy.of_local(seconds).value, limits=Limits(most_loss, least_agreement),
        )  # fmt: skip
    told = found.to_json() | {"energy": energy.of_local(1.0).method}
    emit(told, json_path, lambda console: _show(console, found, told["energy"]))


def _task(config: Any, version: Any) -> Any:
    """Return the task as configured, else with the promise that the source was certified for."""
    from insource.types import Task

    promise = version.lineage.get("promise", {})
    return config.tasks.get(version.task) or Task(version.task, **promise)


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _show(console: Console, found: Compressed, method: str) -> None:
    from insource.cli.output import milliseconds, percent, table

    version, old, new = found.trained.version, found.beside.source, found.beside.result
    name = f"{found.source.task}@{found.source.version}"
    gained = f"{100 * (new.accuracy - old.accuracy):+.1f} points"
    rows = [
        ("accuracy", percent(old.accuracy), percent(new.accuracy), gained),
        ("says the same", "", percent(found.beside.agreement), ""),
        ("certified coverage", _coverage(found.source), _coverage(version), ""),
        ("size", _megabytes(old.size_bytes), _megabytes(new.size_bytes), percent(new.size_bytes / old.size_bytes)),
    ]
    for number, which in enumerate(("p50", "p99")):
        one, other = old.latency_ms[number], new.latency_ms[number]
        rows.append((f"one answer, {which}", milliseconds(one), milliseconds(other), f"{one / other:.1f} x as fast"))
    one, other = old.joules_per_thousand, new.joules_per_thousand
    rows.append((f"energy of 1,000 answers, {method}", f"{one:.2g} J", f"{other:.2g} J", percent(other / one)))
    title = f"{version.name}, a candidate compressed from {name}, on {found.beside.rows:,} rows held out"
    console.print(table(title, ("", name, version.name, "change"), rows))
    for note in found.trained.notes:
        console.print(f"note: {note}")
    if version.calibration is not None and version.calibration.threshold is not None:
        console.print(f"Next: insource promote {version.name}")


def _coverage(version: Any) -> str:
    from insource.cli.output import percent

    return percent(version.calibration.coverage if version.calibration else 0.0)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
