"""One task's place in the rollout, as `insource status TASK` and `insource steward --once` tell it.

It turns the lifecycle's verdict into data and lines; the figures of the last hour stand in `status`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from insource.cli.output import percent, printable

if TYPE_CHECKING:
    from insource.answers import AnswerSpace
    from insource.config import Config
    from insource.lifecycle.evidence import Evidence
    from insource.lifecycle.steward import Verdict
    from insource.lifecycle.watched import Share
    from insource.store.recertifications import Recertified
    from insource.store.registry import Registry


def look(config: Config, registry: Registry, name: str) -> dict[str, Any] | None:
    """Return what is known of one task, None where it has no version; everything is read, nothing is done."""
    from insource.cli.watched_home import LaterLedger, tasks_of
    from insource.lifecycle.reading import Artifacts, Reading
    from insource.lifecycle.rollout import Rollout
    from insource.lifecycle.steward import kept_of, verdict_of
    from insource.lifecycle.watching import TaskWatch, standing_of
    from insource.store.artifacts import ArtifactStore

    if not registry.versions(name):
        return None
    with ExitStack() as opened:
        ledger = opened.enter_context(LaterLedger(config))
        artifacts = Artifacts(ArtifactStore(config.home))
        reading = Reading(ledger, artifacts, ledger)
        standing = standing_of(registry, tasks_of(config, registry)[name])
        watch = TaskWatch(standing, kept=kept_of(registry, reading, name))
        watch.read(reading)
        space = reading.answers(standing.active) if standing.active else None
        found = told(verdict_of(watch, Rollout(), artifacts.unservable), space)
    proposal, limit = registry.proposal(name), standing.task.labels_per_day
    return found | {
        "labels": {"today": registry.labels_taken(name, datetime.now(UTC)), "per_day": limit},
        "proposed": None if proposal is None else {"version": proposal.version, "to": proposal.to.value,
                                                   "share": proposal.share, "why": list(proposal.why)},
        "flaws": list(registry.flaws(name)),
    }  # fmt: skip


def told(verdict: Verdict, space: AnswerSpace | None = None) -> dict[str, Any]:
    """Return a verdict as data; None is unknown, never zero. With the closed set, answers that drift have names."""
    from insource.lifecycle.drift_told import told_drift
    from insource.lifecycle.rollout import Back, Hold, Step, audits_to_go

    standing, evidence, watch, step = verdict.standing, verdict.evidence, verdict.watch, verdict.step
    task, trial, suspension, doubt = standing.task, standing.trial, standing.suspension, standing.doubt
    kinds = {Step: "step", Hold: "hold", Back: "back"}
    return {
        "task": task.name,
        "mode": task.mode.value,
        "active": standing.active.version if standing.active else None,
        "trial": trial.version if trial else None,
        "stage": trial.stage.value if trial else None,
        "share": trial.share if trial else None,
        "candidate": standing.candidate.version if standing.candidate else None,
        "suspended": None if suspension is None
        else {"since": suspension.time, "who": suspension.who, "why": suspension.why},
        "doubted": None if doubt is None
        else {"since": doubt.time, "who": doubt.who, "why": doubt.why, "version": doubt.version,
              "kinds": list(doubt.kinds), "row": doubt.row},
        "recertified": _recertified(standing.recertified),
        "next": kinds.get(type(step)),
        "to": {"stage": step.to.value, "share": step.share} if isinstance(step, Step) else None,
        "reasons": list(step.reasons) if isinstance(step, Hold) else [step.why] if step is not None else [],
        "audits_to_verdict": audits_to_go(evidence, task, trial) if evidence is not None and trial else None,
        "evidence": None if evidence is None else _evidence(evidence),
        "risk": _share(watch.risk) if watch else None,
        "outside": _share(watch.outside) if watch else None,
        "drift": told_drift(watch, space) if watch else None,
        "guards": {answer: _share(share) for answer, share in watch.guards.items()} if watch else {},
        "crossed": list(watch.crossed) if watch else [],
        "audits": watch.audits if watch else 0,
    }  # fmt: skip


def _recertified(raised: Recertified | None) -> dict[str, Any] | None:
    if raised is None:
        return None
    found = raised.calibration
    return {"since": raised.time, "who": raised.who, "why": raised.why, "version": raised.version,
            "before": raised.before, "threshold": found.threshold, "audits": found.rows, "coverage": found.coverage,
            "row": raised.since}  # fmt: skip


def _evidence(evidence: Evidence) -> dict[str, Any]:
    pairs = evidence.pairs
    return {
        "sound": evidence.sound,
        "wrong": evidence.wrong,
        "failed": evidence.failures,
        "slow": evidence.slow,
        "scored": evidence.scored,
        "risk": _share(evidence.risk),
        "guards": {answer: _share(share) for answer, share in evidence.guards.items()},
        "pairs": None if pairs is None else {"pairs": pairs.pairs, "verdict": pairs.verdict.value,
                                             "difference": pairs.difference, "at_least": pairs.lower_bound,
                                             "at_most": pairs.upper_bound},
        "p99_at_most_seconds": evidence.p99_high if math.isfinite(evidence.p99_high) else None,
        "skipped": dict(evidence.skipped),
    }  # fmt: skip


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    return {"count": share.count, "rows": share.rows, "value": share.value, "at_least": share.lower,
            "at_most": share.upper, "limit": share.limit, "crossed": share.crossed}  # fmt: skip


def lines(found: Mapping[str, Any], audits_per_request: float | None = None) -> Iterator[str]:
    """Yield what a person reads; with the audits for each request, what is to come is told in requests."""
    name = found["task"]
    active = f"{name}@{found['active']} is active" if found.get("active") else "nothing is active"
    yield printable(f"{name} ({found.get('mode')}): {active}{_trial(found)}")
    if suspended := found.get("suspended"):
        yield printable(f"  suspended by {suspended['who']} since {suspended['since']:%Y-%m-%d %H:%M} UTC: "
                        f"{suspended['why']}")  # fmt: skip
    if raised := found.get("recertified"):
        yield (f"  threshold raised from {raised['before']:.4f} to {raised['threshold']:.4f} on {raised['audits']:,} "
               f"audits, certified coverage {percent(raised['coverage'])} ({raised['since']:%Y-%m-%d %H:%M} UTC)"
               )  # fmt: skip
    if (risk := found.get("risk")) is not None and risk["rows"]:
        yield f"  risk of the active version: {_told(risk)}, target {percent(risk['limit'])}"
    for answer, guard in (found.get("guards") or {}).items():
        if guard["rows"]:
            yield printable(f"  guard {answer}: {_told(guard)}, limit {percent(guard['limit'])}")
    if (outside := found.get("outside")) is not None and outside["rows"]:
        yield f"  references outside the closed set: {_told(outside)}, limit {percent(outside['limit'])}"
    if (labels := found.get("labels")) is not None and labels["per_day"]:
        yield f"  labels bought today (UTC): {labels['today']:,} of {labels['per_day']:,}"
    yield from _drift(found)
    yield from _next(found, audits_per_request)
    yield from (printable(f"  ! {flaw}") for flaw in found.get("flaws", ()))


def _drift(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield where everything stands that may drift, one line for each kind that has rows."""
    drift = found.get("drift")
    if drift is None:
        return
    window = drift["compared_with"]
    against = f"compared with its first {window:,} requests" if window else "too few requests to compare with yet"
    yield f"  drift: {drift['standing']}, {against}"
    if doubted := found.get("doubted"):
        yield printable(f"  every request is audited since {doubted['since']:%Y-%m-%d %H:%M} UTC ({doubted['who']}): "
                        f"{doubted['why']}")  # fmt: skip
        if drift["audits_in_doubt"]:
            yield f"  {drift['audits_in_doubt']:,} accepted audits since, {percent(drift['wrong_in_doubt'])} wrong"
    shown = [each for each in drift["kinds"] if each["rows"]]
    wide = max((len(each["says"]) for each in shown), default=0)
    for each in shown:
        alarm = "ALARM" if each["alarmed_at"] is not None else f"{each['evidence']:5.0%}"
        yield printable(f"    {each['says']:<{wide}}  {each['rows']:>9,} rows  {alarm}  {each['what']}")


