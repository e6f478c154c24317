"""`insource tasks`: the tasks that are configured or trained, their versions, and what these promise.

It joins the configuration with the registry; it judges no version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration, open_registry
from insource.cli.output import emit, json_option, percent, printable, table
from insource.cli.tasks_match import match

if TYPE_CHECKING:
    from rich.console import Console

    from insource.config import Config
    from insource.store.columns import Act
    from insource.store.registry import Registry
    from insource.types import SpecialistVersion, Stage, Suspension

_LINEAGE_SHOWN = 8


class _Tasks(click.Group):
    """A group whose first argument is a subcommand or else the name of a task."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; what is none is a task's name."""
        return super().resolve_command(ctx, args) if args[0] in self.commands else (one.name, one, args)


@click.group(
    cls=_Tasks,
    invoke_without_command=True,
    subcommand_metavar="[NAME | match FILE]",
    epilog="\b\nExample:\n  insource tasks triage",
)
@click.option("--name", metavar="NAME", help="The task to show, also where its name is that of a subcommand.")
@json_option
@click.pass_context
def command(ctx: click.Context, name: str | None, json_path: str | None) -> None:
    """List the tasks, or with NAME all versions of one, where they come from and who promoted them."""
    if ctx.invoked_subcommand is None:
        _shown(configuration(ctx), name, json_path)
    elif name is not None:
        raise click.UsageError(f"--name {name} leaves no room for '{ctx.invoked_subcommand}'. Give one of the two.")


@click.command("NAME", epilog="\b\nExample:\n  insource tasks triage")
@click.argument("name")
@json_option
@click.pass_context
def one(ctx: click.Context, name: str, json_path: str | None) -> None:
    """Show all versions of a task, where they come from and who promoted them."""
    _shown(configuration(ctx), name, json_path or (ctx.parent.params.get("json_path") if ctx.parent else None))


command.add_command(match)


def _shown(config: Config, name: str | None, json_path: str | None) -> None:
    with open_registry(config) as registry:
        if name is None:
            rows = [_task_row(task, config, registry) for task in sorted({*config.tasks, *registry.tasks()})]
            emit({"tasks": rows}, json_path, lambda console: _show_tasks(console, rows))
        else:
            data = _one_task(name, config, registry)
            emit(data, json_path, lambda console: _show_versions(console, data))


def threshold_text(version: Mapping[str, Any]) -> str | None:
    """Return a threshold with four digits; "none" where nothing is accepted, None where there is no version."""
    if version.get("version") is None:
        return None
    return "none" if version["threshold"] is None else f"{version['threshold']:.4f}"


def version_row(version: SpecialistVersion) -> dict[str, Any]:
    """Return a version's figures as `--json` has them; without a calibration they are None."""
    calibration = version.calibration
    return {
        "version": version.version,
        "stage": version.stage,
        "share": version.share,
        "family": version.family,
        "digest": version.digest,
        "created": version.created,
        "target_risk": calibration and calibration.target_risk,
        "confidence_level": calibration and calibration.confidence_level,
        "calibration_rows": calibration and calibration.rows,
        "certified_coverage": calibration and calibration.coverage,
        "risk_upper_bound": calibration and calibration.risk_upper_bound,
        "threshold": calibration and calibration.threshold,
    }


def _task_row(name: str, config: Config, registry: Registry) -> dict[str, Any]:
    """Return one task: its promise, its active version (else the newest), and a newer candidate that waits."""
    versions, task = registry.versions(name), config.tasks.get(name)
    active = next((version for version in versions if version.stage == "active"), None)
    shown = active or (versions[-1] if versions else None)
    row: dict[str, Any] = {"task": name, "configured": task is not None, "versions": len(versions)}
    row |= {"active": active and active.version, "newest": versions[-1].version if versions else None}
    trial, suspension = registry.trial(name), registry.suspension(name)
    row["trial"] = None if trial is None else {"version": trial.version, "stage": trial.stage, "share": trial.share}
    row |= {"suspended": _suspended(suspension), "flaws": list(registry.flaws(name))}
    row |= version_row(shown) if shown else dict.fromkeys(("version", "stage", "family", "threshold"))
    if task is not None:
        row |= {"target_risk": task.target_risk, "confidence_level": task.confidence_level}
    if shown is not None and shown.calibration is not None:
        row["certified_for"] = shown.calibration.target_risk
    return row


