"""Comparing families and compressions of one task: all measured on the same rows, and one recommended with its reason.

It joins the room's parts; what is printed or drawn is the command's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from insource.backends.specialist import Specialist, open_specialist
from insource.errors import DataError, UserError
from insource.training.comparing.bench import Bench, Made
from insource.training.comparing.candidates import NotTried
from insource.training.comparing.choice import (
    Change,
    Recommendation,
    Step,
    changes_of,
    front_of,
    recommend,
    steps_of,
)  # fmt: skip
from insource.training.comparing.contender import LEVEL, Contender
from insource.training.comparing.cost import Prices, cost_of
from insource.training.comparing.data import Complexity, complexity_of
from insource.training.comparing.quiet import LONGEST, ROUNDS, Pace, measure_paces
from insource.training.comparing.time_budget import TimeBudget, shown
from insource.training.comparing.trying import try_all
from insource.training.recipe import Recipe
from insource.training.run import Workshop
from insource.training.snapshot import inputs_of, take_snapshot, without_erased
from insource.training.trunks import TrunkRoom
from insource.types import Example, Task

DEFAULT_BUDGET = 600.0
MEASURING = 0.06
"""The share of the time budget that is kept for measuring in quiet."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to compare; times in seconds, `concurrency` is how many callers ask at once while the latency is measured."""

    time_budget: float = DEFAULT_BUDGET
    concurrency: int = 1
    seed: int = 0
    base: str = "all-MiniLM-L6-v2"
    gold: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found; `to_json` gives the stable form that the reference documents."""

    task: Task
    options: Options
    prices: Prices
    complexity: Complexity
    contenders: tuple[Contender, ...]
    made: tuple[Made, ...]
    not_tried: tuple[NotTried, ...]
    test_rows: int
    seconds: float

    @property
    def front(self) -> list[Contender]:
        """Those that no other dominates."""
        return front_of(self.contenders)

    @property
    def recommendation(self) -> Recommendation:
        """Which one to take, and why."""
        return recommend(self.contenders, self.task.require)

    @property
    def steps(self) -> list[Step]:
        """The price of the next point, along the front."""
        return steps_of(self.front)

    @property
    def changes(self) -> list[Change]:
        """What would change the recommendation; more time is one of them."""
        found = changes_of(self.contenders, self.task.require, self.recommendation.contender)
        late = [each for each in self.not_tried if each.what == "left out" and each.seconds]
        return [*found, *(self._with_time(each) for each in late)]

    def _with_time(self, left: NotTried) -> Change:
        needed = self.seconds + (left.seconds or 0.0) / (1.0 - MEASURING)
        return Change(f"with --time-budget {-(-needed // 60):.0f}m", None, f"{left.name} would be tried, too")

    def to_json(self) -> dict[str, Any]:
        """Return the stable form."""
        front = {each.name for each in self.front}
        taken = {each.name: {"expected_seconds": each.expected, "seconds": each.seconds} for each in self.made}
        chosen, upstream = self.recommendation, self.prices.upstream
        per_thousand = None if upstream.request is None else f"{upstream.request * 1000:f}"
        return {
            "task": self.task.name,
            "seconds": self.seconds,
            "time_budget": self.options.time_budget,
            "concurrency": self.options.concurrency,
            "seed": self.options.seed,
            "test_rows": self.test_rows,
            "interval": {"kind": "exact binomial", "level": LEVEL},
            "complexity": self.complexity.to_json(),
            "require": asdict(self.task.require),
            "prices": {
                "currency": self.prices.currency,
                "core_hour": str(self.prices.core_hour),
                "kilowatt_hour": str(self.prices.kilowatt_hour),
                "requests_per_month": self.prices.requests_per_month,
            },
            "upstream": {
                "places": [{"name": name, "jurisdiction": where} for name, where in upstream.places],
                "may_leave": upstream.may_leave,
                "cost_per_thousand": per_thousand,
            },
            "candidates": [
                each.to_json(self.task.require, on_front=each.name in front) | taken[each.name]
                for each in self.contenders
            ],
            "not_tried": [asdict(each) for each in self.not_tried],
            "next_point": [asdict(each) | {"money": f"{each.money:f}"} for each in self.steps],
            "recommendation": {
                "name": chosen.contender.name,
                "version": chosen.contender.version.version,
                "why": chosen.why,
                "met": chosen.met,
            },
            "changes": [asdict(each) for each in self.changes],
        }


def compare(
    examples: Sequence[Example],
    task: Task,
    options: Options,
    prices: Prices,
    shop: Workshop,
    *,
    clock: Callable[[], float] = time.monotonic,
    started: float | None = None,
) -> Comparison:
    """Train and measure what could fit `task`, each registered as a candidate, and recommend one of them.

    Ends within `options.time_budget`, or a few seconds later: what is not expected to fit in what is left is left out,
    what runs over is stopped, what cannot win any more is dropped, and all of that is told. The time runs from
    `started` on, by the clock. Must not be called from a running event loop. Raises what `train` raises where nothing
    could be made, UserError where the time does not suffice for anything.
    """
    started = clock() if started is None else started
    budget = TimeBudget(options.time_budget, started, clock, MEASURING * options.time_budget)
    examples = without_erased(shop.home, examples)
    snapshot = take_snapshot(examples, inputs_of(task), gold=options.gold).named(shop.home)
    snapshot.save(shop.home)
    say = budget.guarded(shop.say)
    guarded = Workshop(
        shop.home, shop.registry, shop.artifacts, TrunkRoom(shop.home, shop.artifacts, say), say, shop.now
    )
    recipe = Recipe(family="auto", seed=options.seed, base=options.base, gold=options.gold)
    bench = Bench(examples, snapshot, task, recipe, guarded, budget, prices.joules)
    if not len(bench.split.test):
        raise DataError(
            f"No row of {len(snapshot):,} is left to test on; all are near-duplicates of each other. Collect more "
            "varied traffic."
        )
    try_all(bench)
    if not bench.made:
        raise UserError(
            f"--time-budget is {shown(options.time_budget)}, in which nothing could be trained; more was expected for "
            f"{len(snapshot):,} rows. Allow more time."
        )
    rest = max(budget.seconds - budget.spent, 0.0)
    paces = _paces(bench, shop, examples, options.concurrency, rest)
    audited = task.audit_rate
    contenders = tuple(_contender(made, pace, prices, audited) for made, pace in zip(bench.made, paces, strict=True))
    noise = [made.trained.figures.noise for made in bench.made if made.trained.figures.noise]
    return Comparison(
        task=task,
        options=options,
        prices=prices,
        complexity=complexity_of(snapshot, list(bench.curves.values()), noise[-1] if noise else None),
        contenders=contenders,
        made=tuple(bench.made),
        not_tried=tuple(bench.not_tried),
        test_rows=len(bench.split.test),
        seconds=clock() - started,
    )


def _paces(bench: Bench, shop: Workshop, examples: Sequence[Example], callers: int, rest: float) -> list[Pace]:
    """Measure the latency of all that was made, on the test rows' own requests, in at most the seconds left."""
    opened = [_opened(made, shop) for made in bench.made]
    requests = [examples[bench.snapshot.kept[row]].request for row in bench.split.test]
    each = min(LONGEST, rest / (ROUNDS * len(opened)))
    return measure_paces(opened, requests, callers, each)


def _opened(made: Made, shop: Workshop) -> Specialist:
    version = made.trained.version
    artifact = shop.artifacts.open(version.digest)
    return open_specialist(
        artifact.folder, artifact.manifest, name=version.name, digest=version.digest, trunk=shop.room.get
    )


def _contender(made: Made, pace: Pace, prices: Prices, audit_rate: float) -> Contender:
    version, figures = made.trained.version, made.trained.figures
    assert figures.test is not None
    coverage = version.calibration.coverage if version.calibration else 0.0
    sent_up = 1.0 - coverage * (1.0 - audit_rate)
    return Contender(
        name=made.name,
        version=version,
        right=~figures.test.wrong,
        accepted=figures.test.accepted,
        macro_f1=figures.test.macro_f1,
        size_bytes=figures.size_bytes,
        latency_ms=pace.latency_ms,
        answer_seconds=pace.answer_seconds,
        joules_per_thousand=prices.joules(1000 * pace.answer_seconds),
        training_seconds=made.core_seconds,
        cost=cost_of(prices, pace.answer_seconds, made.core_seconds, sent_up),
        sent_up=sent_up,
    )
