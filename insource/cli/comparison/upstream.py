"""What a comparison counts in money: cores, power, and the upstream that the configuration lets requests go to.

It knows configuration and traffic; nothing is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insource.config import Config
    from insource.config.models import UpstreamConfig
    from insource.training.comparing.cost import Prices
    from insource.types import Example, Task

MILLION = 1_000_000


def prices_of(
    config: Config,
    task: Task,
    examples: Sequence[Example],
    joules: Callable[[float], float],
    *,
    given: tuple[Decimal | None, Decimal | None] = (None, None),
    currency: str = "USD",
    core_hour: Decimal | None = None,
    kilowatt_hour: Decimal | None = None,
    requests_per_month: int | None = None,
) -> Prices:
    """Return all prices of a comparison; `given` are the upstream's, of a million input and output tokens.

    Those count over the configuration's, and are in `currency`. A request's tokens are the traffic's, or estimated from
    its characters. The upstream's price is unknown where one that gets requests has none, or currencies differ. Without
    `requests_per_month` the rate of the traffic is taken, or 100,000 where it has no times.
    """
    from insource.policy.rules import may_take
    from insource.training.comparing.cost import (
        CORE_HOUR,
        KILOWATT_HOUR,
        REQUESTS_PER_MONTH,
        Prices,
        UpstreamTerms,
        monthly_rate,
    )

    known = [(config.upstreams[name], weight) for name, weight in config.upstreams_of(task)]
    sensitivity = task.sensitivity or config.policy.sensitivity
    allowed = [(each, weight) for each, weight in known if sensitivity in may_take(config.policy, each)]
    tokens, configured = _prices(allowed)
    if given[0] is not None and given[1] is not None:
        tokens, configured = given, None
    places = tuple((each.name, each.jurisdiction) for each, _ in allowed)
    return Prices(
        joules,
        CORE_HOUR if core_hour is None else core_hour,
        KILOWATT_HOUR if kilowatt_hour is None else kilowatt_hour,
        configured or currency,
        requests_per_month or monthly_rate(examples) or REQUESTS_PER_MONTH,
        UpstreamTerms(places, _mean(examples, *tokens), may_leave=bool(allowed) or not known),
    )


def _prices(
    allowed: Sequence[tuple[UpstreamConfig, float]],
) -> tuple[tuple[Decimal | None, Decimal | None], str | None]:
    """Return the weighted mean of the prices of those that get requests, and their currency."""
    used = [(each, Decimal(repr(weight))) for each, weight in allowed if weight > 0] or [
        (each, Decimal(1)) for each, _ in allowed[:1]
    ]
    currencies = {each.currency for each, _ in used}
    if len(currencies) != 1 or not all(each.priced for each, _ in used):
        return (None, None), None
    total = sum(weight for _, weight in used)
    price_in = sum(weight * (each.price_in or 0) for each, weight in used) / total
    price_out = sum(weight * (each.price_out or 0) for each, weight in used) / total
    return (Decimal(price_in), Decimal(price_out)), currencies.pop()


def _mean(examples: Sequence[Example], price_in: Decimal | None, price_out: Decimal | None) -> Decimal | None:
    from insource.lifecycle.stream import cost_of, estimated_usage

    labelled = [each for each in examples if each.usage or each.answer is not None or each.gold is not None]
    if price_in is None or price_out is None or not labelled:
        return None
    costs = (cost_of(each.usage or estimated_usage(each), price_in, price_out) for each in labelled)
    return sum(costs, Decimal(0)) / len(labelled)
