"""The rollout: which step the evidence allows next, for the one version of a task that is on trial.

It is pure: the same state gives the same step, and nothing is done about it. Who applies it, and whether a person has
to agree first, is the steward's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from insource.lifecycle import gates
from insource.lifecycle.evidence import Evidence
from insource.lifecycle.gates import SHARES
from insource.risk.bounds import rows_needed
from insource.risk.paired import Verdict
from insource.types import SpecialistVersion, Stage, Suspension, Task

PATIENCE = 20_000
"""Scored requests without a verdict after which a newer candidate takes a trial's place: the horizon within which a
loss of one point is found in 95 % of cases (promise C2), so what is open by then is too small to matter."""
WORTH = 1.5
"""How much more a newer candidate must gain over the incumbent, in coverage, for a trial to make way for it at once."""
MAKES_WAY = "makes way: "
"""How the reason begins for which a trial ends though nothing speaks against it."""
LEAST_GAIN = 0.05
"""And so much at least: a trial that is under way is worth something."""


@dataclass(frozen=True, slots=True)
class State:
    """What a step depends on.

    `incumbent` is the active version, where it accepts anything; `newer` a newer candidate that waits. `why_unservable`
    says why the version's artifact cannot be served, where it cannot. With a suspension, the evidence is since then.
    """

    task: Task
    version: SpecialistVersion
    evidence: Evidence
    incumbent: SpecialistVersion | None = None
    suspension: Suspension | None = None
    newer: SpecialistVersion | None = None
    why_unservable: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Move the version on: to which stage, with which share, and on what evidence."""

    to: Stage
    share: float
    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave it where it is, for these reasons."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Back:
    """Take its traffic away and retire it; `makes_way` where nothing speaks against it, but more for another."""

    why: str
    makes_way: bool = False


class Rollout:
    """The plan: shadow, then a canary of rising shares, then active."""

    def __init__(self, shares: Sequence[float] = SHARES) -> None:
        self.shares = tuple(shares)

    def next(self, state: State) -> Step | Hold | Back:
        """Return what the evidence allows now, or why it allows nothing."""
        task, version, evidence = state.task, state.version, state.evidence
        if version.stage is Stage.CANDIDATE:
            return self._begin(state)
        if version.stage not in (Stage.SHADOW, Stage.CANARY):
            return Hold((f"{version.name} is {version.stage}; shadow or canary was expected",))
        against = gates.must_go_back(evidence, task, version)
        if state.why_unservable is not None:
            against = (f"its artifact cannot be served: {state.why_unservable}", *against)
        if against:
            return Back("; ".join(against))
        if (evidence.version, evidence.stage) != (version.version, version.stage):
            return Hold((f"the evidence is of version {evidence.version} in {evidence.stage}",))
        if evidence.incumbent != (state.incumbent.version if state.incumbent else None):
            return Hold(("the evidence is about another incumbent",))
        if (better := _makes_way(state)) is not None:
            return Back(MAKES_WAY + better, makes_way=True)
        return self._onwards(state)

    def _begin(self, state: State) -> Step | Hold:
        """A candidate needs nothing but its certificate: shadow touches no reply."""
        reasons = gates.certified(state.evidence, state.task, state.version)
        if state.why_unservable is not None:
            reasons = (f"its artifact cannot be served: {state.why_unservable}", *reasons)
        if reasons:
            return Hold(reasons)
        found = state.version.calibration
        told = f"certified coverage {found.coverage:.1%}, risk at most {found.risk_upper_bound:.1%}" if found else ""
        return Step(Stage.SHADOW, 0.0, f"{told} on {found.rows if found else 0:,} rows")

    def _onwards(self, state: State) -> Step | Hold:
        task, version, evidence = state.task, state.version, state.evidence
        share = next((each for each in self.shares if each > version.share), None)
        to, gate = Stage.CANARY, gates.may_take_step
        if version.stage is Stage.SHADOW:
            gate = gates.may_leave_shadow
        if state.suspension is not None:
            gate, share = gates.may_lift_suspension, None
        elif share is None:
            gate = gates.may_become_active
        if share is None:
            to = Stage.ACTIVE
        reasons = gate(evidence, task, version)
        return Hold(reasons) if reasons else Step(to, share or 0.0, told(evidence, task))


def _makes_way(state: State) -> str | None:
    """Say why the version makes way for a newer candidate, None where it does not.

    Each candidate in a row must gain half as much again as the one before, so that only a handful can: coverage ends
    at 1.
    """
    if state.newer is None:
        return None
    if state.evidence.scored >= PATIENCE:
        return f"{state.evidence.scored:,} scored requests brought no verdict; {state.newer.name} is newer"
    served = _coverage(state.incumbent)
    ours, theirs = _coverage(state.version) - served, _coverage(state.newer) - served
    if gates.certified(state.evidence, state.task, state.newer) or theirs < max(WORTH * ours, ours + LEAST_GAIN):
        return None
    told = f"{_coverage(state.newer):.1%} of the requests, this one {_coverage(state.version):.1%}"
    return f"{state.newer.name} certifies {told}"


def _coverage(version: SpecialistVersion | None) -> float:
    return version.calibration.coverage if version is not None and version.calibration is not None else 0.0


def told(evidence: Evidence, task: Task) -> str:
    """Return the figures of evidence in one line, as acts record them."""
    parts = [f"{evidence.sound:,} sound requests in {evidence.stage}"]
    if (risk := evidence.risk) is not None and risk.rows:
        parts.append(f"{risk.count:,} wrong of {risk.rows:,} it would accept, risk {risk.lower:.1%} to "
                     f"{risk.upper:.1%} (target {task.target_risk:.1%})")  # fmt: skip
    if (pairs := evidence.pairs) is not None and pairs.pairs:
        parts.append(f"{pairs.pairs:,} pairs: {pairs.lower_bound:+.1%} to {pairs.upper_bound:+.1%} against the "
                     f"incumbent ({pairs.verdict}, margin {task.margin:.1%})")  # fmt: skip
    if (failing := evidence.failing) is not None and failing.count:
        parts.append(f"{failing.count:,} failed or slow")
    return ", ".join(parts)


def audits_to_go(evidence: Evidence, task: Task, version: SpecialistVersion) -> int | None:
    """Return how many more audits the next step takes if they come as those so far did; None where nobody can say.

    An estimate for display: 0 where nothing is lacking but what no audit can bring.
    """
    steps = 1 + sum(share <= version.share for share in SHARES[1:])
    wanted = gates.SHADOW_ROWS if version.stage is Stage.SHADOW else gates.STEP_ROWS * steps
    lacking = [float(max(wanted - evidence.sound, 0))]
    right = rows_needed(task.target_risk, task.confidence_level) - evidence.right
    if right > 0:
        lacking.append(right * evidence.scored / evidence.right if evidence.right else math.inf)
    last = version.stage is Stage.CANARY and version.share >= SHARES[-1]
    if last and (pairs := evidence.pairs) is not None and pairs.verdict is Verdict.UNDECIDED:
        further = math.inf if pairs.pairs_to_verdict is None else float(pairs.pairs_to_verdict)
        lacking.append(further * evidence.scored / pairs.pairs if pairs.pairs else math.inf)
    return math.ceil(max(lacking)) if math.isfinite(max(lacking)) else None