def _show_tasks(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        console.print("No task yet: none is configured and none has a version.")
        console.print("`insource train FILE --task NAME` makes one; [tasks.NAME] in insource.toml sets its promise.")
        return
    cells = [
        (
            row["task"],
            f"@{row['version']}" if row["version"] else "not trained",
            row["stage"],
            row["family"],
            percent(row.get("target_risk")),
            percent(row["certified_coverage"]) if row.get("certified_coverage") is not None else None,
            threshold_text(row),
            f"@{row['newest']}" if row["newest"] != row["version"] else None,
        )
        for row in rows
    ]
    columns = ("task", "version", "stage", "family", "target risk", "certified coverage", "threshold", "newer")
    console.print(table(None, columns, cells))
    for row in rows:
        if row.get("certified_for") not in (None, row.get("target_risk")):
            console.print(
                f"{row['task']}: @{row['version']} was certified for a target risk of "
                f"{percent(row['certified_for'])}, the configuration now says {percent(row['target_risk'])}; "
                "train again to certify that."
            )
        trial = row["trial"]
        if trial is not None:
            console.print(f"{row['task']}: @{trial['version']} is in {place(trial['stage'], trial['share'])}.")
        _show_standing(console, row)


def _one_task(name: str, config: Config, registry: Registry) -> dict[str, Any]:
    """Return a task's versions with lineage and acts; UnknownTask where it is neither configured nor trained."""
    versions = registry.versions(name)
    if not versions and name not in config.tasks:
        registry.get(name)  # raises UnknownTask with the names that are known
    rows = [
        version_row(version)
        | {"lineage": dict(version.lineage), "acts": [_act(act) for act in registry.acts(version.name)]}
        for version in versions
    ]
    return {
        "task": name,
        "configured": name in config.tasks,
        "versions": rows,
        "moves": list(registry.moves(name)),
        "suspended": _suspended(registry.suspension(name)),
        "proposal": registry.proposal(name),
        "flaws": list(registry.flaws(name)),
    }


def _show_versions(console: Console, data: Mapping[str, Any]) -> None:
    if not data["versions"]:
        console.print(f"Task {data['task']} is configured and has no version yet.")
        console.print(f"`insource train FILE --task {data['task']}` makes one.")
        return
    cells = [
        (
            f"{data['task']}@{row['version']}",
            place(row["stage"], row["share"]),
            row["family"],
            f"{row['created']:%Y-%m-%d %H:%M}",
            row["calibration_rows"],
            percent(row["certified_coverage"]) if row["certified_coverage"] is not None else None,
            percent(row["risk_upper_bound"]) if row["risk_upper_bound"] is not None else None,
            threshold_text(row),
        )
        for row in data["versions"]
    ]
    columns = ("version", "stage", "family", "made (UTC)", "calibration rows", "coverage", "risk at most", "threshold")
    console.print(table(None, columns, cells))
    _show_standing(console, data)
    for row in data["versions"]:
        console.print(f"@{row['version']}  digest {row['digest'][:16]}  {_summary(row['lineage'])}", soft_wrap=True)
        for act in row["acts"]:
            console.print(f"    {act['time']:%Y-%m-%d %H:%M}  {act['what']} by {act['who']}: {act['detail']}",
                          soft_wrap=True)  # fmt: skip


def _show_standing(console: Console, data: Mapping[str, Any]) -> None:
    """Tell what else stands of a task: a suspension, the step that waits for a person, what a hand has broken."""
    name, suspended, proposal = data["task"], data["suspended"], data.get("proposal")
    if suspended is not None:
        told = f"{name}: suspended since {suspended['since']:%Y-%m-%d %H:%M} UTC by {suspended['who']}: "
        console.print(printable(f"{told}{suspended['why']}; every request escalates."), soft_wrap=True)
    if proposal is not None:
        console.print(
            printable(
                f"{name}: proposed since {proposal.time:%Y-%m-%d %H:%M} UTC: {proposal.name} to "
                f"{place(proposal.to, proposal.share)} ({'; '.join(proposal.why)}); "
                f"`insource promote {proposal.name}` carries it out."
            ),
            soft_wrap=True,
        )
    for flaw in data["flaws"]:
        console.print(printable(f"the registry was changed by hand: {flaw}"), soft_wrap=True)


def _suspended(suspension: Suspension | None) -> dict[str, Any] | None:
    if suspension is None:
        return None
    return {"since": suspension.time, "who": suspension.who, "why": suspension.why}


def place(stage: Stage, share: float) -> str:
    """Return a stage in words, with the share of a canary."""
    from insource.store import stages

    return stages.place(stage, share)


def _summary(lineage: Mapping[str, Any]) -> str:
    """Return the first plain entries of a lineage, tables one step deep."""
    flat: dict[str, object] = {}
    for key, value in lineage.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": entry for inner, entry in value.items()}
        else:
            flat[key] = value
    plain = [f"{key} {_short(value)}" for key, value in flat.items() if isinstance(value, str | int | float)]
    more = f", and {len(plain) - _LINEAGE_SHOWN} more in --json" if len(plain) > _LINEAGE_SHOWN else ""
    return ", ".join(plain[:_LINEAGE_SHOWN]) + more or "no lineage"


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:16] + "..."


def _act(act: Act) -> dict[str, Any]:
    return {"time": act.time, "who": act.who, "what": act.what, "detail": act.detail}