def _trial(found: Mapping[str, Any]) -> str:
    if found.get("trial"):
        share = f" at {percent(found['share'], 0)}" if found["share"] else ""
        return f"; {found['task']}@{found['trial']} is in {found['stage']}{share}"
    return f"; {found['task']}@{found['candidate']} waits as a candidate" if found.get("candidate") else ""


def _next(found: Mapping[str, Any], audits_per_request: float | None) -> Iterator[str]:
    evidence = found.get("evidence")
    if evidence is not None:
        yield f"  evidence for it: {evidence['sound']:,} sound requests in {found['stage']}, {_told(evidence['risk'])}"
        against = {"wrong": evidence["wrong"], "failed": evidence["failed"], "slow": evidence["slow"]}
        shown = ", ".join(f"{number:,} {what}" for what, number in against.items())
        yield f"  evidence against it: {shown} in this stage"
        if (pairs := evidence["pairs"]) is not None and pairs["pairs"]:
            yield (f"  against the incumbent: {pairs['pairs']:,} requests that both would accept, "
                   f"{pairs['at_least']:+.1%} to {pairs['at_most']:+.1%} wrong")  # fmt: skip
    if found.get("next") == "hold":
        yield from (printable(f"  it waits: {reason}") for reason in found["reasons"])
        if (audits := found.get("audits_to_verdict")) is not None:
            requests = f", some {audits / audits_per_request:,.0f} requests" if audits_per_request else ""
            yield f"  about {audits:,} audits{requests} until the next step"
    elif found.get("next"):
        where = found["to"]
        to = f"{where['stage']}{' at ' + percent(where['share'], 0) if where['share'] else ''}" if where else "retired"
        yield printable(f"  next: {to} ({'; '.join(found['reasons'])})")
    if proposed := found.get("proposed"):
        yield printable(f"  `insource promote {found['task']}@{proposed['version']}` carries out what is proposed")


def _told(share: Mapping[str, Any]) -> str:
    seen = f"{share['count']:,} of {share['rows']:,}"
    return f"{seen} ({percent(share['at_least'])} to {percent(share['at_most'])})"
