"""The budget of extra attempts, retries and fallbacks alike, so that an outage is not made worse by asking twice.

A token bucket that requests fill, not time. It knows no upstream and no clock.
"""

from __future__ import annotations

FIRST = 3.0
MOST = 10.0


class RetryBudget:
    """Each request sent up earns `share` tokens, each attempt beyond its first spends one.

    It starts with 3 tokens, so that a lone request may be repeated, and holds at most 10. So over the first N requests
    there are at most `share` * N + 3 extra attempts, and over any N in a row at most `share` * N + 10: with a share of
    0.2, attempts stay at 1.2 N and a constant that does not grow, however long everything fails. As no token comes
    with time, few requests in an outage earn few. A share of 0 forbids extra attempts altogether.
    """

    __slots__ = ("_share", "_tokens")

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = FIRST if share > 0 else 0.0

    def earn(self) -> None:
        """Count a request that is sent up."""
        self._tokens = min(MOST, self._tokens + self._share)

    def spend(self) -> bool:
        """Take the token of an extra attempt; say False where none is left."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        """Return the token of an extra attempt that was not made after all."""
        self._tokens += 1.0
