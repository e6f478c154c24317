import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from insource.risk.quantile_sequence import Kept, QuantileSequence, latency_edges
from insource.risk.simulate import allowed

EDGES = latency_edges(also=(0.5,))
TENTHS = np.arange(11) / 10


def taken(values, edges=EDGES) -> QuantileSequence:
    sequence = QuantileSequence(edges)
    sequence.update(values)
    return sequence


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.0001, 5000), min_size=1, max_size=200), st.floats(0.05, 0.95))
def test_bounds_hold_the_quantile_seen_and_batches_change_nothing(values, share):
    at_once = taken(values)
    one_by_one = QuantileSequence(EDGES)
    for value in values:
        one_by_one.update(value)
    low, high = at_once.interval(share, 0.95)
    assert low <= np.quantile(values, share, method="inverted_cdf") <= high
    assert one_by_one.interval(share, 0.95) == (low, high)
    stored = json.loads(json.dumps(at_once.to_state()))
    assert QuantileSequence.from_state(EDGES, stored).interval(share, 0.95) == (low, high)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.01, 100), min_size=30, max_size=200), st.floats(1.01, 3.0))
def test_slower_values_never_lower_a_bound(values, factor):
    here, slower = taken(values), taken(np.array(values) * factor)
    assert slower.lower_bound(0.5, 0.95) >= here.lower_bound(0.5, 0.95)
    assert slower.upper_bound(0.5, 0.95) >= here.upper_bound(0.5, 0.95)


def false_bounds(bounds, share, streams, rows, seed, looks):
    """The share of streams in which a bound ever lay on the wrong side of the true quantile of uniform values."""
    generator = np.random.default_rng(seed)
    edges = np.arange(201) / 200
    wrong = 0
    for _ in range(streams):
        values = generator.random(rows)
        wrong += any(not low <= share <= high for low, high in (bounds(values[:look], edges, share) for look in looks))
    return wrong / streams


def sequence_bounds(values, edges, share):
    return taken(values, edges).interval(share, 0.95)


def one_look_bounds(values, edges, share):
    """Order statistics for one look: the broken guard."""
    ranks = binom.ppf([0.025, 0.975], values.size, share).astype(int)
    ordered = np.append(np.sort(values), 1.0)
    return (ordered[ranks[0] - 1] if ranks[0] else 0.0), ordered[ranks[1]]


def test_bounds_hold_at_every_look_and_those_for_one_look_do_not():
    looks = range(20, 1500, 20)
    assert false_bounds(sequence_bounds, 0.9, 40, 1500, 1, looks) <= allowed(0.05, 40)
    assert false_bounds(one_look_bounds, 0.9, 40, 1500, 1, looks) > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_the_same_at_length(share):
    looks = range(20, 2000, 20)
    assert false_bounds(sequence_bounds, share, 200, 2000, 2, looks) <= allowed(0.05, 200)


def test_a_limit_on_p99_is_kept_broken_or_open():
    generator = np.random.default_rng(3)
    quick = taken(generator.lognormal(math.log(0.1), 0.5, 5000))  # p99 is 0.32 s
    slow = taken(generator.lognormal(math.log(0.2), 0.5, 5000))  # 0.64 s
    assert quick.within(0.5, 0.99, 0.95) is Kept.YES
    assert slow.within(0.5, 0.99, 0.95) is Kept.NO
    assert quick.within(0.32, 0.99, 0.95) is Kept.OPEN
    assert QuantileSequence(EDGES).within(0.5, 0.99, 0.95) is Kept.OPEN, "no rows show nothing"


def test_a_candidate_against_an_incumbent():
    generator = np.random.default_rng(4)
    incumbent = taken(generator.lognormal(math.log(0.1), 0.5, 20_000))
    same = taken(generator.lognormal(math.log(0.1), 0.5, 20_000))
    slower = taken(generator.lognormal(math.log(0.2), 0.5, 20_000))
    assert same.not_above(incumbent, by=0.1, share=0.99, confidence_level=0.95) is Kept.YES
    assert slower.not_above(incumbent, by=0.1, share=0.99, confidence_level=0.95) is Kept.NO
    assert same.not_above(incumbent, by=0.0, share=0.99, confidence_level=0.95) is Kept.OPEN
    nothing = QuantileSequence(EDGES)
    assert nothing.not_above(nothing, by=0.1, share=0.99, confidence_level=0.95) is Kept.OPEN


def test_bounds_are_edges_rounded_outwards():
    values = np.full(5000, 0.55)
    assert taken(values, TENTHS).interval(0.5, 0.95) == (0.5, 0.6)
    on_an_edge = taken(np.full(5000, 0.5), TENTHS)
    assert on_an_edge.interval(0.5, 0.95) == (0.4, 0.5)
    assert on_an_edge.within(0.5, 0.5, 0.95) is Kept.YES


def test_what_never_answered_lies_above_every_edge():
    sequence = taken([math.inf] * 500, TENTHS)
    assert sequence.upper_bound(0.5, 0.95) == math.inf
    assert sequence.lower_bound(0.5, 0.95) == 1.0
    assert taken([-3.0] * 500, TENTHS).interval(0.5, 0.95) == (-math.inf, 0.0)


def test_edges():
    assert EDGES[0] == 0.001 and EDGES[-1] >= 600 and EDGES.size < 700
    assert 0.5 in EDGES and np.all(np.diff(EDGES) > 0)


def test_what_is_no_value_or_no_grid_is_refused():
    sequence = taken([0.1])
    with pytest.raises(ValueError, match="NaN"):
        sequence.update([0.2, math.nan])
    assert sequence.rows == 1
    with pytest.raises(ValueError, match="edges do not rise"):
        QuantileSequence([1, 1])
    with pytest.raises(ValueError, match="edges have shape"):
        QuantileSequence([])
    with pytest.raises(ValueError, match="step above 1"):
        latency_edges(step=1.0)
    with pytest.raises(ValueError, match="share is 1"):
        sequence.upper_bound(1.0, 0.95)
    with pytest.raises(ValueError, match="damaged"):
        QuantileSequence.from_state(TENTHS, {"rows": 2, "counts": {"0": 1}})
