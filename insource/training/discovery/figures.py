"""Figures of a group of requests: volume, spend and repetition; what is not known is None, never zero.

It knows examples and prices; not how they were grouped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from insource.risk.noise import label_noise
from insource.training.discovery.proposal import Repetition, Volume
from insource.types import Example

MILLION = Decimal(1_000_000)
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens; None where unknown."""

    price_in: Decimal | None = None
    price_out: Decimal | None = None
    currency: str = "USD"

    def of(self, example: Example) -> Decimal | None:
        """Return what a request cost, None where its tokens or a price are unknown."""
        if example.usage is None or self.price_in is None or self.price_out is None:
            return None
        usage = example.usage
        return (usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out) / MILLION


Cost = Callable[[Example], Decimal | None]


def days_of(examples: Sequence[Example]) -> float | None:
    """Return the days that a log spans, at least one; None where fewer than two of its requests have a time."""
    times = [example.time for example in examples if example.time is not None]
    if len(times) < 2:
        return None
    return max((max(times) - min(times)).total_seconds() / SECONDS_PER_DAY, 1.0)


def volume_of(
    examples: Sequence[Example], rows: NDArray[np.intp], days: float | None, cost: Cost, currency: str
) -> Volume:
    """Return volume and spend of the requests with these numbers."""
    costs = [amount for row in rows if (amount := cost(examples[row])) is not None]
    timed = days is not None and any(examples[row].time is not None for row in rows)
    return Volume(
        len(rows),
        len(rows) / len(examples),
        len(rows) / days if timed and days is not None else None,
        sum(costs, Decimal(0)) if costs else None,
        currency if costs else None,
        len(costs),
    )


def repetition_of(texts: Sequence[str], labels: Sequence[str | None]) -> Repetition:
    """Return how often texts came again, blanks and case apart, and were answered differently then."""
    seen: dict[str, dict[str | None, int]] = defaultdict(lambda: defaultdict(int))
    for text, label in zip(texts, labels, strict=True):
        seen[" ".join(text.split()).casefold()][label] += 1
    pairs = differing = 0
    for answers in seen.values():
        counts = [count for label, count in answers.items() if label is not None]
        total = sum(counts)
        pairs += total * (total - 1) // 2
        differing += (total * total - sum(count * count for count in counts)) // 2
    share = differing / pairs if pairs else None
    floor = None if share is None else label_noise(share)
    return Repetition((len(texts) - len(seen)) / len(texts) if texts else 0.0, pairs, share, floor)
