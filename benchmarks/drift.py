"""The world changes at mid-stream: how soon acceptance is suspended, how many wrong answers slip out until then.

Real pools (see `drifting`), a linear specialist, 5 % audits. A stream has 1,000 requests that become the reference
window, then 3,000 alike, then up to 6,000 after the shift, until a verdict; the monitor is asked every 10 requests, as
a steward would. Wrong answers are counted over the first 2,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.drifting import TARGET, Drifting, late_class, other_domain, swapped
from benchmarks.figure import Figure
from insource.risk.drift import DriftMonitor, Standing
from insource.risk.drift_reference import Reference

SETS = ("trec_questions", "snips", "sms_spam", "twitter_financial_news", "banking77")
FEW_CLASSES = SETS[:4]
AUDITS, WINDOW, STABLE, SHIFTED, COUNTED, STEP = 0.05, 1_000, 3_000, 6_000, 2_000, 10
RUNS, LONG = 100, 100_000
WRONG_AT_MOST, SHARE = 150, 0.95


@dataclass(frozen=True)
class Outcome:
    """What became of one stream: after how many requests of the shift it was doubted, suspended, and certified anew.

    None is never. `early` was suspended before the shift; `wrong` counts the wrong accepted answers among the first
    2,000 requests after it; `audited` is the share of all requests that got a reference although they were accepted.
    """

    early: bool
    doubted: int | None
    suspended: int | None
    cleared: int | None
    wrong: int
    audited: float


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """100 streams of each kind of shift, shared out among the sets; risk alone beside; then streams that do not."""
    sets, runs = (SETS[:1], 10) if quick else (SETS, RUNS)
    figures = []
    for what, pools in _shifts(data, home, sets):
        found = [[follow(pool, seed) for seed in range(-(-runs // len(pools)))] for pool in pools]
        alone = [follow(pool, seed, doubts=False) for pool in pools for seed in range(len(found[0]))]
        every = [outcome for outcomes in found for outcome in outcomes]
        figures += [
            _figure(f"{what}: {pool.name}", outcomes, pool.risk()) for pool, outcomes in zip(pools, found, strict=True)
        ]
        figures += [
            _figure(f"{what}: all sets", every, judged=True), _figure(f"{what}: risk alone, never in doubt", alone)
        ]  # fmt: skip
    pools = [pool for name in sets if (pool := other_domain(data, home, name))]
    return [*figures, *(_stable(pool, 1, LONG // (10 if quick else 1)) for pool in pools)]


def _shifts(data: Path, home: Path, sets: tuple[str, ...]) -> Iterator[tuple[str, list[Drifting]]]:
    few = [name for name in sets if name in FEW_CLASSES]
    late = [late_class(data, home, name, 1) for name in sets if name != "sms_spam"]
    yield "a late class (10 %)", [pool for pool in late if pool]
    yield "two labels swapped", [pool for name in few if (pool := swapped(data, home, name))]
    yield "another domain (30 %)", [pool for name in sets if (pool := other_domain(data, home, name))]


def follow(pool: Drifting, seed: int, *, stable: int = STABLE, shifted: int = SHIFTED, doubts: bool = True) -> Outcome:
    """Follow one stream to its end or to its suspension."""
    random = np.random.default_rng(seed)
    window = pool.draw(random, WINDOW, 0)
    up = window.scores < pool.threshold
    reference = Reference.of(
        pool.n_answers,
        scores=window.scores,
        answers=window.answers,
        escalated=window.references[up],
        escalated_wrong=(window.answers != window.references)[up],
    )
    monitor = DriftMonitor(TARGET, reference if doubts else Reference())
    rows = pool.draw(random, stable, shifted)
    accepted, wrong = rows.scores >= pool.threshold, rows.answers != rows.references
    coins = random.random(len(rows))
    doubted, cleared, already, bought = None, None, 0, 0
    first = slice(stable, stable + COUNTED)
    for start in range(0, len(rows), STEP):
        part = slice(start, start + STEP)
        picked = coins[part] < (monitor.audit_rate(AUDITS) if doubts else AUDITS)
        bought += int((picked & accepted[part]).sum())
        monitor.requests(scores=rows.scores[part], answers=rows.answers[part])
        up = ~accepted[part]
        monitor.escalated(references=rows.references[part][up], wrong=wrong[part][up])
        standing = monitor.audits(wrong=wrong[part][picked & accepted[part]])
        end = start + STEP
        if standing is Standing.CROSSED:
            slipped = int((accepted & wrong)[stable : min(end, first.stop)].sum())
            return Outcome(end <= stable, doubted, end - stable, None, slipped, bought / end)
        if end > stable:
            doubted = end - stable if doubted is None and standing is Standing.DOUBT else doubted
            cleared = end - stable if cleared is None and monitor.cleared > already else cleared
        else:
            already = monitor.cleared
    return Outcome(False, doubted, None, cleared, int((accepted & wrong)[first].sum()), bought / len(rows))


def _figure(
    what: str, found: list[Outcome], risk: tuple[float, float] | None = None, *, judged: bool = False
) -> Figure:
    late = [outcome for outcome in found if not outcome.early]
    ended = [_first(outcome.suspended, outcome.cleared) for outcome in late]
    wrong = [outcome.wrong for outcome in late]
    good = sum(end is not None and slips <= WRONG_AT_MOST for end, slips in zip(ended, wrong, strict=True))
    soon = sum(end is not None and end <= COUNTED for end in ended)
    truth = "" if risk is None else f"risk {risk[0]:.1%} then {risk[1]:.1%}; "
    doubted = _median([outcome.doubted for outcome in late])
    seen = (
        f"{truth}{good} of {len(found)} ({soon} decided within {COUNTED:,}); doubted after {doubted}, suspended "
        f"{_median([outcome.suspended for outcome in late])}, certified {_median([each.cleared for each in late])}; "
        f"wrong {np.median(wrong):.0f}, 95 % up to {np.quantile(wrong, 0.95):.0f}; early {len(found) - len(late)}"
    )
    reach = f">= {SHARE:.0%} suspended or certified anew, up to {WRONG_AT_MOST} wrong" if judged else None
    return Figure(what, seen, reach, good >= SHARE * len(found))


def _stable(pool: Drifting, runs: int, requests: int) -> Figure:
    found = [follow(pool, 1_000 + seed, stable=requests, shifted=0) for seed in range(runs)]
    false = sum(outcome.suspended is not None for outcome in found)
    audited = float(np.mean([outcome.audited for outcome in found]))
    return Figure(
        f"stable: {pool.name}, {runs} x {requests:,} requests",
        f"risk {pool.risk()[0]:.1%}: suspended {false}; {audited:.1%} of requests audited beyond what escalates",
        "none suspended where the risk is under the target", false == 0 or pool.risk()[0] > TARGET,
    )  # fmt: skip


def _first(*places: int | None) -> int | None:
    return min((place for place in places if place is not None), default=None)


def _median(places: list[int | None]) -> str:
    """Return how many there are, and their median."""
    known = [place for place in places if place is not None]
    return f"{np.median(known):,.0f} ({len(known)})" if known else "- (0)"
