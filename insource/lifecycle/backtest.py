"""Backtest: what would have been saved, and at which risk, had insource stood before last month's traffic.

It turns a replay into figures; how to decide is the replay's business, how to print them the command's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from insource.answers import learn_answers
from insource.cascade.coin import hash_coin
from insource.errors import DataError, UserError
from insource.lifecycle.replay import Advance, Plan, Replay
from insource.lifecycle.replayed import Replayed
from insource.lifecycle.schedule import default_warmup
from insource.lifecycle.stream import Stream, cost_of, to_stream
from insource.risk.bounds import binomial_upper_bound
from insource.training.families import Material, check_family
from insource.training.snapshot import inputs_of
from insource.training.trunks import Say, TrunkRoom
from insource.types import Example, Task

WINDOWS = 24


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per million tokens; None where unknown, and then no money is told."""

    price_in: Decimal | None = None
    price_out: Decimal | None = None
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Options:
    """How to backtest; `warmup` None takes max(600, 30 / target_risk) requests, `budget` counts upstream calls."""

    family: str = "auto"
    seed: int = 0
    budget: int | None = None
    warmup: int | None = None
    prices: Prices = Prices()
    base: str = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a backtest; `to_json` gives the stable form that the reference documents."""

    task: Task
    stream: Stream
    replayed: Replayed
    options: Options
    warmup: int
    skipped: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` writes."""
        found, n = self.replayed, len(self.stream)
        accepted, wrong = int(found.accepted.sum()), int((found.accepted & found.wrong).sum())
        realised = wrong / accepted if accepted else 0.0
        level = self.task.confidence_level
        return {
            "task": self.task.name,
            "requests": n,
            "skipped": self.skipped,
            "unlabelled": self.stream.unlabelled,
            "textless": self.stream.textless,
            "target_risk": self.task.target_risk,
            "confidence_level": level,
            "warmup": self.warmup,
            "budget": self.options.budget,
            "accepted": accepted,
            "audited": int(found.audited.sum()),
            "budget_spent": int(found.spent.sum()),
            "upstream_calls": self.upstream_calls,
            "coverage": accepted / n,
            "risk": {
                "realised": realised,
                "upper_bound": binomial_upper_bound(wrong, accepted, level) if accepted else None,
                "held": realised <= self.task.target_risk,
            },
            "per_answer": self._per_answer(),
            "accuracy": self._accuracy(),
            "agreement": float(1.0 - (found.wrong & (found.accepted | found.spent)).mean()),
            "cost": self._cost(),
            "seconds": self.seconds,
            "seed": self.options.seed,
            "family": self.options.family,
            "versions": [asdict(version) for version in found.versions],
            "timeline": self._timeline(),
        }

    @property
    def upstream_calls(self) -> int:
        """Everything sent up: warm-up, escalations and audits of accepted requests."""
        kept = self.replayed.accepted | self.replayed.spent
        return int((~kept | self.replayed.audited).sum())

    def _per_answer(self) -> list[dict[str, Any]]:
        space = learn_answers(self.stream.references)
        labels = np.array([label or "" for label in space.normalise_all(self.stream.references)])
        rows = []
        for answer in space.answers:
            here = labels == answer
            total = int(here.sum())
            missed = int((here & self.replayed.accepted & self.replayed.wrong).sum())
            rows.append(
                {
                    "answer": space.display(answer),
                    "rows": total,
                    "accepted": int((here & self.replayed.accepted).sum()),
                    "missed": missed,
                    "missed_upper_bound": binomial_upper_bound(missed, total, self.task.confidence_level),
                }
            )
        return rows

    def _accuracy(self) -> dict[str, float | None]:
        space = learn_answers(self.stream.references)
        golds = [None if gold is None else space.find(gold) or gold for gold in self.stream.gold]
        known = [row for row, gold in enumerate(golds) if gold is not None]
        if not known:
            return {"insource": None, "upstream": None}
        served = space.normalise_all(self.replayed.served)
        references = space.normalise_all(self.stream.references)
        return {
            "insource": sum(served[row] == golds[row] for row in known) / len(known),
            "upstream": sum(references[row] == golds[row] for row in known) / len(known),
        }

    def _cost(self) -> dict[str, str | None]:
        prices = self.options.prices
        if prices.price_in is None or prices.price_out is None:
            return {"upstream_only": None, "insource": None, "currency": None}
        costs = [cost_of(usage, prices.price_in, prices.price_out) for usage in self.stream.usages]
        kept = (self.replayed.accepted | self.replayed.spent) & ~self.replayed.audited
        paid = sum((cost for cost, free in zip(costs, kept.tolist(), strict=True) if not free), Decimal(0))
        return {
            "upstream_only": str(sum(costs, Decimal(0))),
            "insource": str(paid),
            "currency": prices.currency,
        }

    def _timeline(self) -> list[dict[str, float | int | None]]:
        n, found = len(self.stream), self.replayed
        edges = np.linspace(0, n, min(WINDOWS, n) + 1).astype(int).tolist()
        windows = []
        for start, stop in zip(edges, edges[1:], strict=False):
            accepted = found.accepted[start:stop]
            kept = int(accepted.sum())
            wrong = int((accepted & found.wrong[start:stop]).sum())
            windows.append(
                {
                    "from": start,
                    "to": stop,
                    "coverage": kept / (stop - start),
                    "risk": wrong / kept if kept else None,
                }
            )
        return windows


async def backtest(
    examples: Sequence[Example],
    task: Task,
    options: Options,
    *,
    room: TrunkRoom | None,
    say: Say,
    skipped: int = 0,
) -> Report:
    """Replay the examples in their order; `room` opens trunks (None allows the linear family alone).

    Raises DataError where there are no more requests than the shadow period, OpenEndedAnswers where the references are
    not a closed set, UserError where the budget cannot pay for the shadow period.
    """
    started = time.perf_counter()
    check_family(options.family)
    stream = to_stream(examples, inputs_of(task))
    warmup = _warmup(options, task, len(stream))
    advance = _advance(say("backtest"))
    material = Material(stream.texts, lambda: _given(room), say, options.base)
    plan = Plan(task, options.family, options.seed, warmup, options.budget)
    replayed = await Replay(stream, material, plan, hash_coin(options.seed), advance).run()
    options = replace(options, warmup=warmup)
    return Report(task, stream, replayed, options, warmup, skipped, time.perf_counter() - started)


def _warmup(options: Options, task: Task, requests: int) -> int:
    warmup = options.warmup if options.warmup is not None else default_warmup(task.target_risk)
    if options.budget is not None:
        if options.budget < 2:
            raise UserError(f"--budget is {options.budget}; at least 2 upstream calls were expected.")
        warmup = min(warmup, options.budget // 2)
    if requests <= warmup:
        raise DataError(
            f"The task has {requests:,} requests with text and reference; more than the shadow period of {warmup:,} "
            "were expected, since the first version is trained from it. Bring more traffic, or set a shorter --warmup."
        )
    return warmup


def _advance(progress: Any) -> Advance:
    return lambda done, total: progress(done, total)


def _given(room: TrunkRoom | None) -> TrunkRoom:
    if room is None:
        raise UserError("This backtest was opened without encoders; --family linear was expected.")
    return room
