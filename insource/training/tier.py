"""Certifying a tier in the house: its server's answers against the references, on the requests that would reach it.

Each tier's threshold is certified on the requests that all tiers before it escalate, as it will see no others. So each
keeps the target on what it accepts, at its confidence level. The risk of all that is accepted together is the mean of
theirs, weighted by what each accepts: it is above the target only where one of them is, and then the others' slack
works against it. By the union bound that chance is at most the sum of theirs; by simulation (tests/training) it stays
within one. Guards do not average like that: they count a request that any tier accepts wrongly, so they are certified
on all requests with that reference, those accepted earlier among them.

Rows that the specialist learned from are decided by what it said of them out of fold, as its own certificate was. Where
that was not kept it is asked again: then it escalates fewer of them, and harder ones, than it will in production.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insource.answers import AnswerSpace, learn_answers
from insource.backends.contract import Backend
from insource.backends.house_tier import FAMILY, HouseTier, TierScore, behind, write_house_tier
from insource.backends.specialist import Specialist
from insource.errors import DataError
from insource.inputs import InputSettings
from insource.store import held_out
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.develop import guards_of
from insource.training.duplicates import near_duplicate_groups
from insource.training.house_answers import HouseAnswers
from insource.training.snapshot import inputs_of, without_erased
from insource.training.splits import folds
from insource.training.tier_outcome import TierFigures, TierTrained, lineage_of_tier
from insource.training.tier_score import Evidence, Replies, certify_tier, read_replies, scores_of
from insource.training.trunks import Say
from insource.types import Example, Request, Sensitivity, SpecialistVersion, Task

FEWEST = 10


@dataclass(frozen=True, slots=True)
class House:
    """The server to certify: its name in the configuration, the model to ask it for, and the way to it."""

    name: str
    model: str
    upstream: Backend


@dataclass(frozen=True, slots=True)
class Before:
    """What stands before the tier: the specialist's active version, opened, and the tiers before it, in their order.

    Versions without a threshold accept nothing and are left out.
    """

    specialist: tuple[SpecialistVersion, Specialist] | None = None
    tiers: tuple[tuple[SpecialistVersion, HouseTier], ...] = ()

    @property
    def versions(self) -> list[SpecialistVersion]:
        """The versions, in the order in which they are asked."""
        first = [self.specialist[0]] if self.specialist else []
        return [*first, *(version for version, _ in self.tiers)]


@dataclass(frozen=True, slots=True)
class Rows:
    """Requests with a text and a reference: `references` are labels, "" for one outside the closed set."""

    requests: tuple[Request, ...]
    texts: tuple[str, ...]
    references: NDArray[np.str_]
    groups: tuple[str | None, ...]


async def train_tier(
    examples: Sequence[Example],
    task: Task,
    house: House,
    *,
    before: Before,
    rate: Callable[[Request], Sensitivity],
    home: Path,
    registry: Registry,
    artifacts: ArtifactStore,
    say: Say,
    now: Callable[[], datetime],
    skipped: int = 0,
    gold: bool = False,
    seed: int = 0,
) -> TierTrained:
    """Ask the house, certify a threshold and register a candidate of "TASK/HOUSE"; no threshold is a value, no error.

    `rate` says how sensitive a request is; the egress keeps what may not go to the house. Only escalated rows are
    asked for. Raises DataError or OpenEndedAnswers where the examples make no task or too few are escalated, and what
    `HouseAnswers` raises.
    """
    started = time.perf_counter()
    space = before.specialist[1].answers if before.specialist else None
    inputs = before.specialist[1].inputs if before.specialist else inputs_of(task)
    rows, space = _rows(without_erased(home, examples), inputs, space, gold, rate)
    accepted, wrong, learned = _specialist_says(rows, before, home)
    for version, tier in before.tiers:
        await _tier_says(rows, version, tier, home, say, accepted, wrong)
    left = np.flatnonzero(~accepted)
    if len(left) < FEWEST:
        raise DataError(
            f"{len(left)} of {len(rows.texts):,} requests with a text and a reference would reach the tier "
            f"'{house.name}'; at least {FEWEST} were expected. Bring more traffic, or traffic that the specialist has "
            "not learned from."
        )
    advance = say(f"asking {house.name}")
    asked = [rows.requests[i] for i in left]
    replies = read_replies(space, await HouseAnswers(home, house.upstream, house.model).all(asked, advance))
    half = folds(near_duplicate_groups(rows.texts, rows.groups), seed, 2)
    evidence = Evidence(rows.references, half, left, wrong)
    score, calibration = certify_tier(evidence, replies, task, guards_of(task, space), space)
    figures = _figures(rows, left, replies, learned, score)
    lineage = lineage_of_tier(figures, task, house.model, behind(before.versions))
    manifest = write_house_tier(
        task=task.name, tier=house.name, model=house.model, answers=space, inputs=inputs, score=score
    )
    with artifacts.draft() as folder:
        digest = artifacts.commit(folder, manifest)
    return TierTrained(
        version=registry.register(f"{task.name}/{house.name}", FAMILY, digest, calibration, lineage, now()),
        artifact=artifacts.open(digest).folder,
        model=house.model,
        figures=figures,
        seconds=time.perf_counter() - started,
        skipped=skipped,
        configured=house.name in task.tiers,
    )


def _rows(
    examples: Sequence[Example],
    inputs: InputSettings,
    space: AnswerSpace | None,
    gold: bool,
    rate: Callable[[Request], Sensitivity],
) -> tuple[Rows, AnswerSpace]:
    """Return the usable rows, each request rated, and the closed set; without a specialist it is learned from them."""
    kept, texts, given, groups = [], [], [], []
    for example in examples:
        reference = example.gold if gold and example.gold is not None else example.answer
        text = inputs.text_of(example.request)
        if reference is not None and text is not None:
            kept.append(replace(example.request, sensitivity=rate(example.request)))
            texts.append(text)
            given.append(reference)
            groups.append(example.group)
    if not given:
        raise DataError(
            f"None of {len(examples):,} requests has both a text and a reference; an answer in each line was expected "
            "('answer' or 'label'). Record the upstream's answers, or label some requests."
        )
    space = space or learn_answers(given)
    labels = np.array([label or "" for label in space.normalise_all(given)])
    return Rows(tuple(kept), tuple(texts), labels, tuple(groups)), space


def _specialist_says(
    rows: Rows, before: Before, home: Path
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each row whether the specialist accepts it, whether wrongly, and whether it learned from it."""
    none = np.zeros(len(rows.texts), np.bool_)
    if before.specialist is None:
        return none, none.copy(), none.copy()
    version, specialist = before.specialist
    recalled = held_out.recall(home, version.digest, rows.texts)
    fresh = [i for i, found in enumerate(recalled) if found is None]
    answered = dict(zip(fresh, specialist.answer_texts([rows.texts[i] for i in fresh]), strict=True))
    said = [found or answered[i] for i, found in enumerate(recalled)]
    labels, scores = np.array([label for label, _ in said]), np.array([score for _, score in said])
    accepted = scores >= _threshold(version)
    return accepted, accepted & (labels != rows.references), np.array([found is not None for found in recalled])


