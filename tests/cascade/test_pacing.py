import random
from datetime import UTC, datetime, timedelta

import pytest

from insource.cascade.pacing import WINDOW, DayPacer, Pacer


def spend(pacer, scores, unsure=lambda _: True):
    """Let the scores pass; return the positions that went up."""
    up = []
    for position, score in enumerate(scores):
        pacer.passed()
        if unsure(score) and pacer(score):
            up.append(position)
    return up


def uniform(n, seed=0):
    draw = random.Random(seed)
    return [draw.random() for _ in range(n)]


class Unpaced(Pacer):
    """The control: sends up whatever comes while calls are left."""

    def __call__(self, score):
        self.calls -= 1
        return self.calls >= 0


@pytest.mark.parametrize("calls", [0, 1, 7, 200, 1_999])
def test_never_more_calls_than_the_budget_has(calls):
    pacer = Pacer(calls, 2_000)
    up = spend(pacer, uniform(2_000))
    assert len(up) + pacer.calls == calls
    assert pacer.calls >= 0


def test_the_budget_is_spent_to_the_end_of_the_stream():
    pacer = Pacer(300, 3_000)
    up = spend(pacer, uniform(3_000))
    assert len(up) >= 295
    halves = sum(position < 1_500 for position in up), sum(position >= 1_500 for position in up)
    assert min(halves) > 110


def test_the_control_spends_everything_at_once():
    up = spend(Unpaced(300, 3_000), uniform(3_000))
    assert up == list(range(300))


def test_calls_go_to_the_lowest_scores():
    scores = uniform(4_000)
    up = set(spend(Pacer(800, 4_000), scores))
    low = sum(scores[position] for position in up) / len(up)
    rest = sum(score for position, score in enumerate(scores) if position not in up) / (4_000 - len(up))
    assert low < 0.2 < 0.5 < rest


def test_enough_calls_for_every_unsure_request_send_them_all_up():
    scores = uniform(1_000)
    up = spend(Pacer(1_000, 1_000), scores, unsure=lambda score: score < 0.4)
    assert up == [position for position, score in enumerate(scores) if score < 0.4]


def test_requests_that_are_sure_leave_more_for_those_that_are_not():
    scores = uniform(2_000)
    few_unsure = spend(Pacer(100, 2_000), scores, unsure=lambda score: score < 0.1)
    assert len(few_unsure) >= 95
    assert all(scores[position] < 0.1 for position in few_unsure)


def test_a_stream_longer_than_announced_does_not_overdraw():
    pacer = Pacer(50, 100)
    assert len(spend(pacer, uniform(1_000))) <= 50
    assert pacer.calls >= 0


def test_the_same_scores_are_paced_the_same_way():
    assert spend(Pacer(40, 400), uniform(400)) == spend(Pacer(40, 400), uniform(400))


def test_what_a_selection_says_stands_for_the_score_of_the_next_request():
    scores, sure, pacer = uniform(2_000), uniform(2_000, seed=1), Pacer(200, 2_000)
    up = []
    for position, score in enumerate(scores):
        pacer.passed(sure=sure[position])
        if pacer(score):
            up.append(position)
    assert up == spend(Pacer(200, 2_000), sure) != spend(Pacer(200, 2_000), scores)
    pacer = Pacer(1, 10)
    pacer.passed(sure=0.9)
    pacer.passed()
    pacer(0.1)
    assert list(pacer._window._scores) == [0.1], "it stood for one request only"


def test_the_lowest_share_is_of_the_last_scores_alone():
    pacer, old, new = Pacer(0, 10), [score - 2.0 for score in uniform(700)], uniform(WINDOW, seed=1)
    spend(pacer, [*old, *new])
    for share in (0.02, 0.25, 0.5, 1.0):
        kept = [score for score in new if pacer._window.lies_in(share, score)]
        assert kept == [score for score in new if score in sorted(new)[: round(share * WINDOW)]]


@pytest.mark.parametrize("calls", [20, 100, 900])
def test_equal_scores_are_paced_like_any_other(calls):
    up = spend(Pacer(calls, 2_000), [0.5] * 2_000)
    assert calls - 2 <= len(up) <= calls
    assert abs(sum(position < 1_000 for position in up) - calls / 2) <= 0.05 * calls + 1
    repeated = [0.1 if position % 3 == 0 else score for position, score in enumerate(uniform(2_000))]
    assert spend(Pacer(calls, 2_000), repeated)[-1] > 1_850, "a text that often comes does not spend it all"


