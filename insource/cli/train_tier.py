"""`insource train --tier`: opens what stands before a tier in the house, has it certified, and shows the outcome.

It knows the configuration and the registry; certifying is `training.tier`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from insource.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.cli.opening import Say
    from insource.config import Config
    from insource.policy.egress import Upstreams
    from insource.store.artifacts import ArtifactStore
    from insource.store.registry import Registry
    from insource.training.tier import Before
    from insource.training.tier_outcome import TierTrained
    from insource.types import Example, Task


def check_choices(config: Config, tier: str, chosen: Mapping[str, Any]) -> str:
    """Return the model to ask the tier's server for; raise UserError for a choice that no tier has."""
    for name in ("strict", "no_certify", "teacher", "layers", "small_vocabulary", "epochs", "rate", "balance"):
        if chosen[name]:
            option = "teacher-version" if name == "teacher" else name.replace("_", "-")
            raise UserError(f"--{option} was given beside --tier; nothing is fitted there. Drop it.")
    if chosen["family"] != "auto":
        raise UserError(f"--family {chosen['family']} was given beside --tier, which has one family. Drop it.")
    upstream = config.upstreams.get(tier)
    if upstream is None:
        known = ", ".join(config.upstreams) or "none"
        raise UserError(f"--tier is {tier!r}; the name of an upstream in [upstreams.NAME] was expected ({known}).")
    if upstream.model is None:
        raise UserError(f"upstreams.{tier}.model is not set; the model that this server is asked for was expected. "
                        "Set it in insource.toml.")  # fmt: skip
    return upstream.model


def certify(
    config: Config,
    task: Task,
    tier: str,
    model: str,
    examples: Sequence[Example],
    registry: Registry,
    say: Say,
    *,
    skipped: int,
    gold: bool,
    seed: int,
) -> TierTrained:
    """Ask the tier's server, certify and register; raises what `training.tier.train_tier` raises, and ConfigError."""
    from insource.cli.opening import open_artifacts
    from insource.policy.egress import open_upstreams
    from insource.policy.sensitivity import Judge
    from insource.training.tier import House, train_tier

    artifacts, judge = open_artifacts(config), Judge(config.policy)
    earlier = _earlier(task, tier)
    asked = {name: config.upstreams[name] for name in (*earlier, tier)}

    async def run() -> TierTrained:
        async with open_upstreams(replace(config, upstreams=asked)) as upstreams:
            before = _before(config, task, earlier, registry, artifacts, upstreams)
            return await train_tier(
                examples,
                task,
                House(tier, model, upstreams[tier]),
                before=before,
                rate=lambda request: judge.rate(request, task),
                home=config.home,
                registry=registry,
                artifacts=artifacts,
                say=say,
                now=lambda: datetime.now(UTC),
                skipped=skipped,
                gold=gold,
                seed=seed,
            )

    return asyncio.run(run())


def _earlier(task: Task, tier: str) -> tuple[str, ...]:
    """Return the tiers that the task asks before this one; all of them where it does not name it."""
    return task.tiers[: task.tiers.index(tier)] if tier in task.tiers else task.tiers


def _before(
    config: Config,
    task: Task,
    earlier: Sequence[str],
    registry: Registry,
    artifacts: ArtifactStore,
    upstreams: Upstreams,
) -> Before:
    """Open what accepts requests before the tier: the active versions that have a threshold and stand."""
    from insource.backends.house_tier import behind, open_house_tier
    from insource.cli.opening import Opener
    from insource.training.tier import Before

    active = registry.active(task.name)
    certified = active is not None and behind([active])
    specialist = (active, Opener(config).specialist(active)) if active is not None and certified else None
    versions, tiers = [active] if active is not None else [], []
    for name in earlier:
        version = registry.active(f"{task.name}/{name}")
        if version is None or version.lineage.get("behind") != behind(versions) or not behind([version]):
            continue
        artifact = artifacts.open(version.digest)
        opened = open_house_tier(artifact.folder, artifact.manifest, name=version.name, digest=version.digest,
                                 upstream=upstreams[name])  # fmt: skip
        versions.append(version)
        tiers.append((version, opened))
    return Before(specialist, tuple(tiers))


def show(console: Console, trained: TierTrained) -> None:
    """Print the outcome as a table, with what to do next."""
    from insource.cli.output import percent, table

    version, calibration, figures = trained.version, trained.version.calibration, trained.figures
    rows = [
        ("model", trained.model),
        ("behind", ", ".join(each["digest"][:16] for each in version.lineage["behind"]) or "nothing"),
        ("rows", f"{figures.rows:,} · {figures.reaching:,} of them reach the tier"),
        ("answers", f"accuracy {percent(figures.accuracy)} · {figures.outside:,} outside the closed set"),
    ]
    if calibration is not None:
        bound = f"risk at most {percent(calibration.risk_upper_bound)} at confidence {calibration.confidence_level:g}"
        accepts = f"accepts {percent(calibration.coverage)} of what reaches it · {bound}"
        rows.append(("certified", accepts if calibration.threshold is not None else "accepts nothing"))
        rows += [
            (f"guard {each.answer}", f"missed at most {percent(each.missed_upper_bound)} (limit {percent(each.limit)})")
            for each in calibration.guards
        ]
    rows += [("artifact", str(trained.artifact)), ("took", f"{trained.seconds:.1f} s")]
    console.print(table(f"{version.name}, a candidate", ("", ""), rows))
    for note in trained.notes:
        console.print(f"note: {note}")
    if calibration is not None and calibration.threshold is not None:
        console.print(f"Next: insource promote {version.name}")
