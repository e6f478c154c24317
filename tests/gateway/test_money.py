from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from insource.config import UpstreamConfig
from insource.gateway.money import MeanCost, cost_of
from insource.types import Usage

PRICED = UpstreamConfig("u", "http://x", price_in=Decimal("0.15"), price_out=Decimal("0.60"))


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_the_cost_is_exact(prompt, completion):
    assert cost_of(Usage(prompt, completion), PRICED) * 10**8 == 15 * prompt + 60 * completion


def test_the_unknown_is_none_and_never_zero():
    assert cost_of(None, PRICED) is None
    assert cost_of(Usage(1, 1), None) is None
    assert cost_of(Usage(1, 1), UpstreamConfig("u", "http://x")) is None
    assert cost_of(Usage(1, 1), UpstreamConfig("u", "http://x", price_in=Decimal(1))) is None
    assert cost_of(Usage(0, 0), PRICED) == 0


def test_savings_are_the_mean_of_what_went_up():
    mean = MeanCost()
    assert mean.of("a") is None
    mean.learn("a", None)
    assert mean.of("a") is None
    for cost in ("0.000001", "0.000002", "0.000003"):
        mean.learn("a", Decimal(cost))
    assert (mean.of("a"), mean.of("b")) == (Decimal("0.000002"), None)
