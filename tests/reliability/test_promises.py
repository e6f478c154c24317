"""Every promise: its sample holds, and its harness finds the build that is broken on purpose.

Those that are judged by seconds are in `test_timed_promises.py`.
"""

import pytest

from reliability.harness import Tally

TIMED = False
"""Which promises this module tries; see `conftest.py`."""


def test_a_sample_holds(promise, tmp_path):
    tally = promise.try_cases(range(promise.sample), tmp_path)
    assert promise.judge(tally) == [], [str(failure) for failure in tally.failures[:5]]
    assert promise.seen(tally)


def test_control_the_broken_build_is_found(promise, tmp_path):
    assert promise.judge(promise.try_cases(range(promise.control), tmp_path, broken=True))


@pytest.mark.slow
def test_a_larger_sample_holds(promise, tmp_path):
    tally = promise.try_cases(range(promise.sample, promise.slow), tmp_path)
    assert promise.judge(tally) == [], [str(failure) for failure in tally.failures[:5]]


def test_a_promise_judges_what_nobody_ran_as_not_held(promise):
    """A harness that ran nothing must not pass."""
    assert promise.judge(Tally())


def test_every_promise_has_its_numbers(promise):
    assert 0 < promise.sample <= promise.slow <= promise.full
    assert promise.control > 0 and promise.chunk > 0
    assert promise.says and promise.asked and promise.unit
