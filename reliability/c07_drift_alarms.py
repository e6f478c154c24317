"""C7: drift alarms are usable: planted shifts are found, and a stream that stays the same is left in peace.

It runs the product's monitor on simulated requests; the control tests score and answers again and again, as if each
time were the first (Kolmogorov and Smirnov's test and the chi-square test at 5 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare, ks_2samp

from insource.risk.drift import DriftMonitor, Standing
from insource.risk.drift_reference import Reference
from reliability.harness import Promise, Tally

ANSWERS, TARGET, THRESHOLD, AUDITS = 8, 0.05, 0.4, 0.05
WINDOW, BEFORE, LOOK, SHIFTED, STABLE, STEP = 1_000, 2_000, 500, 2_000, 10_000, 100
HUNDRED_THOUSAND = 100_000
FOUND, LEVEL_OF_CONTROL = 0.95, 0.05
SHIFTS = ("late class", "other domain", "labels swapped", "scores fall", "another mix", "another format")
FULL = 1_200


@dataclass(frozen=True)
class Requests:
    """Scores in [0, 1], answers, references (-1: outside the set) and whether each answer differs."""

    scores: NDArray[np.float64]
    answers: NDArray[np.intp]
    references: NDArray[np.intp]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which answers differ from the reference."""
        return self.answers != self.references

    @property
    def up(self) -> NDArray[np.bool_]:
        """Which requests escalate."""
        return self.scores < THRESHOLD


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Each case is a stream that shifts after 3,000 requests, in one of six ways, and one of 10,000 that does not."""
    del folder
    tally = Tally()
    for case in cases:
        random = np.random.default_rng([7, case])
        shares = random.dirichlet(np.full(ANSWERS, 4.0))
        shift = SHIFTS[case % len(SHIFTS)]
        if broken:
            alarms = _uncorrected(random, shares, STABLE)
            tally.count("broken streams")
        else:
            found = _found_after(random, shares, shift)
            tally.count("shifts")
            tally.count(f"shifts: {shift}")
            if found is None:
                tally.fail(case, f"{shift} was not found within {SHIFTED:,} requests", f"missed: {shift}")
            else:
                tally.measure("found after", found)
            alarms, suspended, doubted = _false(random, shares)
            tally.count("false suspensions", suspended)
            tally.count("stable requests in doubt", doubted)
        tally.count("stable requests", STABLE)
        tally.count("false alarms", alarms)
    return tally


def judge(tally: Tally) -> list[str]:
    """At least 95 % of every kind of shift found, at most one false alarm in 100,000 stable requests."""
    counts = tally.counts
    if not counts["stable requests"]:
        return ["no stream was tried"]
    complaints = []
    for shift in SHIFTS:
        missed, tried = counts[f"missed: {shift}"], counts[f"shifts: {shift}"]
        if tried and missed > _at_most(1.0 - FOUND, tried):
            complaints.append(f"{missed} of {tried} times {shift} was not found within {SHIFTED:,} requests")
    expected = counts["stable requests"] / HUNDRED_THOUSAND
    if counts["false alarms"] > expected + 2.0 * expected**0.5:
        rate = counts["false alarms"] / expected
        complaints.append(f"{rate:.1f} false alarms in 100,000 stable requests")
    return complaints


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    missed = sum(counts[f"missed: {shift}"] for shift in SHIFTS)
    rate = HUNDRED_THOUSAND * tally.share("false alarms", "stable requests")
    return (
        f"{counts['shifts'] - missed:,} of {counts['shifts']:,} shifts found, half within "
        f"{tally.quantile('found after', 0.5):,.0f} requests, 95 % within {tally.quantile('found after', 0.95):,.0f}; "
        f"{counts['false alarms']} false alarms in {counts['stable requests']:,} stable requests ({rate:.2f} in "
        f"100,000), {counts['false suspensions']} of them suspensions; "
        f"{tally.share('stable requests in doubt', 'stable requests'):.1%} of stable requests in doubt"
    )


def requests(random: np.random.Generator, shares: NDArray[np.float64], number: int, shift: str = "") -> Requests:
    """Draw requests: a specialist whose answer is right as often as its score says, and a shift of the named kind.

    At the threshold it accepts about six in seven requests at a risk of 3.6 %.
    """
    references = random.choice(ANSWERS, p=shares, size=number)
    scores = random.beta(1.6, 0.6, size=number)
    if shift == "scores fall":
        scores = random.beta(1.4, 0.7, size=number)
    if shift == "another mix":
        references = np.where(random.random(number) < 0.15, int(shares.argmin()), references)
    slips = random.random(number) < 0.14 * (1.0 - scores) ** 0.8
    answers = np.where(slips, (references + 1 + random.integers(ANSWERS - 1, size=number)) % ANSWERS, references)
    strange = random.random(number) < {"late class": 0.1, "other domain": 0.3}.get(shift, 0.0)
    scores = np.where(strange, random.beta(1.2, 1.2, size=number), scores)
    if shift == "late class":  # taken for one of three answers
        answers, references = (
            np.where(strange, random.integers(3, size=number), answers),
            np.where(strange, -1, references),
        )
    elif shift == "other domain":
        answers = np.where(strange, random.integers(ANSWERS, size=number), answers)
    elif shift == "labels swapped":
        first, second = np.argsort(-shares)[:2]
        turned = np.arange(ANSWERS)
        turned[[first, second]] = second, first
        references = turned[references]
    elif shift == "another format":
        references = np.full(number, -1)
    return Requests(scores, answers, references)


def _monitor(random: np.random.Generator, shares: NDArray[np.float64]) -> DriftMonitor:
    window = requests(random, shares, WINDOW)
    reference = Reference.of(
        ANSWERS, scores=window.scores, answers=window.answers, escalated=window.references[window.up],
        escalated_wrong=window.wrong[window.up],
    )  # fmt: skip
    return DriftMonitor(TARGET, reference)


def _take(monitor: DriftMonitor, rows: Requests, random: np.random.Generator) -> Standing:
    """Let the monitor see what a gateway would show it of these requests."""
    picked = random.random(len(rows.scores)) < monitor.audit_rate(AUDITS)
    monitor.requests(scores=rows.scores, answers=rows.answers)
    monitor.escalated(references=rows.references[rows.up], wrong=rows.wrong[rows.up])
    return monitor.audits(wrong=rows.wrong[picked & ~rows.up], outside=rows.references[picked] < 0)


def _part(rows: Requests, start: int, stop: int) -> Requests:
    return Requests(rows.scores[start:stop], rows.answers[start:stop], rows.references[start:stop])


def _found_after(random: np.random.Generator, shares: NDArray[np.float64], shift: str) -> int | None:
    """Return how many requests after the shift something alarmed that had not before; None for not in time."""
    monitor, rows = _monitor(random, shares), requests(random, shares, BEFORE)
    for start in range(0, BEFORE, STEP):
        _take(monitor, _part(rows, start, start + STEP), random)
    before, rows = set(monitor.alarms), requests(random, shares, SHIFTED, shift)
    for start in range(0, SHIFTED, STEP):
        _take(monitor, _part(rows, start, start + STEP), random)
        if set(monitor.alarms) - before:
            return start + STEP
    return None


def _false(random: np.random.Generator, shares: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return, of a stable stream, the alarms of every kind, the suspensions, and how many requests were in doubt."""
    monitor, rows = _monitor(random, shares), requests(random, shares, STABLE)
    alarms, suspended, doubted = 0, 0, 0
    before: set[object] = set()
    for start in range(0, STABLE, STEP):
        standing = _take(monitor, _part(rows, start, start + STEP), random)
        now: set[object] = set(monitor.alarms)
        alarms, before = alarms + len(now - before), now
        doubted += STEP * (standing is Standing.DOUBT)
        if standing is Standing.CROSSED:
            suspended, before = suspended + 1, set()
            monitor = _monitor(random, shares)
    return alarms, suspended, doubted


