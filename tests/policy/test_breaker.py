"""The breaker, step by step and under any order of events."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from insource.policy.breaker import LONGEST_PAUSE, Breaker


def broken(clock, failures=3, rest=10.0):
    breaker = Breaker(failures, rest, clock)
    for _ in range(failures):
        breaker.failed(breaker.enter())
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before(clock):
    breaker = Breaker(3, 10.0, clock)
    for outcome in ("failed", "failed", "succeeded", "failed", "failed"):
        getattr(breaker, outcome)(breaker.enter())
    assert (breaker.state, breaker.admits()) == ("closed", True)
    breaker.failed(breaker.enter())
    assert (breaker.state, breaker.admits(), breaker.enter(), breaker.rests_for) == ("open", False, None, 10.0)


def test_after_its_rest_one_trial_and_only_one(clock):
    breaker = broken(clock)
    clock.seconds += 9.99
    assert breaker.enter() is None
    clock.seconds += 0.01
    assert (breaker.state, breaker.admits(), breaker.rests_for) == ("half_open", True, 0.0)
    trial = breaker.enter()
    assert trial is not None and (breaker.state, breaker.enter(), breaker.admits()) == ("half_open", None, False)
    breaker.succeeded(trial)
    assert (breaker.state, breaker.admits()) == ("closed", True)


def test_a_failed_trial_opens_it_for_another_rest(clock):
    breaker = broken(clock)
    clock.seconds += 10
    breaker.failed(breaker.enter())
    assert (breaker.state, breaker.rests_for) == ("open", 10.0)


def test_a_trial_that_nobody_waited_for_leaves_room_for_another(clock):
    breaker = broken(clock)
    clock.seconds += 10
    breaker.abandoned(breaker.enter())
    assert breaker.state == "half_open" and breaker.enter() is not None


def test_what_was_under_way_before_says_nothing_about_now(clock):
    breaker = Breaker(1, 10.0, clock)
    early, late = breaker.enter(), breaker.enter()
    breaker.failed(early)
    breaker.succeeded(late)
    assert breaker.state == "open"
    clock.seconds += 10
    trial = breaker.enter()
    breaker.abandoned(late)
    assert breaker.enter() is None
    breaker.succeeded(trial)
    breaker.failed(late)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("asked", "rests"), [(7.0, 7.0), (3600.0, LONGEST_PAUSE), (0.0, 0.0), (None, 0.0)])
def test_a_pause_asked_for_is_kept_and_capped(clock, asked, rests):
    breaker = Breaker(3, 10.0, clock)
    breaker.failed(breaker.enter(), asked)
    assert breaker.rests_for == rests
    assert breaker.state == ("open" if rests else "closed")


def test_a_pause_never_shortens_the_rest_and_a_late_one_lengthens_it(clock):
    breaker = Breaker(2, 10.0, clock)
    under_way = breaker.enter()
    breaker.failed(breaker.enter())
    breaker.failed(breaker.enter(), 1.0)
    assert breaker.rests_for == 10.0
    breaker.failed(under_way, 30.0)
    assert breaker.rests_for == 30.0
    breaker.failed(under_way, 5.0)
    assert breaker.rests_for == 30.0


class AnyOrder(RuleBasedStateMachine):
    """Against a plain model: at most one trial, no attempt while resting, always a way back."""

    def __init__(self):
        super().__init__()
        self.time = 0.0
        self.breaker = Breaker(2, 10.0, lambda: self.time)
        self.tickets = []
        self.trial = None

    @rule()
    def enter(self):
        before = self.breaker.state
        ticket = self.breaker.enter()
        assert (ticket is None) == (before == "open" or (before == "half_open" and self.trial is not None))
        if ticket is not None:
            self.tickets.append(ticket)
            self.trial = ticket if before == "half_open" else None

    @precondition(lambda self: self.tickets)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["succeeded", "failed", "abandoned"]),
        pause=st.none() | st.floats(0, 1e9),
    )
    def end(self, data, outcome, pause):
        ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
        before = self.breaker.state
        getattr(self.breaker, outcome)(*((ticket, pause) if outcome == "failed" else (ticket,)))
        if before == "open" or (before == "half_open" and ticket != self.trial):
            assert self.breaker.state in ("open", "half_open")
        if ticket == self.trial:
            self.trial = None
            assert outcome != "succeeded" or self.breaker.state == "closed"

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds):
        self.time += seconds

    @invariant()
    def rests_within_bounds(self):
        assert 0 <= self.breaker.rests_for <= LONGEST_PAUSE + 1e-9
        assert self.breaker.admits() == (self.breaker.state == "closed" or (
            self.breaker.state == "half_open" and self.trial is None))  # fmt: skip


TestAnyOrder = AnyOrder.TestCase
