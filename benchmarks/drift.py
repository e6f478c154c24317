"""The world changes at mid-stream: how soon acceptance is suspended or certified anew, and how many wrong answers slip
out.

Real pools (see `drifting`), a linear specialist, 5 % audits. A stream has 1,000 requests that become the reference
window, then 3,000 alike, then 6,000 after the shift, unless it is suspended; the monitor is asked every 10 requests, as
a steward would. Certified anew is a doubt that ends with the risk shown to be under the target, or with a higher
threshold, which is in force from then on: what is watched begins anew. Wrong answers are counted over the first 2,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drifting import TARGET, Drifting, Rows, late_class, other_domain, swapped
from benchmarks.figure import Figure
from insource.risk.drift import DriftMonitor, Standing
from insource.risk.drift_reference import Reference
from insource.risk.recertify import Certified

SETS = ("trec_questions", "snips", "sms_spam", "twitter_financial_news", "banking77")
FEW_CLASSES = SETS[:4]
AUDITS, WINDOW, STABLE, SHIFTED, COUNTED, STEP = 0.05, 1_000, 3_000, 6_000, 2_000, 10
RUNS, LONG = 100, 100_000
WRONG_AT_MOST, SHARE = 150, 0.95


@dataclass(frozen=True)
class Outcome:
    """What became of one stream: after how many requests of the shift it was doubted, suspended, and certified anew.

    None is never. `early` was suspended before the shift; `raised` is when the first higher threshold came into force,
    before the shift below 0, and `kept` the shares of what was accepted that it keeps after the shift, `broken`
    whether the risk is then above the target all the same. `wrong` counts the wrong accepted answers among the first
    2,000 requests after the shift; `audited` is the share of all requests that got a reference although accepted.
    """

    early: bool
    doubted: int | None
    suspended: int | None
    cleared: int | None
    wrong: int
    audited: float
    raised: int | None = None
    kept: float | None = None
    broken: bool = False


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
    served = Served(pool, pool.draw(random, WINDOW, 0), doubts=doubts)
    rows = pool.draw(random, stable, shifted)
    coins = random.random(len(rows))
    doubted, suspended, cleared, raised, already, slipped, end = None, None, None, None, 0, 0, 0
    for start in range(0, len(rows), STEP):
        slips = served.take(rows.at(np.arange(start, start + STEP)), coins[start : start + STEP])
        slipped += slips if stable <= start < stable + COUNTED else 0
        end, standing = start + STEP - stable, served.monitor.standing
        if standing is Standing.CROSSED:
            suspended = end
            break
        if served.raise_threshold():
            raised, already = end if raised is None else raised, 0
        elif end > 0:
            doubted = end if doubted is None and standing is Standing.DOUBT else doubted
            cleared = end if cleared is None and served.monitor.cleared > already else cleared
        else:
            already = served.monitor.cleared
    early, audited = suspended is not None and end <= 0, served.bought / (end + stable)
    return Outcome(early, doubted, suspended, cleared, slipped, audited, raised, *served.kept())


class Served:
    """A version that serves, its threshold, and what watches it; `bought` counts the accepted that were audited."""

    def __init__(self, pool: Drifting, window: Rows, *, doubts: bool) -> None:
        self.pool, self.threshold, self.bought = pool, pool.threshold, 0
        self._doubts, self._window = doubts, window
        self.monitor = DriftMonitor(TARGET, self._reference(), certified=Certified(self.threshold))

    def take(self, rows: Rows, coins: NDArray[np.float64]) -> int:
        """Serve requests, and return how many wrong answers were accepted."""
        monitor, accepted, wrong = self.monitor, rows.scores >= self.threshold, rows.answers != rows.references
        picked = coins < (monitor.audit_rate(AUDITS) if self._doubts else AUDITS)
        self.bought += int((picked & accepted).sum())
        monitor.requests(scores=rows.scores, answers=rows.answers)
        monitor.escalated(references=rows.references[~accepted], wrong=wrong[~accepted])
        monitor.audits(wrong=wrong[picked & accepted], scores=rows.scores[picked], differs=wrong[picked])
        if len(self._window) < WINDOW:
            self._window = self._window.and_then(rows)
            if len(self._window) == WINDOW:
                self.monitor = monitor.compared_with(self._reference())
        return int((accepted & wrong).sum())

    def raise_threshold(self) -> bool:
        """Take a higher threshold where a doubt found one, and begin anew to watch; say whether."""
        found = self.monitor.raised
        if found is None or found.threshold is None:
            return False
        self.threshold, self._window = found.threshold, self._window.at(np.arange(0))
        certified = Certified(self.threshold, doubts=self.monitor.doubts + 1)
        self.monitor = DriftMonitor(TARGET, Reference(), certified=certified)
        return True

    def kept(self) -> tuple[float | None, bool]:
        """Return which share of what was accepted a raised threshold keeps after the shift (None where it was not
        raised), and whether the risk is then above the target."""
        if self.threshold == self.pool.threshold:
            return None, False
        (before, _), (after, risk) = (self.pool.shifted_to(each) for each in (self.pool.threshold, self.threshold))
        return after / before, risk > TARGET

    def _reference(self) -> Reference:
        if not self._doubts:
            return Reference()
        window, up = self._window, self._window.scores < self.threshold
        return Reference.of(
            self.pool.n_answers,
            scores=window.scores,
            answers=window.answers,
            escalated=window.references[up],
            escalated_wrong=(window.answers != window.references)[up],
        )


def _figure(
    what: str, found: list[Outcome], risk: tuple[float, float] | None = None, *, judged: bool = False
) -> Figure:
    late = [outcome for outcome in found if not outcome.early]
    ended = [_first(outcome.suspended, outcome.cleared, _after(outcome.raised)) for outcome in late]
    wrong = [outcome.wrong for outcome in late]
    good = sum(end is not None and slips <= WRONG_AT_MOST for end, slips in zip(ended, wrong, strict=True))
    soon = sum(end is not None and end <= COUNTED for end in ended)
    truth = "" if risk is None else f"risk {risk[0]:.1%} then {risk[1]:.1%}; "
    raised = [outcome for outcome in late if outcome.raised is not None]
    kept = [outcome.kept for outcome in raised if outcome.kept is not None]
    keeps = f" keeping {np.median(kept):.0%} of what it accepted" if kept else ""
    seen = (
        f"{truth}{good} of {len(found)} ({soon} decided within {COUNTED:,}); doubted after "
        f"{_median([each.doubted for each in late])}, suspended {_median([each.suspended for each in late])}, shown to "
        f"hold {_median([each.cleared for each in late])}, threshold raised {_median([each.raised for each in raised])}"
        f"{keeps} (too risky then: {sum(each.broken for each in raised)}; suspended later: "
        f"{sum(each.suspended is not None for each in raised)}); "
        f"wrong {np.median(wrong):.0f}, 95 % up to {np.quantile(wrong, 0.95):.0f}; early {len(found) - len(late)}"
    )
    reach = f">= {SHARE:.0%} suspended or certified anew, up to {WRONG_AT_MOST} wrong" if judged else None
    return Figure(what, seen, reach, good >= SHARE * len(found))


def _stable(pool: Drifting, runs: int, requests: int) -> Figure:
    found = [follow(pool, 1_000 + seed, stable=requests, shifted=0) for seed in range(runs)]
    false = sum(outcome.suspended is not None for outcome in found)
    raised = sum(outcome.raised is not None for outcome in found)
    audited = float(np.mean([outcome.audited for outcome in found]))
    return Figure(
        f"stable: {pool.name}, {runs} x {requests:,} requests",
        f"risk {pool.risk()[0]:.1%}: suspended {false}, threshold raised {raised}; {audited:.1%} of requests audited "
        "beyond what escalates",
        "none suspended where the risk is under the target", false == 0 or pool.risk()[0] > TARGET,
    )  # fmt: skip


def _after(place: int | None) -> int | None:
    """Return a place after the shift; None for one before."""
    return place if place is not None and place > 0 else None


def _first(*places: int | None) -> int | None:
    return min((place for place in places if place is not None), default=None)


def _median(places: list[int | None]) -> str:
    """Return how many there are, and their median."""
    known = [place for place in places if place is not None]
    return f"{np.median(known):,.0f} ({len(known)})" if known else "- (0)"
