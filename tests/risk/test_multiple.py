import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.risk.multiple import e_bh
from insource.risk.simulate import allowed

VALUES = st.lists(st.floats(0, 1e6), max_size=12)


def by_definition(values, alpha):
    """The largest k for which k values reach K / (alpha k)."""
    needed = [len(values) / (alpha * k) for k in range(1, len(values) + 1)]
    enough = [at for k, at in enumerate(needed, start=1) if sum(value >= at for value in values) >= k]
    return [bool(enough) and value >= enough[-1] for value in values]


@settings(deadline=None, max_examples=80)
@given(VALUES, st.floats(0.01, 0.5))
def test_it_is_the_definition(values, alpha):
    assert list(e_bh(values, alpha)) == by_definition(values, alpha)


@settings(deadline=None, max_examples=40)
@given(VALUES, st.data())
def test_more_evidence_never_takes_a_rejection_away(values, data):
    if values:
        place = data.draw(st.integers(0, len(values) - 1))
        more = [*values[:place], 2 * values[place] + 1, *values[place + 1 :]]
        assert all(after or not before for before, after in zip(e_bh(values, 0.1), e_bh(more, 0.1), strict=True))


def test_examples():
    assert e_bh([], 0.05) == ()
    assert e_bh([20.0], 0.05) == (True,)
    assert e_bh([19.9], 0.05) == (False,)
    assert e_bh([40.0, 1.0, 20.0], 0.05) == (False, False, False)
    assert e_bh([60.0, 30.0, 20.0], 0.05) == (True, True, True)
    assert e_bh([math.inf, 0.0], 0.05) == (True, False)


def test_the_share_of_false_rejections_is_bounded_and_without_the_correction_it_is_not():
    """Ten candidates, none better: e-values that are 20 one time in 20, independently."""
    generator = np.random.default_rng(0)
    false = plain = 0
    for _ in range(400):
        values = np.where(generator.random(10) < 0.05, 20.0, 0.0)
        false += any(e_bh(values, 0.05))
        plain += bool(np.any(values >= 20.0))
    assert false / 400 <= allowed(0.05, 400)
    assert plain / 400 > 0.3


def test_what_is_no_e_value_is_refused():
    with pytest.raises(ValueError, match="e_values hold nan"):
        e_bh([1.0, math.nan], 0.05)
    with pytest.raises(ValueError, match="e_values hold -1"):
        e_bh([-1.0], 0.05)
    with pytest.raises(ValueError, match="alpha is 1"):
        e_bh([1.0], 1.0)
