import random

import pytest

from insource.lifecycle.pacing import Pacer


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
