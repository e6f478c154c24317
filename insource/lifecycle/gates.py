"""Gates: pure functions from evidence to the reasons why a version may not go on; no reason is a yes.

They know evidence, a task and a version; they read no clock and change nothing. No evidence is a reason. More evidence
against a version never takes a reason away: what must be there is counted from sound rows, what must not from all.
"""

from __future__ import annotations

from collections.abc import Callable

from insource.lifecycle.evidence import FAILING, UNUSABLE, Evidence, Skipped
from insource.lifecycle.watched import Share
from insource.risk.bounds import rows_needed
from insource.risk.paired import Verdict
from insource.types import SpecialistVersion, Task

Reasons = tuple[str, ...]
Gate = Callable[[Evidence, Task, SpecialistVersion], Reasons]

SHADOW_ROWS = 200
"""Sound rows in shadow. Coverage is then known within 7 points (two standard errors at a half), failing at most 1.5 %
where none failed (rule of three); a version that is right in 95 % of what it accepts has shown at least one error."""
STEP_ROWS = 50
"""Sound rows at each share of a canary. Steps exist for what shadow cannot show, a version that fails under traffic of
its own: with none failing in 50, at most 6 % do, and 200 rows passed all four steps. The risk is watched throughout."""
SHARES = (0.01, 0.05, 0.25, 0.50)
COVERAGE_WITHIN = 0.15
"""How far the coverage seen may lie from the certified one: four standard errors at 200 rows. Farther off, this is not
the traffic that the certificate is about."""
UNUSABLE_WITHIN = 0.10
"""Unusable rows for each sound one. Rows are seldom lost at random: with more lost, those left say too little."""
UNREFERENCED_WITHIN = 1.0
"""Rows without a reference for each sound one: an upstream's outage may cost half of all, and the rest must stand."""
BEHIND = 200
"""Audits of the incumbent without a sound one of the trial: its evidence has stopped coming."""


