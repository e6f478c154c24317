"""`insource promote`: moves a version on towards the one that serves, after making sure that it can.

It refuses what could not serve or would accept nothing; whether a version is good enough is the person's judgement.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import Opener, configuration, open_registry, split_name
from insource.cli.output import emit, json_option, percent, printable
from insource.cli.progress import Bars
from insource.errors import UserError
from insource.types import Stage

if TYPE_CHECKING:
    from rich.console import Console

    from insource.store.registry import Registry
    from insource.store.stages import Proposal
    from insource.types import SpecialistVersion

FIRST_SHARE = 0.01


@click.command(epilog='\b\nExample:\n  insource promote triage@3 --why "held 5 % on last month"')
@click.argument("name")
@click.option(
    "--to", type=click.Choice(["shadow", "canary", "active"]), help="The stage [what is proposed, or active]."
)
@click.option("--share", type=float, metavar="SHARE", help="The share of requests that a canary answers [0.01].")
@click.option("--why", metavar="TEXT", help="The reason, kept with the act.")
@click.option("--who", metavar="NAME", help="Who decides [your user name].")
@click.option("--anyway", is_flag=True, help="Promote a version that accepts nothing; needs --why.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    to: str | None,
    share: float | None,
    why: str | None,
    who: str | None,
    anyway: bool,
    json_path: str | None,
) -> None:
    """Move NAME@V on: by the step that is proposed for it, else straight to active; the one before it is retired.

    NAME alone is the version that a step is proposed for, else its newest candidate. With --to it goes to that stage,
    proposed or not.
    """
    share = _checked_share(to, share)
    config = configuration(ctx)
    with Bars() as bars, open_registry(config) as registry:
        chosen, proposal = _chosen(registry, name, None if to is None else Stage(to))
        before = registry.active(chosen.task)
        aim = Stage(to) if to is not None else proposal.to if proposal is not None else Stage.ACTIVE
        if aim is not Stage.SHADOW:  # there nothing is accepted anyway
            _check_threshold(chosen, why if anyway else None, anyway)
        report = bars.say(f"opening {chosen.name}")
        report(0, None)
        Opener(config).check(chosen)  # raises ArtifactDamaged: what is promoted can be served
        decider, reason, now = who or user_name(), why or "no reason given", datetime.now(UTC)
        if proposal is not None:
            moved = registry.carry_out(proposal, decider, reason, now)
        elif aim is Stage.ACTIVE:
            seen = before.version if before else 0
            moved = registry.promote(chosen.task, chosen.version, decider, reason, now, before=seen)
        else:
            moved = registry.move(chosen.task, chosen.version, expected=chosen.stage, to=aim, share=share, who=decider,
                                  why=reason, now=now)  # fmt: skip
        suspension = registry.suspension(chosen.task)
    data = {
        "task": moved.task,
        "version": moved.version,
        "digest": moved.digest,
        "stage": moved.stage,
        "share": moved.share,
        "before": before.version if before else None,
        "changed": (moved.stage, moved.share) != (chosen.stage, chosen.share),
        "proposed": list(proposal.why) if proposal is not None else None,
        "suspended": suspension is not None,
        "who": decider,
        "why": why,
    }
    emit(data, json_path, lambda console: _show(console, moved, before, data))


def _checked_share(to: str | None, share: float | None) -> float:
    if share is None:
        return FIRST_SHARE if to == "canary" else 0.0
    if to != "canary":
        raise UserError(
            "--share was given without --to canary; only a canary has a share. Add it, or leave --share out."
        )
    if not 0 < share <= 1:
        raise UserError(f"--share is {share:g}; a share above 0 and up to 1 was expected, such as 0.05 for 5 %.")
    return share


def _chosen(registry: Registry, name_at_version: str, to: Stage | None) -> tuple[SpecialistVersion, Proposal | None]:
    """Return the version that is meant, and the proposal to carry out: that of its task, where none else is asked."""
    name, number = split_name(name_at_version)
    version = registry.get(name, number)  # raises UnknownTask
    proposal = registry.proposal(name) if to is None else None
    if proposal is not None and number in (None, proposal.version):
        return registry.get(name, proposal.version), proposal
    if number is not None:
        return version, None
    candidates = [version for version in registry.versions(name) if version.stage == "candidate"]
    if not candidates:
        stages = ", ".join(f"@{version.version} {version.stage}" for version in registry.versions(name))
        raise UserError(
            f"Task '{name}' has no candidate ({stages}); a version to promote was expected. "
            f"Train a new one, or name one: `insource promote {name}@V`."
        )
    return candidates[-1], None


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
    else:
        from insource.store.stages import place

        told = place(now.stage, now.share)
        console.print(f"{now.name} ({now.family}, digest {now.digest[:16]}) is {told}, by {data['who']}.")
        for reason in data["proposed"] or ():
            console.print(f"proposed: {printable(reason)}", soft_wrap=True)
        _show_what_follows(console, now, before)
    if data["suspended"]:
        console.print(f"The task is suspended: every request goes up. `insource resume {now.task}` lifts it.")


def _show_what_follows(console: Console, now: SpecialistVersion, before: SpecialistVersion | None) -> None:
    if now.stage is Stage.ACTIVE:
        console.print(f"before: {before.name + ', now retired' if before else 'none'}")
    else:
        console.print(f"active: {before.name if before else 'none'}")
    calibration = now.calibration
    if now.stage is Stage.SHADOW:
        console.print("It is scored beside what serves, and answers nothing.")
    elif calibration is None or calibration.threshold is None:
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
