"""Budgets: the file is ahead of every reservation, and little of what is left is leased out."""

import asyncio
import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.gateway.budgets import Budgets, Claim
from insource.gateway.limits import LimitKeeper
from insource.store.spending import read_spending

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLACE = ("k", "money", "total")


def claim(amount, limit, per="total"):
    return Claim("money", "USD", Decimal(limit), per, Decimal(amount))


async def test_near_its_end_a_budget_is_asked_for_request_by_request(tmp_path):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    session = limits.session()
    assert (await session.reserve_now("k", [claim(1, 10_000)], 100)).more == {"money": Decimal(10)}
    await session.reserve("k", [claim(8_980, 10_000)])
    assert limits.ahead("k", [claim(9, 10_000)], 100) == {"money": Decimal(10)}
    assert not limits.ahead("k", [claim(10, 10_000)], 100)  # a tenth of the budget is left
    assert not limits.ahead("k", [claim(1, 100)], 100)  # a thousandth of it is no request
    late = LimitKeeper(tmp_path / "late", lambda: datetime(2026, 11, 22, 23, 59, 59, 500_000, UTC))
    assert not late.ahead("k", [claim(1, 10_000, "day")], 100)  # it would be of the day before
    limits.close()
    late.close()


async def test_what_was_spent_before_a_restart_is_not_leased_out_again(tmp_path):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    await limits.reserve("k", [claim(9_995, 10_000)])
    limits.close()
    again = LimitKeeper(tmp_path, lambda: NOON)
    granted = await again.session().reserve_now("k", [claim(1, 10_000)], 100)  # the first that is asked
    assert granted.more == {} and again._spent[PLACE] == 9_996
    again.close()


class Careless(Budgets):
    """The broken build: it takes what is about to be written for written."""

    def covered(self, taken):
        """Say yes."""
        return True


@pytest.mark.parametrize("kind", [Budgets, Careless])
async def test_the_file_is_ahead_of_every_reservation_that_is_made(tmp_path, kind):
    chance, limits, short = random.Random(7), kind(tmp_path, lambda: NOON), 0
    limit, held = Decimal(500), []
    for _ in range(150):
        what = chance.random()
        if what < 0.5:
            wanted = [claim(Decimal(chance.randint(1, 200)) / 1_000, limit)]
            asked = [limits.reserve("k", wanted) for _ in range(chance.randint(1, 4))]
            held += await asyncio.gather(*asked)
            short += read_spending(tmp_path).get(PLACE, 0) < limits._spent[PLACE]
        elif what < 0.9 and held:
            taken = held.pop(chance.randrange(len(held)))
            limits.give_back(taken, {PLACE: taken[PLACE] * Decimal(chance.choice(["0", "0.5", "1.5"]))})
        else:
            limits._tidy()
    assert (short == 0) is (kind is Budgets)
    limits.close()
    assert read_spending(tmp_path) == {PLACE: limits._spent[PLACE]}


async def test_reservations_that_the_file_is_ahead_of_wait_for_nothing(tmp_path):
    limits = LimitKeeper(tmp_path, lambda: NOON)
    session = limits.session()
    await session.reserve("k", [claim(1, 100_000)])
    for _ in range(100):
        session.settle(session.reserve_now("k", [claim(1, 100_000)]).ticket, {"money": Decimal("0.5")})
    assert read_spending(tmp_path) == {PLACE: Decimal(101)}  # a thousandth of the budget ahead
    limits._tidy()
    limits._spending.close()
    assert read_spending(tmp_path) == {PLACE: Decimal(51)}
