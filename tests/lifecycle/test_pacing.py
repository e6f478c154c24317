import random

import pytest

from insource.lifecycle.pacing import WINDOW, Pacer


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
    assert list(pacer._scores) == [0.1], "it stood for one request only"


def test_the_lowest_share_is_of_the_last_scores_alone():
    pacer, old, new = Pacer(0, 10), [score - 2.0 for score in uniform(700)], uniform(WINDOW, seed=1)
    spend(pacer, [*old, *new])
    for share in (0.02, 0.25, 0.5, 1.0):
        kept = [score for score in new if pacer._lies_in(share, score)]
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
