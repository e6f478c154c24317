"""The promises that are judged by seconds: nothing else may run meanwhile."""

from tests.reliability.test_promises import (
    test_a_larger_sample_holds,
    test_a_promise_judges_what_nobody_ran_as_not_held,
    test_a_sample_holds,
    test_control_the_broken_build_is_found,
    test_every_promise_has_its_numbers,
)

TIMED = True

__all__ = [
    "test_a_larger_sample_holds",
    "test_a_promise_judges_what_nobody_ran_as_not_held",
    "test_a_sample_holds",
    "test_control_the_broken_build_is_found",
    "test_every_promise_has_its_numbers",
]
