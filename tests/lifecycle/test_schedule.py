import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.lifecycle.schedule import default_warmup, segments, stands, takes_over


@pytest.mark.parametrize(("target", "expected"), [(0.05, 600), (0.10, 600), (0.02, 1_500), (0.03, 1_000)])
def test_the_shadow_period_grows_as_the_target_shrinks(target, expected):
    assert default_warmup(target) == expected


@given(requests=st.integers(1, 30_000), warmup=st.integers(1, 2_000), growth=st.floats(1.01, 4.0))
def test_segments_cover_the_stream_once_and_none_is_empty(requests, warmup, growth):
    found = segments(requests, warmup, growth)
    assert found[0][0] == 0 and found[-1][1] == requests
    assert all(stop == start for (_, stop), (start, _) in zip(found, found[1:], strict=False))
    assert all(start < stop for start, stop in found)
    assert found[0][1] == min(warmup, requests)


def test_a_version_takes_over_where_it_certifies_no_less():
    assert takes_over(0.4, 0.3, stands=True) and takes_over(0.3, 0.3, stands=True) and takes_over(0.0, 0.0, stands=True)
    assert not takes_over(0.0, 0.3, stands=True) and not takes_over(0.29, 0.3, stands=True)


def test_a_version_that_its_audits_refute_gives_way_to_anything():
    assert takes_over(0.0, 0.3, stands=False)


def test_audits_refute_a_promise_only_where_chance_does_not_explain_them():
    assert stands(0, 0, 0.05, 0.95)
    assert stands(5, 100, 0.05, 0.95) and stands(9, 100, 0.05, 0.95)
    assert not stands(10, 100, 0.05, 0.95)  # ten or more of a hundred at 5 %: chance .028; nine or more: .063
