import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from insource.risk.bounds import binomial_interval, binomial_lower_bound, binomial_upper_bound, rows_needed
from insource.risk.noise import label_noise


@pytest.mark.parametrize("rows", [1, 10, 59, 1000])
def test_upper_bound_without_errors_is_the_closed_form(rows: int) -> None:
    assert binomial_upper_bound(0, rows, 0.95) == pytest.approx(1 - 0.05 ** (1 / rows), rel=1e-12)
    assert binomial_lower_bound(rows, rows, 0.95) == pytest.approx(0.05 ** (1 / rows), rel=1e-12)


def test_no_rows_bound_nothing() -> None:
    assert binomial_upper_bound(0, 0, 0.95) == 1.0
    assert binomial_lower_bound(0, 0, 0.95) == 0.0


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_bounds_put_the_tail_at_delta(rows: int, share: float, confidence_level: float) -> None:
    errors = round(share * rows)
    delta = 1 - confidence_level
    upper = binomial_upper_bound(errors, rows, confidence_level)
    lower = binomial_lower_bound(errors, rows, confidence_level)
    assert lower <= errors / rows <= upper
    if errors < rows:
        assert binom.cdf(errors, rows, upper) == pytest.approx(delta, rel=1e-6)
    if errors > 0:
        assert binom.sf(errors - 1, rows, lower) == pytest.approx(delta, rel=1e-6)


def test_interval_is_that_of_clopper_and_pearson() -> None:
    # 10 of 100 at 95 %: the textbook interval.
    assert binomial_interval(10, 100, 0.95) == pytest.approx((0.0490047, 0.1762226), abs=1e-6)


@pytest.mark.parametrize(("target", "rows"), [(0.05, 59), (0.02, 149), (0.10, 29), (0.01, 299)])
def test_rows_needed(target: float, rows: int) -> None:
    assert rows_needed(target, 0.95) == rows
    assert binomial_upper_bound(0, rows, 0.95) <= target < binomial_upper_bound(0, rows - 1, 0.95)


def test_impossible_counts_and_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="5 errors among 4 rows"):
        binomial_upper_bound(5, 4, 0.95)
    with pytest.raises(ValueError, match="-1 errors"):
        binomial_lower_bound(-1, 4, 0.95)
    with pytest.raises(ValueError, match="confidence_level is 1.0"):
        binomial_upper_bound(1, 4, 1.0)
    with pytest.raises(ValueError, match="target_risk is 0"):
        rows_needed(0, 0.95)


def test_label_noise() -> None:
    assert label_noise(0.0) == 0.0
    assert label_noise(1 - 0.94**2) == pytest.approx(0.06)
    assert math.isclose(label_noise(1.0), 1.0)
    with pytest.raises(ValueError, match="differing is 1.5"):
        label_noise(1.5)
