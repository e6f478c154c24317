"""The options that state an upstream's prices, and how their texts become money.

It knows neither configuration files nor what is bought.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from decimal import Decimal

_F = TypeVar("_F", bound=Callable[..., Any])


def price_options(function: _F) -> _F:
    """Add --price-in, --price-out and --currency."""
    for option in (
        click.option("--currency", default="USD", show_default=True, help="Currency of the prices."),
        click.option("--price-out", metavar="MONEY", help="Price of a million output tokens."),
        click.option("--price-in", metavar="MONEY", help="Price of a million input tokens."),
    ):
        function = option(function)
    return function


def price(text: str | None, which: str) -> Decimal | None:
    """Return --price-in or --price-out (`which`: "in" or "out") as money, None where it is not given.

    Raises ConfigError for what is no amount of at least 0.
    """
    from decimal import Decimal, InvalidOperation

    from insource.config import check_flag

    if text is None:
        return None
    amount: Any = text
    with suppress(InvalidOperation):
        amount = Decimal(text)
    checked: Decimal = check_flag(f"upstreams.NAME.price_{which}", amount, f"--price-{which}")
    return checked
