"""What was reserved for one request of a key with a budget, until it is known what the request took.

It knows a ticket of the limits and a settlement; not who asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from insource.gateway.budgets import MONEY, TOKENS
from insource.gateway.limits import Limiter
from insource.gateway.pricing import spent
from insource.types import Settlement


@dataclass(frozen=True, slots=True)
class Taken:
    """What was reserved of a key's budgets for one request, to be settled by its ticket."""

    limits: Limiter
    ticket: int

    def settle(self, settlement: Settlement, *, replied: bool, whole: bool, attempts: int | None) -> None:
        """Put what was spent in its place, as far as it is known after so many attempts."""
        self.limits.settle(self.ticket, spent(settlement, replied=replied, whole=whole, attempts=attempts))

    def give_back(self) -> None:
        """Nothing was sent: nothing was spent."""
        self.limits.settle(self.ticket, dict.fromkeys((MONEY, TOKENS), Decimal(0)))