def test_a_score_that_is_no_number_goes_up_and_misleads_nobody():
    pacer = Pacer(100, 1_000)
    assert pacer(float("nan")) and pacer.calls == 99
    assert not Pacer(0, 10)(float("nan"))
    scores = uniform(1_000)
    up = spend(pacer, [float("nan") if position % 100 == 7 else score for position, score in enumerate(scores)])
    assert {position for position in range(1_000) if position % 100 == 7} <= set(up)
    assert len(up) <= 99 and sum(scores[position] for position in up if position % 100 != 7) / (len(up) - 10) < 0.3


MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)


def spend_days(pacer, seconds, scores):
    """Let one score pass at each moment, in seconds since midnight; return the positions that were picked."""
    return [
        position
        for position, (second, score) in enumerate(zip(seconds, scores, strict=True))
        if pacer(score, MIDNIGHT + timedelta(seconds=second))
    ]


def steady(requests, days=1):
    return [n * 86_400 / requests for n in range(requests * days)]


def test_a_day_is_paced_to_its_end_on_the_lowest_scores():
    scores = uniform(4_000)
    picked = spend_days(DayPacer(100), steady(4_000), scores)
    assert 90 <= len(picked) <= 100 and picked[-1] > 3_600 and picked[len(picked) // 2] > 1_000
    later = [scores[n] for n in picked if n > 500]
    assert max(later) < 0.15 and sum(later) / len(later) < 0.03


def test_control_who_does_not_look_at_the_scores_spends_the_day_at_once():
    pacer, scores = DayPacer(100), uniform(4_000)
    pacer._window.lies_in = lambda share, score: True
    picked = spend_days(pacer, steady(4_000), scores)
    assert picked == list(range(100)) and sum(scores[n] for n in picked) / 100 > 0.4


def test_each_day_has_its_own_budget_and_the_rate_of_the_day_before():
    picked = spend_days(DayPacer(50), steady(2_000, days=3), uniform(6_000))
    by_day = [sum(day * 2_000 <= n < (day + 1) * 2_000 for n in picked) for day in range(3)]
    assert all(40 <= number <= 50 for number in by_day)
    second = [n for n in picked if 2_000 <= n < 4_000]
    assert second[0] < 2_200 and second[-1] > 3_500


def test_traffic_of_the_daytime_only_leaves_no_budget_behind_and_is_not_spent_in_the_first_minutes():
    seconds = [36_000 + n * 9 for n in range(3_200)]
    picked = spend_days(DayPacer(100), seconds, uniform(3_200))
    assert 30 <= len(picked) <= 100 and sum(n < 320 for n in picked) < 30


def spend_together(pacers, limit=100):
    """Have four workers take turns over one day, of one budget; return the seconds at which it was drawn on."""
    taken, pacers = [], list(pacers)
    for n, (second, score) in enumerate(zip(steady(8_000), uniform(8_000), strict=True)):
        now, pacer = MIDNIGHT + timedelta(seconds=second), pacers[n % 4]
        if pacer(score, now):
            if len(taken) < limit:
                taken.append(second)
            pacer.told(limit - len(taken), now)
    return taken


def test_workers_that_see_as_many_share_the_day():
    knowing, ignorant = (spend_together(DayPacer(100, workers) for _ in range(4)) for workers in (4, 1))
    assert 90 <= len(knowing) <= 100 and knowing[75] > 43_200
    assert len(ignorant) == 100 and ignorant[75] < 43_200, "the control spends a day's budget in the morning"


def test_what_others_took_is_not_picked_again_until_midnight():
    pacer = DayPacer(5)
    assert pacer(0.1, MIDNIGHT + timedelta(hours=23, minutes=59)) or pacer.left == 5
    pacer.told(0, MIDNIGHT + timedelta(hours=23, minutes=59))
    late = [MIDNIGHT + timedelta(hours=23, minutes=59, seconds=n / 10) for n in range(599)]
    assert not any(pacer(0.0, now) for now in late)
    pacer(0.0, MIDNIGHT + timedelta(days=1))
    assert pacer.left >= 4


def test_no_budget_picks_nothing():
    assert spend_days(DayPacer(0), steady(500), uniform(500)) == []