async def _tier_says(
    rows: Rows,
    version: SpecialistVersion,
    tier: HouseTier,
    home: Path,
    say: Say,
    accepted: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
) -> None:
    """Mark what a tier before this one accepts of the rows that reach it, and what of that is wrong."""
    left = np.flatnonzero(~accepted)
    advance = say(f"asking {version.task.partition('/')[2]}")
    asked = HouseAnswers(home, tier.upstream, tier.model)
    replies = read_replies(tier.answers, await asked.all([rows.requests[i] for i in left], advance))
    scores = scores_of(tier.score, tier.answers, replies)
    takes = left[scores >= _threshold(version)]
    accepted[takes] = True
    wrong[takes] = replies.labels[scores >= _threshold(version)] != rows.references[takes]


def _threshold(version: SpecialistVersion) -> float:
    threshold = version.calibration.threshold if version.calibration else None
    return np.inf if threshold is None else threshold


def _figures(
    rows: Rows, left: NDArray[np.intp], replies: Replies, learned: NDArray[np.bool_], score: TierScore
) -> TierFigures:
    return TierFigures(
        rows=len(rows.texts),
        reaching=len(left),
        recalled=int(learned.sum()),
        outside=int((replies.labels == "").sum()),
        accuracy=float((replies.labels == rows.references[left]).mean()),
        score=score.kind,
    )
