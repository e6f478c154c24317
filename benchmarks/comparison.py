"""Choosing: `insource compare` on banking77 within ten minutes, and whether what it recommends is on the true front.

The true front is that of the same candidates with their accuracy and coverage on the official test rows, which no
candidate has seen and which decided nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, insource, part

SET, TASK = "banking77", "banking77-compared"
BUDGET = 600.0
OVER = 1.05
SHARES = 0.005
"""Coverage on 3,080 test rows is known to a point either way; half a point is no difference."""
PRICES = ("--price-in", "2.5", "--price-out", "10")


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Both figures; `quick` takes a small set and 90 seconds."""
    name, budget = ("trec_questions", 90.0) if quick else (SET, BUDGET)
    task = f"{TASK}-quick" if quick else TASK
    told, seconds = insource(
        home, "compare", part(data, name, "train"), "--task", task, "--time-budget", f"{budget:.0f}s", *PRICES
    )
    found = [_tested(each, task, part(data, name, "test"), home) for each in told["candidates"]]
    chosen = next(each for each in found if each["name"] == told["recommendation"]["name"])
    above = [each["name"] for each in found if dominates(each, chosen)]
    listed = ", ".join(f"{each['name']} {each['accuracy']:.2%}" for each in found)
    took = f"{seconds:.0f} s of {budget:.0f} ({len(found)} candidates: {listed})"
    front = f"{chosen['name']}, {chosen['accuracy']:.2%}" + (f"; dominated by {', '.join(above)}" if above else "")
    return [
        Figure(f"{name}, compare, time", took, f"<= {OVER * budget:.0f} s", seconds <= OVER * budget),
        Figure(f"{name}, compare, recommends from the true front", front, "dominated by none", not above),
    ]


def dominates(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether one candidate is no worse than another in all that is compared, and better in something."""
    keys = ("errors", "cost", "p50", "sent_up")
    mine, theirs = ([each[key] for key in keys] for each in (one, other))
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def _tested(each: dict[str, Any], task: str, test: Path, home: Path) -> dict[str, Any]:
    """Return a candidate's figures with accuracy and coverage on the official test rows, as the front takes them."""
    measured, _ = insource(home, "evaluate", f"{task}@{each['version']}", test)
    house = sum(float(each["cost_per_thousand"][part]) for part in ("compute", "energy", "training"))
    certified = max(each["sent_up"], 1e-9)
    sent_up = 1.0 - 0.95 * measured["coverage"]
    upstream = float(each["cost_per_thousand"]["upstream"]) / certified * sent_up
    return {
        "name": each["name"],
        "accuracy": measured["accuracy"],
        "errors": round((1.0 - measured["accuracy"]) * measured["rows"]),
        "cost": float(f"{house + upstream:.1e}"),
        "p50": float(f"{each['latency_ms']['p50']:.2g}"),
        "sent_up": round(sent_up / SHARES) * SHARES,
    }
