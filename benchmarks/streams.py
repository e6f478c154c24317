"""Many replays of each of four sets in random order: is the target kept, and is the coverage that could be had, had?

Each replay is a stream from nothing, by the loop that `insource backtest` runs; features are computed once. What a
replay came to is kept under the home folder, so that a run which was stopped goes on where it was.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from benchmarks.ordered import Asked, Ordered, alone, kept, prepare, reordered
from insource.backends.specialist import Specialist
from insource.cascade.coin import hash_coin
from insource.lifecycle.replay import Plan, Replay
from insource.lifecycle.schedule import GROWTH, default_warmup
from insource.training.crossfit import cores, cross_fit
from insource.training.encoder_graph import BUILDER
from insource.training.splits import folds
from insource.training.students.contract import Rows
from insource.types import Task

SETS = ("sms_spam", "twitter_financial_news", "banking77", "clinc150")
REPLAYS, QUICK = 40, 2
MOST = 12_000
"""Of larger sets so many requests, drawn anew for each replay."""
MANY, MOST_OF_MANY, GROWTH_OF_MANY = 50, 8_000, 2.0
"""A set with so many answers is drawn from, retrained less often than by default, and read by its sentence embeddings
alone, for the time that fits of so many answers take."""
FAMILY = "encoder-frozen"
TARGET = 0.05
MAY_EXCEED = 0.05
WITHIN = 0.10


@dataclass(frozen=True)
class Seen:
    """One replay: risk and coverage of all accepted; of its last third the coverage, and the best there could be.

    `best` is the largest coverage of the last third whose risk is within the target, at any threshold of the version
    that served last. What it has learned from itself is answered out of fold, by fits that have not.
    """

    requests: int
    risk: float
    coverage: float
    up: float
    last: float
    best: float


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Replay each set as often as asked."""
    replays, figures = QUICK if quick else REPLAYS, []
    for name in SETS[:1] if quick else SETS:
        _asked(data, home, name).material.encoder()  # embedded and kept before the processes begin
        with ProcessPoolExecutor(cores(), initializer=alone) as pool:
            seen = list(pool.map(_replay, *zip(*((data, home, name, seed) for seed in range(replays)), strict=True)))
        figures += list(_figures(name, seen))
    return figures


def replay(asked: Asked, seed: int) -> Seen:
    """Replay the set in the order of `seed`."""
    order = np.random.default_rng(seed).permutation(len(asked.stream))
    many = len(set(asked.stream.references)) > MANY
    order = order[: MOST_OF_MANY if many else MOST]
    stream = reordered(asked.stream, order)
    material = Ordered(asked.material, order, asked.room, sentences=many)
    task = Task(asked.name, target_risk=TARGET)
    plan = Plan(task, FAMILY, seed, default_warmup(TARGET), growth=GROWTH_OF_MANY if many else GROWTH)
    whole = Replay(stream, material, plan, hash_coin(seed), lambda done, total: None)
    found = asyncio.run(whole.run())
    accepted, part = int(found.accepted.sum()), np.arange(2 * len(stream) // 3, len(stream))
    return Seen(
        requests=len(stream),
        risk=float((found.accepted & found.wrong).sum() / max(accepted, 1)),
        coverage=float(found.accepted.mean()),
        up=float((~found.accepted | found.audited).mean()),
        last=float(found.accepted[part].mean()),
        best=_best(whole, material, part),
    )


def _best(whole: Replay, material: Ordered, part: Rows) -> float:
    """Return the largest coverage of these requests that the last version could have had within the target."""
    serving, stream = whole.serving, whole.stream
    if serving is None or not isinstance(serving.specialist, Specialist):
        return 0.0
    space = serving.specialist.answers
    labels = space.normalise_all(stream.references)
    classes = np.array([-1 if label is None else space.index(label) for label in labels])
    found = serving.specialist.probabilities([stream.texts[row] for row in part])
    at = max(version.at for version in whole.result.versions if version.took_over)
    learned = np.flatnonzero(whole.known[:at] & (classes[:at] >= 0))
    own = np.intersect1d(learned, part)
    fit = cross_fit(
        *material.encoder(),
        evidence=own,
        folds=folds(stream.groups[own], 0),
        also=np.setdiff1d(learned, own),
        classes=classes,
        n_classes=len(space.answers),
    )
    found[np.searchsorted(part, own)] = fit.probabilities
    wrong = found.argmax(axis=1) != classes[part]
    by_score = np.argsort(-serving.specialist.scores(found), kind="stable")
    counts = np.arange(1, len(part) + 1)
    within = counts[np.cumsum(wrong[by_score]) <= TARGET * counts]
    return float(within[-1] / len(part)) if len(within) else 0.0


def _replay(data: Path, home: Path, name: str, seed: int) -> Seen:
    path = home / "streams" / f"{name}-{BUILDER}-{FAMILY}-{seed}.json"
    return kept(path, Seen, lambda: replay(_asked(data, home, name), seed))


@cache
def _asked(data: Path, home: Path, name: str) -> Asked:
    return prepare(data, home, name)


def _figures(name: str, seen: list[Seen]) -> Iterator[Figure]:
    over = sum(each.risk > TARGET for each in seen) / len(seen)
    limit = MAY_EXCEED + 2 * math.sqrt(MAY_EXCEED * (1 - MAY_EXCEED) / len(seen))
    risks = np.array([each.risk for each in seen])
    yield Figure(
        f"{name}, {len(seen)} replays of {seen[0].requests:,} requests: realised risk above {TARGET:.0%}",
        f"{over:.1%} of them; mean {risks.mean():.2%}, highest {risks.max():.2%}",
        f"<= {limit:.1%}", over <= limit,
    )  # fmt: skip
    last, best = (np.array([getattr(each, which) for each in seen]) for which in ("last", "best"))
    yield Figure(
        f"{name}: coverage of the last third, under the best of the last version",
        f"{100 * (best - last).mean():.1f} points ({last.mean():.1%} of {best.mean():.1%}; at most "
        f"{100 * (best - last).max():.1f})",
        f"<= {100 * WITHIN:.0f} points", float((best - last).mean()) <= WITHIN,
    )  # fmt: skip
    told = ", ".join(f"{np.mean([getattr(each, which) for each in seen]):.1%} {what}"
                     for which, what in (("coverage", "accepted"), ("up", "going up in any way")))  # fmt: skip
    yield Figure(f"{name}: of all requests", told)
