"""Extra attempts stay a share of the requests, however they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.policy.retry_budget import FIRST, MOST, RetryBudget


class Unbounded(RetryBudget):
    """The guard broken: tokens are never refused."""

    def spend(self):
        super().spend()
        return True


class Unfilled(RetryBudget):
    """The guard broken: no cap on what a quiet time saves up."""

    def earn(self):
        self._tokens += self._share


def holds(budget, share, wants):
    """Whether the bounds hold over every stretch; `wants` is how many extra attempts each request asks for."""
    extra = []
    for wanted in wants:
        budget.earn()
        extra.append(sum(budget.spend() for _ in range(wanted)))
    whole = sum(extra) <= share * len(extra) + FIRST + 1e-6
    stretches = all(
        sum(extra[start:end]) <= share * (end - start) + MOST + 1e-6
        for start in range(0, len(extra), 7)
        for end in range(start + 1, len(extra) + 1)
    )
    return whole and stretches


@given(st.floats(0, 1), st.lists(st.integers(0, 12), max_size=120))
def test_over_any_stretch_of_requests(share, wants):
    assert holds(RetryBudget(share), share, wants)


def test_the_check_finds_a_budget_without_bounds():
    assert holds(RetryBudget(0.2), 0.2, [1] * 100)
    assert not holds(Unbounded(0.2), 0.2, [1] * 100)
    assert holds(RetryBudget(0.2), 0.2, [0] * 200 + [12] * 10)
    assert not holds(Unfilled(0.2), 0.2, [0] * 200 + [12] * 10)


def test_a_lone_request_may_be_repeated_and_no_share_means_never():
    first, none = RetryBudget(0.01), RetryBudget(0.0)
    assert [first.spend() for _ in range(4)] == [True, True, True, False]
    none.earn()
    assert not none.spend()


@pytest.mark.parametrize("share", [0.1, 0.2, 1.0])
def test_what_was_not_used_is_given_back(share):
    budget = RetryBudget(share)
    while budget.spend():
        budget.give_back()
        assert budget.spend()