def _uncorrected(random: np.random.Generator, shares: NDArray[np.float64], number: int) -> int:
    """Return how often two tests for one look alarm, repeated on every 500 requests."""
    window, rows = requests(random, shares, WINDOW), requests(random, shares, number)
    expected = (np.bincount(window.answers, minlength=ANSWERS) + 0.5) / (WINDOW + ANSWERS / 2)
    alarms = 0
    for start in range(0, number, LOOK):
        part = _part(rows, start, start + LOOK)
        counts = np.bincount(part.answers, minlength=ANSWERS)
        alarms += ks_2samp(window.scores, part.scores).pvalue < LEVEL_OF_CONTROL
        alarms += chisquare(counts, expected * LOOK).pvalue < LEVEL_OF_CONTROL
    return int(alarms)


def _at_most(share: float, tried: int) -> float:
    """Return how many of `tried` may fail: the share in a full run, of fewer two standard errors more."""
    return share * tried + (0.0 if tried >= FULL // len(SHIFTS) else 2.0 * (share * (1.0 - share) * tried) ** 0.5)


PROMISE = Promise(
    id="C7",
    says="Drift alarms are usable",
    asked="six kinds of shift planted, 5 % audits: at least 95 % of each found within 2,000 requests; at most 1 false "
    "alarm in 100,000 stable requests; the control, tests for one look repeated, alarms far more often",
    unit="streams",
    full=FULL,
    sample=6,
    slow=120,
    control=12,
    chunk=60,
    run=run,
    judge=judge,
    seen=seen,
)
