"""C1: canaries that are exactly as good as the incumbent, looked at after every request: how many raise an alarm.

It runs the product's paired test; the control is the z-test for one look, looked at as often.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from insource.risk.paired import PairedTest, Verdict
from insource.risk.simulate import allowed
from reliability.canaries import REQUESTS, Wrong, canary
from reliability.harness import Promise, Tally

ALPHA = 0.05
FULL = 2_000
ONE_LOOK_QUANTILE = 1.6448536269514722
LEAST_ALARMS_OF_CONTROL = 0.30


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Look at one canary for each case, after each of its requests. It never ends in a promotion, only by an alarm."""
    del folder
    tally = Tally()
    for case in cases:
        incumbent, candidate = canary((1, case))
        tally.count("canaries")
        tally.count("requests", REQUESTS)
        if broken:
            tally.count("broken canaries")
        if _z_test_alarms(incumbent, candidate) if broken else _alarms(incumbent, candidate):
            tally.count("alarms")
    return tally


def judge(tally: Tally) -> list[str]:
    """At most 5 % alarms, of fewer than 2,000 canaries two standard errors more; a control needs above 30 %."""
    counts = tally.counts
    if not counts["canaries"]:
        return ["no canary was tried"]
    if counts["broken canaries"] and tally.share("alarms", "broken canaries") <= LEAST_ALARMS_OF_CONTROL:
        return []  # a control that alarms too seldom is none
    most = ALPHA if counts["canaries"] >= FULL else allowed(ALPHA, counts["canaries"])
    share = tally.share("alarms", "canaries")
    return [f"{share:.1%} of {counts['canaries']:,} canaries raised a false alarm"] if share > most else []


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['canaries']:,} canaries looked at after each of {REQUESTS:,} requests: {counts['alarms']} false "
        f"alarms ({tally.share('alarms', 'canaries'):.1%})"
    )


def _alarms(incumbent: Wrong, candidate: Wrong) -> bool:
    test = PairedTest(margin=None, roll_back_alpha=ALPHA)
    return test.update(incumbent, candidate) is Verdict.ROLL_BACK


def _z_test_alarms(incumbent: Wrong, candidate: Wrong) -> bool:
    """McNemar's test for one look, after every request."""
    worse, better = np.cumsum(candidate & ~incumbent), np.cumsum(incumbent & ~candidate)
    return bool(np.any(worse - better > ONE_LOOK_QUANTILE * np.sqrt(np.maximum(worse + better, math.ulp(0.0)))))


PROMISE = Promise(
    id="C1",
    says="Canary false alarms are bounded",
    asked="2,000 canaries no worse than the incumbent, 20,000 requests each, 6 % discordance, looked at after every "
    "request: at most 5 % alarms; the control, a z-test for one look, alarms in more than 30 %",
    unit="canaries",
    full=FULL,
    sample=200,
    slow=1_000,
    control=200,
    chunk=500,
    run=run,
    judge=judge,
    seen=seen,
)
