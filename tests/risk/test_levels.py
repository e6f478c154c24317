import pytest
from scipy.special import bdtr
from scipy.stats import binom

from insource.risk.levels import grid_of, level

DELTA = 1 - 0.95


# Test values of the method, found by another implementation.
# alpha, n, grid points, c_1, errors that pass at m = n, c at the middle, its m.
TEST_VALUES = [
    (0.05, 300, 57, 0.01645, 7, 0.0234, 134),
    (0.05, 1000, 98, 0.00930, 33, 0.01353, 248),
    (0.05, 3000, 135, 0.00630, 120, 0.00924, 422),
    (0.10, 1000, 123, 0.00703, 76, 0.01025, 168),
    (0.02, 1000, 66, 0.01459, 10, 0.01998, 396),
]


@pytest.mark.parametrize(("alpha", "rows", "points", "first", "errors", "middle", "count"), TEST_VALUES)
def test_the_printed_test_values(
    alpha: float, rows: int, points: int, first: float, errors: int, middle: float, count: int
) -> None:
    grid = grid_of(rows, alpha, 0.95)
    c = level(grid, alpha, DELTA)
    half = len(grid) // 2
    assert len(grid) == points
    assert c == pytest.approx(first, abs=5.1e-6)
    assert bdtr(errors, rows, alpha) <= c < bdtr(errors + 1, rows, alpha)
    assert grid[half] == count
    assert level(grid[half:], alpha, DELTA) == pytest.approx(middle, abs=5.1e-5 if middle > 0.02 else 5.1e-6)


def chance_step_by_step(grid: tuple[int, ...], alpha: float, c: float) -> float:
    """The same probability by another way: one request at a time, no convolution, no trimming."""
    walk, passed = {0: 1.0}, 0.0
    for count in range(1, grid[-1] + 1):
        stepped: dict[int, float] = {}
        for errors, chance in walk.items():
            stepped[errors] = stepped.get(errors, 0.0) + chance * (1 - alpha)
            stepped[errors + 1] = stepped.get(errors + 1, 0.0) + chance * alpha
        walk = stepped
        if count in grid:
            for errors in [errors for errors in walk if binom.cdf(errors, count, alpha) <= c]:
                passed += walk.pop(errors)
    return passed


@pytest.mark.parametrize(("grid", "alpha"), [(grid_of(80, 0.1, 0.95), 0.1), ((59, 90, 91, 140), 0.05), ((40,), 0.2)])
def test_level_is_the_largest_that_keeps_delta(grid: tuple[int, ...], alpha: float) -> None:
    c = level(grid, alpha, DELTA)
    assert chance_step_by_step(grid, alpha, c * (1 - 1e-9)) <= DELTA
    assert chance_step_by_step(grid, alpha, c * (1 + 1e-9)) > DELTA


def test_a_single_point_is_the_plain_exact_test() -> None:
    c = level((100,), 0.05, DELTA)
    assert bdtr(1, 100, 0.05) <= DELTA < bdtr(2, 100, 0.05)
    assert bdtr(1, 100, 0.05) <= c < bdtr(2, 100, 0.05)


def test_levels_rise_as_the_grid_shrinks() -> None:
    grid = grid_of(400, 0.05, 0.95)
    levels = [level(grid[first:], 0.05, DELTA) for first in range(0, len(grid), 7)]
    assert levels == sorted(levels)


def test_grid_ends_with_all_rows_and_starts_with_the_fewest_that_can_pass() -> None:
    assert grid_of(58, 0.05, 0.95) == ()
    assert grid_of(59, 0.05, 0.95) == (59,)
    assert grid_of(60, 0.05, 0.95) == (59, 60)
    assert grid_of(30, 0.10, 0.95) == (29, 30)
