"""The drift of the version that serves: its window, what is found, and that only the rows and their order count."""

import json

import pytest

from insource.lifecycle.drift_watch import BEGINNING, WINDOW
from insource.lifecycle.monitors import Monitors
from insource.risk.drift import Kind
from insource.store.signals import Signal
from reliability.rehearsed import NOON, TASK
from tests.lifecycle.drifting import Row, stream


def take(monitors, rows):
    for row in rows:
        if isinstance(row, Row):
            monitors.take(row)
        else:
            monitors.signal(row)
    monitors.flush()
    return monitors


def watched(rows):
    return take(Monitors(TASK, 1), rows)


def scores(rows, number):
    """Cut the rows off after so many scores."""
    found = 0
    for place, row in enumerate(rows):
        found += isinstance(row, Signal) and row.score is not None
        if found == number:
            return rows[: place + 1]
    raise AssertionError(found)


def test_the_window_is_the_first_requests_and_grows_once():
    rows = stream(1_400)
    for number, window in ((BEGINNING - 1, 0), (BEGINNING, 300), (WINDOW - 1, 300), (WINDOW, 1_000)):
        assert watched(scores(rows, number)).watch().window == window
    kinds = set(watched(scores(rows, 200)).watch().drift.figures)
    assert kinds == {Kind.RISK, Kind.FORM}
    assert set(watched(rows).watch().drift.figures) == set(Kind) - {Kind.EMBEDDINGS}


def test_a_stream_that_stays_the_same_is_left_in_peace():
    found = watched(stream(4_000))
    assert not found.crossed and found.watch().drift.alarms == ()


def test_what_comes_late_raises_doubt_and_without_harm_is_cleared():
    found = watched([*stream(2_000), *stream(800, seed=1, strange=0.4, first=9_000)])
    drift = found.watch().drift
    assert found.doubted and not found.crossed and set(drift.alarms) - {Kind.RISK, Kind.FORM}
    take(found, stream(600, seed=2, strange=0.4, first=20_000, wrong=0.0, audited=1.0))
    assert not found.doubted and found.watch().drift.cleared >= 1


def test_control_the_same_seen_from_the_beginning_is_no_drift():
    assert watched(stream(2_800, seed=1, strange=0.4)).watch().drift.alarms == ()


def test_harm_is_crossed_and_told_since_when():
    found = watched([*stream(1_500, audited=0.1), *stream(800, seed=1, wrong=0.3, first=9_000, audited=0.2)])
    assert found.crossed
    (told,) = found.watch().crossed
    assert told.startswith("risk is above the target of 5.0%: ") and found.watch().risk.crossed


@pytest.mark.parametrize("page", [1, 1_000])
def test_how_many_rows_are_read_at_once_changes_nothing(page):
    rows = [*stream(1_300), *stream(700, seed=1, strange=0.4, first=9_000, audited=0.2)]
    whole, paged = watched(rows), Monitors(TASK, 1)
    for start in range(0, len(rows), page):
        take(paged, rows[start : start + page])
    assert paged.watch() == whole.watch() and whole.watch().drift.alarms


@pytest.mark.parametrize("cut", [100, 700, 2_400])
def test_a_kept_state_goes_on_as_if_nothing_had_happened(cut):
    rows = [*stream(1_300), *stream(700, seed=1, strange=0.4, first=9_000, audited=0.2)]
    first, second = watched(rows[:cut]), Monitors(TASK, 1)
    second.restore(json.loads(json.dumps(first.to_state(), allow_nan=False)))
    assert take(second, rows[cut:]).watch() == take(first, rows[cut:]).watch() == watched(rows).watch()


def test_without_contents_scores_and_agreement_are_watched():
    rows = [row._replace(answer=None, reference=None) if isinstance(row, Signal) else row for row in stream(1_500)]
    kinds = set(watched(rows).watch().drift.figures)
    assert kinds == {Kind.RISK, Kind.FORM, Kind.SCORES, Kind.ESCALATED}


def test_contents_kept_from_some_row_on_break_nothing():
    rows = stream(1_200)
    later = [row._replace(answer=None, reference=None) if isinstance(row, Signal) else row
             for row in stream(600, seed=1, first=9_000)]  # fmt: skip
    whole = watched([*rows, *later])
    assert take(take(Monitors(TASK, 1), rows), later).watch() == whole.watch()
    assert whole.watch().drift.figures[Kind.SCORES].rows == 800


def test_answers_the_window_never_had_count_as_one():
    rows = [*stream(1_100), *(Signal(9_000 + n, NOON, 1, 0.9, 40 + n % 5) for n in range(300))]
    drift = watched(rows).watch().drift
    assert Kind.ANSWERS in drift.alarms and drift.figures[Kind.ANSWERS].answer == 6


def test_other_versions_and_broken_scores_are_passed_over():
    other = stream(2_000, strange=0.9, version=2)
    nan = [Signal(1, NOON, 1, float("nan"), 1)] * 500
    found = watched([*other, *nan])
    assert found.watch().window == 0 and found.watch().audits == 0
