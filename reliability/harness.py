"""What a promise is to its harness: numbered cases, a tally that adds up, and a judgement of that tally.

A file of a promise (r02_power_cuts.py) ends in `PROMISE = Promise(...)` and is found by its name; nothing else need be
written. This file knows no promise and no state on disk.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

FILES = re.compile(r"[acrsx]\d\d_[a-z0-9_]+")
KEPT_FAILURES = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """One case that went wrong: its number, which is also its seed, and one line."""

    case: int
    what: str


@dataclass(slots=True)
class Tally:
    """What a number of cases came to. Tallies of parts add up to the tally of the whole.

    `counts` by name; `values` are measurements by name, in whatever unit the name says; `failures` are for the reader
    (the first 200 are kept): what is judged must be counted as well.
    """

    counts: Counter[str] = field(default_factory=Counter)
    values: dict[str, list[float]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] += number

    def measure(self, name: str, value: float) -> None:
        """Add one measurement."""
        self.values.setdefault(name, []).append(value)

    def fail(self, case: int, what: str, count: str = "failed") -> None:
        """Note a case that went wrong, and count it under `count`."""
        self.counts[count] += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(Failure(case, what))

    def add(self, other: Tally) -> None:
        """Take over what `other` found."""
        self.counts.update(other.counts)
        for name, values in other.values.items():
            self.values.setdefault(name, []).extend(values)
        self.failures = (self.failures + other.failures)[:KEPT_FAILURES]

    def share(self, part: str, whole: str) -> float:
        """Return one count over another; 0 where the whole is 0."""
        return self.counts[part] / self.counts[whole] if self.counts[whole] else 0.0

    def quantile(self, name: str, at: float) -> float:
        """Return the nearest-rank quantile of a measurement; 0 where nothing was measured."""
        values = sorted(self.values.get(name, ()))
        return values[max(0, -int(-len(values) * at // 1) - 1)] if values else 0.0

    def to_json(self) -> dict[str, Any]:
        """The tally as JSON."""
        failures = [[failure.case, failure.what] for failure in self.failures]
        return {"counts": dict(self.counts), "values": self.values, "failures": failures}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(Counter(data["counts"]), dict(data["values"]), [Failure(*each) for each in data["failures"]])


Run = Callable[[range, Path, bool], "Tally | Awaitable[Tally]"]


@dataclass(frozen=True)
class Promise:
    """One row of the table of promises, and how it is tried.

    `run(cases, folder, broken)` tries the numbered cases in an empty folder of its own. The number decides everything
    of a case that chance decides, so that `range(n, n + 1)` shows a failure again. `broken` does the same with a build
    that is broken on purpose. `judge` says what of the asked figure does not hold (nothing: it holds), for any number
    of cases; of a broken build it must say something. `seen` is the figure seen, in one line.

    `full` cases are a full run, `sample` those of the default suite (a few seconds), `slow` those of `scripts/test
    --all`, `control` those of the broken build. `chunk` cases are run at once by `scripts/soak`: about a minute's
    worth, and what a kill loses. `unit` says what a case is. `open` says which part of the figure is not reached yet
    and not judged, "" for none. `timed` says that seconds are judged, so that it needs the machine to itself.
    """

    id: str
    says: str
    asked: str
    unit: str
    full: int
    sample: int
    slow: int
    control: int
    chunk: int
    run: Run
    judge: Callable[[Tally], list[str]]
    seen: Callable[[Tally], str]
    open: str = ""
    timed: bool = False

    def try_cases(self, cases: range, folder: Path, *, broken: bool = False) -> Tally:
        """Run cases to their end, on an event loop of their own where `run` is asynchronous."""
        found = self.run(cases, folder, broken)
        return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found


async def _awaited(tally: Awaitable[Tally]) -> Tally:
    return await tally


def promises() -> dict[str, Promise]:
    """Return every promise by its id, in the order of their files."""
    return {promise.id: promise for promise in _found()}


def _found() -> Iterator[Promise]:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if FILES.fullmatch(module.name):
            yield importlib.import_module(f"reliability.{module.name}").PROMISE
