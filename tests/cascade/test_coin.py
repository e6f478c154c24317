import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.cascade.coin import coin_rate, hash_coin


def test_the_coin_falls_the_same_way_for_the_same_key_and_id():
    ids = [f"request-{n}" for n in range(200)]
    assert [hash_coin(7)(i) for i in ids] == [hash_coin(7)(i) for i in ids]
    assert [hash_coin(7)(i) for i in ids] != [hash_coin(8)(i) for i in ids]


def test_the_coin_is_uniform():
    coin = hash_coin(b"key")
    falls = [coin(f"request-{n}") for n in range(20_000)]
    assert all(0 <= fall < 1 for fall in falls)
    for rate in (0.02, 0.05, 0.5):
        share = sum(fall < rate for fall in falls) / len(falls)
        assert abs(share - rate) < 4 * (rate * (1 - rate) / len(falls)) ** 0.5


@given(audit_rate=st.floats(0.0, 1.0), coverage=st.floats(0.0, 1.0))
def test_audits_cost_at_most_the_rate_asked_for(audit_rate, coverage):
    rate = coin_rate(audit_rate, coverage)
    assert 0.0 <= rate <= 1.0
    assert rate * coverage <= audit_rate + 1e-12


@given(coverage=st.floats(0.01, 1.0))
def test_audits_cost_just_that_until_the_coin_falls_every_other_time(coverage):
    rate = coin_rate(0.05, coverage)
    assert rate >= 0.05
    assert rate * coverage == pytest.approx(min(0.05, 0.5 * coverage))


def test_the_coin_rests_where_nothing_is_certified_or_nothing_is_asked():
    assert coin_rate(0.05, 0.0) == 0.0
    assert coin_rate(0.0, 0.7) == 0.0
    assert coin_rate(1.0, 0.7) == 1.0