def may_leave_shadow(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Say why not to give it canary traffic: all but the paired test, and enough rows in shadow."""
    rows = fewest(evidence.sound, SHADOW_ROWS, "scored requests in shadow")
    return (*rows, *_all(_STANDING, evidence, task, version))


def may_take_step(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Say why not to give it the next share: all but the paired test, and enough rows for the steps so far."""
    steps = 1 + sum(share <= version.share for share in SHARES[1:])
    rows = fewest(evidence.sound, STEP_ROWS * steps, f"scored requests in canary (share {version.share:.0%})")
    return (*rows, *_all(_STANDING, evidence, task, version))


def may_become_active(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Say why not to let it take over: the last step, and the paired test where there is an incumbent."""
    return (*may_take_step(evidence, task, version), *not_worse(evidence, task, version))


def may_lift_suspension(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Say why not to let it take over from a suspended version: its risk since then must be shown, at all times.

    Nothing is accepted meanwhile, so there is no canary to try it in, and no incumbent worth a comparison.
    """
    rows = fewest(evidence.sound, SHADOW_ROWS, "scored requests since the suspension")
    return (*rows, *_all(_STANDING, evidence, task, version), *shown(evidence, task, version))


def must_go_back(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Say what is shown against the version; any of it takes its traffic away at once."""
    return (*risk_shown(evidence, task, version), *guards_shown(evidence, task, version),
            *failing_shown(evidence, task, version), *loss_shown(evidence, task, version))  # fmt: skip


def certified(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """A threshold whose bound keeps the task's promise as it is now, and a certificate for every guard."""
    del evidence
    found = version.calibration
    if found is None:
        return ("it was never certified",)
    if found.threshold is None or found.risk_upper_bound is None:
        return (f"{found.rows:,} calibration rows certify no threshold",)
    reasons = []
    if not found.risk_upper_bound <= task.target_risk:
        reasons.append(f"its certified bound is {found.risk_upper_bound:.1%}; the target is {task.target_risk:.1%}")
    if not found.confidence_level >= task.confidence_level:
        reasons.append(f"it is certified at {found.confidence_level:g}; the task asks for {task.confidence_level:g}")
    held = {guard.answer for guard in found.guards if guard.held}
    if len(held) < len(found.guards) or len(found.guards) < len(task.guard):
        reasons.append(f"{len(held)} of {max(len(task.guard), len(found.guards))} guards are certified")
    return tuple(reasons)


def complete(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Rows that are whole, vary, and still come."""
    del task, version
    reasons = []
    unusable = {why: number for why in UNUSABLE if (number := evidence.skipped.get(why, 0))}
    whole = evidence.scored - (evidence.risk.count if evidence.risk else 0)
    if sum(unusable.values()) > UNUSABLE_WITHIN * whole:
        told = ", ".join(f"{number:,} {why}" for why, number in unusable.items())
        reasons.append(f"evidence is partial: {whole:,} sound rows, {told}")
    unreferenced = evidence.skipped.get(Skipped.NO_REFERENCE, 0)
    if unreferenced > UNREFERENCED_WITHIN * whole:
        reasons.append(f"{unreferenced:,} rows had no reference to compare with, {whole:,} had")
    if evidence.sound and (evidence.scores is None or not evidence.scores[0] < evidence.scores[1]):
        reasons.append(f"the score is the same for all {evidence.sound:,} requests, so it tells nothing")
    if not evidence.timed > (1.0 - UNUSABLE_WITHIN) * evidence.sound - 1:
        reasons.append(f"latency was measured on {evidence.timed:,} of {evidence.sound:,} requests")
    elif evidence.timed > 1 and evidence.seconds is not None and evidence.seconds[0] == evidence.seconds[1]:
        reasons.append(f"the latency is the same for all {evidence.timed:,} requests, so nothing measured it")
    if evidence.behind >= BEHIND:
        reasons.append(f"{evidence.behind:,} audits of the incumbent came since its own last one")
    return tuple(reasons)


def covered(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """The coverage seen is near the certified one: this is the traffic that it was certified on."""
    del task
    if version.calibration is None or not evidence.scored:
        return ("no request was scored yet",)
    known, rows = version.calibration.coverage, evidence.scored
    most = (evidence.right + (evidence.risk.count if evidence.risk else 0)) / rows
    if evidence.right / rows < known - COVERAGE_WITHIN:
        return (f"it rightly accepts {evidence.right / rows:.1%} of {rows:,} requests; it certified {known:.1%}",)
    if most > known + COVERAGE_WITHIN:
        return (f"it would accept {most:.1%} of {rows:,} requests; it certified {known:.1%}",)
    return ()


def risk_kept(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Enough accepted rows to say anything of the promise, not more wrong than it allows, and no crossing ever."""
    least = rows_needed(task.target_risk, task.confidence_level)
    reasons = list(fewest(evidence.right, least, "requests that it would accept, rightly"))
    share = evidence.risk
    if share is not None and share.value is not None and not share.value <= task.target_risk:
        reasons.append(f"{_told(share)} of what it would accept is wrong; the target is {task.target_risk:.1%}")
    return (*reasons, *risk_shown(evidence, task, version))


def failing_kept(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """It answers in time: no more failures than allowed, and a latency that the task accepts."""
    share, most = evidence.failing, task.require.latency_ms
    reasons = []
    if share is not None and share.value is not None and not share.value <= FAILING:
        reasons.append(f"{_told(share)} of its answers failed or were slow; at most {FAILING:.0%} may")
    if most is not None and evidence.median_low * 1000 >= most:
        reasons.append(f"half of its answers take {evidence.median_low * 1000:.3g} ms or more; {most:g} ms was asked")
    return (*reasons, *failing_shown(evidence, task, version))


def guards_kept(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """No guard is missed more often than it allows. Rows are only there where the task keeps its texts."""
    over = [f"guard {answer}: {_told(share)} missed; at most {share.limit:.1%} may be"
            for answer, share in evidence.guards.items()
            if share.value is not None and not share.value <= share.limit]  # fmt: skip
    return (*over, *guards_shown(evidence, task, version))


def not_worse(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """The paired test says promote, where there is an incumbent."""
    pairs = evidence.pairs
    if evidence.incumbent is None or (pairs is not None and pairs.verdict is Verdict.PROMOTE):
        return ()
    if pairs is None:
        return ("it was never compared with the incumbent",)
    if pairs.verdict is Verdict.ROLL_BACK:
        return loss_shown(evidence, task, version)
    if not pairs.pairs:
        return ("no request yet that both it and the incumbent would accept",)
    further = "no verdict in sight" if pairs.pairs_to_verdict is None else f"about {pairs.pairs_to_verdict:,} to go"
    return (f"{pairs.pairs:,} requests that both would accept leave a loss of {pairs.upper_bound:.1%} possible; "
            f"the margin is {task.margin:.1%} ({further})",)  # fmt: skip


def shown(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """The bound on its risk, valid at all times, lies under the target, and so does that of each guard."""
    del version
    share = evidence.risk
    if share is None or not share.upper <= task.target_risk:
        upper = 1.0 if share is None else share.upper
        return (f"its risk may be up to {upper:.1%}; at most {task.target_risk:.1%} must be shown",)
    return tuple(
        f"guard {answer} may be missed up to {found.upper:.1%}; at most {found.limit:.1%} must be shown"
        for answer, found in evidence.guards.items()
        if not found.upper <= found.limit
    )


def risk_shown(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """Its risk was shown to be above the target."""
    del version
    share = evidence.risk
    if share is None or not share.crossed:
        return ()
    return (f"its risk is above the target of {task.target_risk:.1%}: {_told(share)} wrong of what it would accept, "
            f"at least {share.lower:.1%}",)  # fmt: skip


def guards_shown(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """A guard was shown to be missed more often than it allows."""
    del task, version
    return tuple(
        f"guard {answer} is crossed: {_told(share)} missed, at least {share.lower:.1%} (limit {share.limit:.1%})"
        for answer, share in evidence.guards.items()
        if share.crossed
    )


def failing_shown(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """It was shown to fail, or to be slow, more often than allowed."""
    del version
    share = evidence.failing
    if share is None or not share.crossed:
        return ()
    return (f"it fails: {_told(share)} of its answers failed or took over {task.deadline_ms:g} ms, "
            f"at least {share.lower:.1%} (limit {FAILING:.0%})",)  # fmt: skip


def loss_shown(evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    """The paired test says roll back."""
    del task, version
    pairs = evidence.pairs
    if pairs is None or pairs.verdict is not Verdict.ROLL_BACK:
        return ()
    seen = "" if pairs.difference is None else f" by {pairs.difference:.1%}"
    return (f"it answers worse than the incumbent{seen} (shown after {pairs.decided_at:,} of {pairs.pairs:,} requests "
            "that both would accept)",)  # fmt: skip


def fewest(seen: int, wanted: int, what: str) -> Reasons:
    """Say that too few were seen."""
    return () if seen >= wanted else (f"{seen:,} of {wanted:,} {what} so far",)


_STANDING: tuple[Gate, ...] = (certified, complete, risk_kept, guards_kept, failing_kept, covered)


def _all(gates: tuple[Gate, ...], evidence: Evidence, task: Task, version: SpecialistVersion) -> Reasons:
    return tuple(reason for gate in gates for reason in gate(evidence, task, version))


def _told(share: Share) -> str:
    return f"{share.count:,} of {share.rows:,} ({share.value or 0.0:.1%})"
