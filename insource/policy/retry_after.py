"""Reading Retry-After (RFC 9110, section 10.2.3): seconds, or the date until which to wait.

It knows headers and a clock handed in; what is done about the pause is the breaker's affair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def retry_after(headers: Iterable[tuple[str, str]], now: datetime) -> float | None:
    """Return the seconds to wait, at least 0; None where the header is missing or says nothing that can be read."""
    for name, value in headers:
        if name.lower() == "retry-after":
            return _seconds(value.strip(), now)
    return None


def _seconds(value: str, now: datetime) -> float | None:
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
