"""C4: a trial whose metrics are missing, constant, NaN, late or partial: it stays where it is.

The steward is the product's own, in auto mode, on a real registry; the control is one to which no data is good news.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from insource.lifecycle import gates
from insource.lifecycle.rollout import Back, Hold, Rollout, State, Step
from insource.types import Audit, Stage
from reliability.harness import Promise, Tally
from reliability.rehearsed import Rehearsal, audit

ROWS = 700
"""More than every step together needs of whole rows."""
PLACES = ((Stage.SHADOW, 0.0), (Stage.CANARY, 0.05), (Stage.CANARY, 0.50))

Told = dict[str, Any]
Spoil = Callable[[int, random.Random], "Told | None"]
"""What is wrong with a request's row: values that replace the usual ones; None where the row never comes."""


class Trusting(Rollout):
    """The build that is broken on purpose: a step is taken unless something is shown against it."""

    def next(self, state: State) -> Step | Hold | Back:
        """Go on without evidence."""
        shares = (*gates.SHARES, None)
        share = next(each for each in shares if each is None or each > state.version.share)
        if state.version.stage is Stage.CANDIDATE or gates.must_go_back(state.evidence, state.task, state.version):
            return super().next(state)
        to = Stage.CANARY if share else Stage.ACTIVE
        return Step(to, share or 0.0, "nothing against it")


def _sometimes(chance: float, told: Told | None) -> Spoil:
    return lambda request, draw: told if draw.random() < chance else {}


def _always(told: Told) -> Spoil:
    return lambda request, draw: told


KINDS: dict[str, tuple[Spoil, ...]] = {
    "missing": (
        lambda request, draw: None,
        _always({"agrees": None, "detail": "no reference: upstream_failed"}),
        _always({"score": None}),
        _always({"seconds": None}),
        _always({"accepts": None}),
        _always({"stage": None}),
    ),
    "constant": (_always({"score": 0.7}), _always({"seconds": 0.002}), _always({"score": 0.0, "seconds": 0.0})),
    "nan": (
        _always({"score": float("nan")}),
        _always({"seconds": float("nan")}),
        _always({"score": float("inf")}),
        _sometimes(0.4, {"score": float("nan"), "seconds": float("nan")}),
    ),
    "late": (
        _always({"stage": Stage.CANDIDATE}),
        _always({"stage": Stage.ACTIVE}),
        lambda request, draw: {} if request < 40 else None,
        _always({"version": 9}),
    ),
    "partial": (
        _sometimes(0.3, {"score": None}),
        _sometimes(0.3, {"accepts": None}),
        _sometimes(0.3, {"seconds": None}),
        _sometimes(0.3, {"stage": None}),
        _sometimes(0.7, {"agrees": None, "detail": "no reference: upstream_timeout"}),
        lambda request, draw: {"accepts": False},
    ),
}


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Rehearse one trial for each case: its number decides place, kind, and whether there is an incumbent."""
    tally = Tally()
    for case in cases:
        draw = random.Random(case)
        kind = list(KINDS)[case % len(KINDS)]
        spoil = draw.choice(KINDS[kind])
        place, paired = draw.choice(PLACES), draw.random() < 0.5
        tally.count("runs")
        tally.count(kind)
        with Rehearsal(folder / str(case), rollout=Trusting() if broken else None) as rehearsal:
            found = _rehearse(rehearsal, place, paired, spoil, draw)
        if found == place:
            tally.count("holds")
        else:
            tally.fail(case, f"{kind} metrics in {place[0]} {place[1] or ''}: it went to {found[0]} {found[1] or ''}")
    return tally


def _rehearse(
    rehearsal: Rehearsal, place: tuple[Stage, float], paired: bool, spoil: Spoil, draw: random.Random
) -> tuple[Stage, float]:
    registry, now, name = rehearsal.registry, rehearsal.clock, rehearsal.task.name
    trial = 1
    if paired:
        rehearsal.register()
        registry.promote(name, 1, "tester", "incumbent", now())
        trial = 2
    rehearsal.register()
    to, share = place
    registry.move(name, trial, expected=Stage.CANDIDATE, to=to, share=share, who="tester", why="set up", now=now())
    written = list(_audits(trial, to, paired, spoil, draw))
    for start in range(0, len(written), 100):
        rehearsal.turn(written[start : start + 100])
        if rehearsal.at(trial) != place:
            break
    return rehearsal.at(trial)


def _audits(trial: int, stage: Stage, paired: bool, spoil: Spoil, draw: random.Random) -> Iterator[Audit]:
    for request in range(ROWS):
        if paired:
            yield audit(request, 1, Stage.ACTIVE)
        told = spoil(request, draw)
        if told is not None:
            yield replace(audit(request, trial, stage), **told)


def judge(tally: Tally) -> list[str]:
    """Every run holds."""
    runs, holds = tally.counts["runs"], tally.counts["holds"]
    if not runs:
        return ["no run was tried"]
    return [] if holds == runs else [f"{runs - holds} of {runs} went on without evidence"]


def seen(tally: Tally) -> str:
    """One line."""
    kinds = ", ".join(f"{tally.counts[kind]} {kind}" for kind in KINDS)
    return f"{tally.counts['holds']} holds in {tally.counts['runs']} runs ({kinds})"


PROMISE = Promise(
    id="C4",
    says="No evidence, no promotion",
    asked="200 runs with missing, constant, NaN, late or partial metrics: 200 holds",
    unit="runs",
    full=200,
    sample=10,
    slow=100,
    control=10,
    chunk=100,
    run=run,
    judge=judge,
    seen=seen,
)
