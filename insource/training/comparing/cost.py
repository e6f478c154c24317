"""What a thousand requests cost with a version: cores, power, training, and the upstream for what it escalates.

It knows prices and seconds; not versions. Money is Decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from insource.types import Example

CORE_HOUR = Decimal("0.04")
"""What an hour of one core costs to rent: 0.04 to 0.05 USD on demand at the large clouds (two virtual cores of a
compute-optimised machine are listed at 0.085 USD an hour)."""
KILOWATT_HOUR = Decimal("0.25")
REQUESTS_PER_MONTH = 100_000
MONTH = timedelta(days=30)
SHORTEST = timedelta(hours=1)
"""Times that span less say nothing of a month."""
JOULES = Decimal(3_600_000)
PLACES = Decimal("1E-12")


@dataclass(frozen=True, slots=True)
class UpstreamTerms:
    """Where escalated requests go: names with their jurisdictions, and what one request costs there, None if unknown.

    `may_leave` is false where the policy lets none of the task's requests go to any of them: what is not accepted is
    kept then, and nobody answers it.
    """

    places: tuple[tuple[str, str | None], ...] = ()
    request: Decimal | None = None
    may_leave: bool = True

    def told(self) -> str:
        """Return the names with their jurisdictions."""
        return ", ".join(f"{name} ({where or 'jurisdiction not stated'})" for name, where in self.places)


@dataclass(frozen=True, slots=True)
class Prices:
    """Of an hour of one core and a kilowatt-hour, in the currency of the upstream's prices; training is paid monthly.

    `joules` says what seconds on one core take.
    """

    joules: Callable[[float], float]
    core_hour: Decimal = CORE_HOUR
    kilowatt_hour: Decimal = KILOWATT_HOUR
    currency: str = "USD"
    requests_per_month: int = REQUESTS_PER_MONTH
    upstream: UpstreamTerms = UpstreamTerms()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a thousand requests, by part; `upstream` is None where its price is unknown, and left out of the total."""

    compute: Decimal
    energy: Decimal
    training: Decimal
    upstream: Decimal | None

    @property
    def total(self) -> Decimal:
        """The sum of what is known."""
        return self.compute + self.energy + self.training + (self.upstream or Decimal(0))


def cost_of(prices: Prices, answer_seconds: float, training_seconds: float, sent_up: float) -> Cost:
    """Return the cost of a thousand requests, each asked of the specialist first.

    `answer_seconds` on one core an answer takes, `training_seconds` on one core the version took, which one month's
    requests pay for; `sent_up` is the share of requests that go upstream as well.
    """
    hour = prices.core_hour / 3600
    joules = Decimal(repr(prices.joules(answer_seconds * 1000)))
    upstream = prices.upstream.request
    return Cost(
        compute=_rounded(Decimal(repr(answer_seconds)) * 1000 * hour),
        energy=_rounded(joules / JOULES * prices.kilowatt_hour),
        training=_rounded(Decimal(repr(training_seconds)) * hour * 1000 / prices.requests_per_month),
        upstream=None if upstream is None else _rounded(upstream * 1000 * Decimal(repr(sent_up))),
    )


def monthly_rate(examples: Sequence[Example]) -> int | None:
    """Return the rate of traffic that has times, as requests in 30 days; None where they span less than an hour."""
    times = [example.time for example in examples if example.time is not None]
    if len(times) < 2 or max(times) - min(times) < SHORTEST:
        return None
    return max(1, round((len(times) - 1) * (MONTH / (max(times) - min(times)))))


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(PLACES)
