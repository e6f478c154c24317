"""Amounts as people write them for keys: "60/min", "5 EUR/month", "200000/day", "90d".

It knows single texts; every function raises ValueError for one that is none.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

RATE = r"([1-9][0-9]{0,8})/(s|min|h)"
RATE_EXPECTED = "a number of requests for each s, min or h, such as 60/min"
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3_600.0}
_SPANS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MONEY = r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ?([A-Z]{3})?/(day|month|total)"
_TOKENS = r"([1-9][0-9]{0,14})/(day|month|total)"
_SPAN = r"([1-9][0-9]{0,5})(min|h|d|w)"


def parse_rate(text: str) -> tuple[int, float]:
    """Return how many requests in how many seconds: "60/min" is (60, 60.0)."""
    number, per = _whole(RATE, text).groups()
    return int(number), _SECONDS[per]


def parse_money(text: str) -> tuple[Decimal, str, str]:
    """Return amount, currency (USD where none is named) and period: "5 EUR/month"."""
    amount, currency, per = _whole(_MONEY, text).groups()
    return Decimal(amount), currency or "USD", per


def parse_tokens(text: str) -> tuple[int, str]:
    """Return number and period: "200000/day"."""
    number, per = _whole(_TOKENS, text).groups()
    return int(number), per


def parse_span(text: str) -> timedelta:
    """Return a length of time: "30min", "12h", "90d" or "4w"."""
    number, unit = _whole(_SPAN, text).groups()
    return timedelta(**{_SPANS[unit]: int(number)})


def _whole(pattern: str, text: str) -> re.Match[str]:
    found = re.fullmatch(pattern, text)
    if found is None:
        raise ValueError(text)
    return found
