"""C2: canaries that are worse than the incumbent by a known number of points: after how many requests they roll back.

It runs the product's paired test at margin 0; the control is a build that takes the candidate for the incumbent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from insource.risk.paired import PairedTest, Verdict
from reliability.canaries import REQUESTS, canary
from reliability.harness import Promise, Tally


@dataclass(frozen=True, slots=True)
class Loss:
    """A true drop in points, and what is asked of it: the most requests at the median and at 95 %."""

    points: int
    median: int | None
    most: int | None

    @property
    def name(self) -> str:
        """How the tally calls its measurements."""
        return f"requests until {self.points} points lost were rolled back"


LOSSES = (Loss(10, 100, None), Loss(5, 220, None), Loss(3, 500, 1_600), Loss(1, None, REQUESTS))


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Try one canary for each case, by turns worse by 10, 5, 3 and 1 points."""
    del folder
    tally = Tally()
    for case in cases:
        loss = LOSSES[case % len(LOSSES)]
        incumbent, candidate = canary((2, case), loss.points / 100.0)
        if broken:
            incumbent, candidate = candidate, incumbent
        test = PairedTest(margin=None)
        caught = test.update(incumbent, candidate) is Verdict.ROLL_BACK
        tally.count("canaries")
        tally.measure(loss.name, test.decided_at if caught and test.decided_at else REQUESTS + 1)
        if not caught:
            tally.count("never caught")
    return tally


def judge(tally: Tally) -> list[str]:
    """Hold medians and 95 % quantiles against what is asked."""
    found = [] if tally.counts["canaries"] else ["no canary was tried"]
    for loss in LOSSES:
        if loss.name in tally.values:
            for at, asked in ((0.5, loss.median), (0.95, loss.most)):
                requests = tally.quantile(loss.name, at)
                if asked is not None and requests > asked:
                    found.append(
                        f"{loss.points} points lost: {_requests(requests)} requests at {at:.0%}, not {asked:,}"
                    )
    return found


def seen(tally: Tally) -> str:
    """One line."""
    parts = [
        f"{loss.points} points after {_requests(tally.quantile(loss.name, 0.5))} ("
        f"{_requests(tally.quantile(loss.name, 0.95))})"
        for loss in LOSSES
        if loss.name in tally.values
    ]
    return (
        f"{tally.counts['canaries']:,} canaries, median requests until rolled back (95 %): {', '.join(parts)}; "
        f"{tally.counts['never caught']} never caught"
    )


def _requests(number: float) -> str:
    return f"more than {REQUESTS:,}" if number > REQUESTS else f"{number:,.0f}"


PROMISE = Promise(
    id="C2",
    says="Real losses are caught early",
    asked="true drops of 10, 5 and 3 points, 6 % discordance (12 % at 10 points): rolled back after a median of at "
    "most 100, 220 and 500 requests, 3 points after at most 1,600 in 95 %; 1 point within 20,000 in at least 95 %",
    unit="canaries",
    full=4_000,
    sample=400,
    slow=2_000,
    control=40,
    chunk=1_000,
    run=run,
    judge=judge,
    seen=seen,
    open="the replay through the gateway",
)
