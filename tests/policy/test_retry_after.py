"""Retry-After as it comes: seconds, dates, and nonsense."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.policy.retry_after import retry_after

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("Wed, 01 Jul 2026 12:00:30 GMT", 30.0),
        ("Wednesday, 01-Jul-26 12:00:30 GMT", 30.0),
        ("Wed Jul  1 12:00:30 2026", 30.0),
        ("Wed, 01 Jul 2026 14:00:30 +0200", 30.0),
        ("Wed, 01 Jul 2026 11:00:00 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("9" * 5000, None),
        ("1e9", None),
        ("Wed, 41 Jul 2026 12:00:30 GMT", None),
    ],
)
def test_what_is_read(value, seconds):
    assert retry_after([("X", "1"), ("Retry-After", value)], NOW) == seconds


def test_no_header_says_nothing():
    assert retry_after([("date", "7")], NOW) is None


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_no_value_breaks_it(value):
    seconds = retry_after([("retry-after", value)], NOW)
    assert seconds is None or seconds >= 0
