"""C2: canaries that are worse than the incumbent by a known number of points: after how many requests they roll back.

Every case is simulated with the product's paired test at margin 0; three of each 400 are replayed, request for request,
through a served gateway and its steward as well. The control is a build that takes the candidate for the incumbent.
"""

from __future__ import annotations

from pathlib import Path

from insource.risk.paired import PairedTest, Verdict
from reliability.canaries import REQUESTS
from reliability.harness import Promise, Tally
from reliability.losses import LOSSES, answers_of, loss_of
from reliability.replayed_canaries import MOST, measured, replay

EVERY = 400
REPLAYED, REPLAYED_OF_BROKEN = 3, 1
"""Of so many cases the first three are replayed: one of 10, one of 5 and one of 3 points. Of the broken build, one."""
FULL = 24_000
APART = 10
"""How many pairs a replay's verdict may lie from that of the simulation: requests under way may overtake each other."""


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Try one canary for each case, by turns worse by 10, 5, 3 and 1 points; then replay those that are to be."""
    tally = Tally()
    for case in cases:
        loss = loss_of(case)
        incumbent, candidate = answers_of(case)
        if broken:
            incumbent, candidate = candidate, incumbent
        test = PairedTest(margin=None)
        caught = test.update(incumbent, candidate) is Verdict.ROLL_BACK
        tally.count("canaries")
        tally.measure(loss.name, test.decided_at if caught and test.decided_at else REQUESTS + 1)
        if not caught:
            tally.count("never caught")
    replayed = REPLAYED_OF_BROKEN if broken else REPLAYED
    tally.add(await replay([case for case in cases if case % EVERY < replayed], folder, broken))
    return tally


def judge(tally: Tally) -> list[str]:
    """Hold medians and 95 % quantiles against what is asked, of both; a replay also against its simulation."""
    found = [] if tally.counts["canaries"] else ["no canary was tried"]
    for loss in LOSSES:
        if loss.name in tally.values:
            for at, asked in ((0.5, loss.median), (0.95, loss.most)):
                requests = tally.quantile(loss.name, at)
                if asked is not None and requests > asked:
                    found.append(
                        f"{loss.points} points lost: {_requests(requests)} requests at {at:.0%}, not {asked:,}"
                    )
    return found + judge_replays(tally)


def judge_replays(tally: Tally) -> list[str]:
    """The figures asked (of fewer than a full run within two standard errors), and nothing for a canary rolled back."""
    counts = tally.counts
    found = [] if counts["replays"] else ["no canary was replayed"]
    for what in ("replayed otherwise", "late canaries", "broken replayed requests"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} in {counts['replays']:,} replays")
    if tally.quantile("pairs apart from the simulation", 1.0) > APART:
        found.append(f"a replay's verdict fell over {APART} pairs from its simulation's")
    if counts["replays"] and not (counts["replayed canary requests"] and counts["requests after"]):
        found.append("no canary was asked anything, or none was seen to end")
    for loss in LOSSES:
        for at, asked in ((0.5, loss.median), (0.95, loss.most)):
            values = tally.values.get(measured(loss.points), [])
            over = sum(value > asked for value in values) if asked is not None else 0
            if over > _at_most(1.0 - at, len(values)):
                found.append(
                    f"{loss.points} points lost, replayed: {over} of {len(values)} took over {asked:,} requests"
                )
    return found


def _at_most(share: float, tried: int) -> float:
    """Return how many of `tried` may lie above: the share in a full run, of fewer two standard errors more."""
    return share * tried + (0.0 if tried >= FULL // EVERY else 2.0 * (share * (1.0 - share) * tried) ** 0.5)


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    simulated = _told(tally, {loss.points: loss.name for loss in LOSSES}, REQUESTS)
    replayed = _told(tally, {loss.points: measured(loss.points) for loss in LOSSES}, MOST)
    last, beyond = "canary requests until rolled back", "canary requests until all was calm"
    return (
        f"{counts['canaries']:,} canaries, median requests until rolled back (95 %): {simulated}; "
        f"{counts['never caught']} never caught. {counts['replays']:,} of them replayed through a gateway: {replayed}, "
        f"{counts['replayed otherwise']} otherwise than simulated (verdicts at most "
        f"{tally.quantile('pairs apart from the simulation', 1.0):.0f} pairs apart); after the verdict a canary got "
        f"{tally.quantile(last, 0.5):.0f} requests more ({tally.quantile(last, 0.95):.0f}; "
        f"{tally.quantile('rolled back s', 0.5):.1f} s, {tally.quantile('rolled back s', 0.95):.1f} s) until the "
        f"registry had it, {tally.quantile(beyond, 0.5):.0f} ({tally.quantile(beyond, 0.95):.0f}) until the worker "
        f"did, then {counts['late canaries']} of {counts['requests after']:,}"
    )


def _told(tally: Tally, names: dict[int, str], most: int) -> str:
    return ", ".join(
        f"{points} points after {_requests(tally.quantile(name, 0.5), most)} ("
        f"{_requests(tally.quantile(name, 0.95), most)})"
        for points, name in names.items()
        if name in tally.values
    )


def _requests(number: float, most: int = REQUESTS) -> str:
    return f"more than {most:,}" if number > most else f"{number:,.0f}"


PROMISE = Promise(
    id="C2",
    says="Real losses are caught early",
    asked="true drops of 10, 5 and 3 points, 6 % discordance (12 % at 10 points): rolled back after a median of at "
    "most 100, 220 and 500 requests, 3 points after at most 1,600 in 95 %; 1 point within 20,000 in at least 95 %",
    unit="canaries",
    full=FULL,
    sample=200,
    slow=2_000,
    control=20,
    chunk=4_000,
    run=run,
    judge=judge,
    seen=seen,
)
