"""`insource promote`: makes a version the one that serves, after making sure that it can.

It refuses what could not serve or would accept nothing; whether a version is good enough is the person's judgement.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import Opener, configuration, open_registry, split_name
from insource.cli.output import emit, json_option, percent
from insource.cli.progress import Bars
from insource.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.store.registry import Registry
    from insource.types import SpecialistVersion


@click.command(epilog='\b\nExample:\n  insource promote triage@3 --why "held 5 % on last month"')
@click.argument("name")
@click.option("--why", metavar="TEXT", help="The reason, kept with the act.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@click.option("--anyway", is_flag=True, help="Promote a version that accepts nothing; needs --why.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, name: str, why: str | None, who: str | None, anyway: bool, json_path: str | None
) -> None:
    """Make NAME@V (for NAME: its newest candidate) the version that serves; the one before it is retired."""
    config = configuration(ctx)
    with Bars() as bars, open_registry(config) as registry:
        chosen = _chosen(registry, name)
        before = registry.active(chosen.task)
        _check_threshold(chosen, why if anyway else None, anyway)
        report = bars.say(f"opening {chosen.name}")
        report(0, None)
        Opener(config).check(chosen)  # raises ArtifactDamaged: what is promoted can be served
        decider = who or user_name()
        promoted = registry.promote(chosen.task, chosen.version, decider, why or "no reason given", datetime.now(UTC))
    changed = before is None or before.version != promoted.version
    data = {
        "task": promoted.task,
        "version": promoted.version,
        "digest": promoted.digest,
        "before": before.version if before else None,
        "changed": changed,
        "who": decider,
        "why": why,
    }
    emit(data, json_path, lambda console: _show(console, promoted, before, data))


def _chosen(registry: Registry, name_at_version: str) -> SpecialistVersion:
    name, number = split_name(name_at_version)
    if number is not None:
        return registry.get(name, number)
    registry.get(name)  # raises UnknownTask
    candidates = [version for version in registry.versions(name) if version.stage == "candidate"]
    if not candidates:
        stages = ", ".join(f"@{version.version} {version.stage}" for version in registry.versions(name))
        raise UserError(
            f"Task '{name}' has no candidate ({stages}); a version to promote was expected. "
            f"Train a new one, or name one: `insource promote {name}@V`."
        )
    return candidates[-1]


def _check_threshold(version: SpecialistVersion, why: str | None, anyway: bool) -> None:
    """Raise UserError for a version that accepts nothing, unless somebody says why it should serve."""
    calibration = version.calibration
    if calibration is not None and calibration.threshold is not None:
        return
    if anyway and why:
        return
    if anyway:
        raise UserError("--anyway was given without --why; a reason was expected. Add --why TEXT.")
    if calibration is None:
        lacking = "was never certified: it has no calibration"
    else:
        lacking = (
            f"has no threshold: {calibration.rows:,} calibration rows certify no share of requests at target risk "
            f"{percent(calibration.target_risk)}, confidence level {percent(calibration.confidence_level)}"
        )
    notes = "".join(f"\n  {note}" for note in calibration.notes) if calibration else ""
    raise UserError(
        f"{version.name} {lacking}. It would accept nothing, and every request would go up.{notes}\n"
        "A certified version was expected. Train one with more references or a higher target risk; to promote this "
        "one all the same, pass --anyway --why TEXT."
    )


def _show(console: Console, now: SpecialistVersion, before: SpecialistVersion | None, data: dict[str, Any]) -> None:
    if not data["changed"]:
        console.print(f"{now.name} is active already; nothing was changed.")
        return
    console.print(f"{now.name} ({now.family}, digest {now.digest[:16]}) is active, by {data['who']}.")
    console.print(f"before: {before.name + ', now retired' if before else 'none'}")
    calibration = now.calibration
    if calibration is None or calibration.threshold is None:
        console.print("It has no certified threshold: it accepts nothing, and every request goes up.")
    else:
        console.print(
            f"It accepts at a score of {calibration.threshold:.4f} or above: certified coverage "
            f"{percent(calibration.coverage)}, risk at most {percent(calibration.risk_upper_bound)} at confidence "
            f"level {percent(calibration.confidence_level)} (target {percent(calibration.target_risk)})."
        )
    console.print("A running gateway takes it over within a second.")


def user_name() -> str:
    """Return the name of this process's user; raise UserError where it has none."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise UserError("Your user name cannot be found; who decides was expected. Pass --who NAME.") from None
