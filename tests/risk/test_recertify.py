"""A doubt's audits: looks at fixed sizes that share one budget, what they find, and how often that is not so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from insource.risk import recertify
from insource.risk.calibrate import calibrate
from insource.risk.drift import DriftMonitor, Standing
from insource.risk.drift_reference import Reference
from insource.risk.recertify import LOOKS, Certified, DoubtAudits, Looks, budget
from insource.risk.simulate import allowed

SERVED = Certified(0.2)


def rows(seed, number=LOOKS[-1], *, bad=0.25, good=0.02, edge=0.4):
    """Scores from 0 to 1, and what is wrong: nearly all below 0.2, which goes up anyway, and much below an edge."""
    random = np.random.default_rng(seed)
    scores = random.random(number)
    share = np.where(scores < 0.2, 0.9, np.where(scores < edge, bad, good))
    return scores, random.random(number) < share


def looks_at(scores, wrong, certified=SERVED, *, references=None, doubts=0):
    looks = Looks(certified, doubts=doubts, target_risk=0.05, confidence_level=0.95)
    looks.take(scores, wrong, references)
    return looks


def test_budgets_of_all_doubts_add_up_to_the_whole():
    shares = [budget(doubts, 0.95) for doubts in range(20_000)]
    assert shares == sorted(shares, reverse=True) and shares[0] == pytest.approx(0.0304, abs=1e-4)
    assert 0.0499 < sum(shares) < 0.05
    with pytest.raises(ValueError, match="0 or more"):
        budget(-1, 0.95)


def test_a_higher_threshold_is_what_calibrate_certifies_at_the_level_of_one_look():
    scores, wrong = rows(1)
    found = looks_at(scores, wrong).raised
    level = 1.0 - 6 * 0.05 / np.pi**2 / 2 / 3
    sure = calibrate(scores[:2_000], wrong[:2_000], [""] * 2_000, {}, target_risk=0.05, confidence_level=level,
                     method="doubt")  # fmt: skip
    assert found == replace(sure, confidence_level=0.95)
    assert found.threshold > 0.2 and found.rows == 2_000 and found.coverage == found.accepted / 2_000


def test_it_waits_for_a_look_that_keeps_enough_and_takes_a_quarter_at_last():
    for bad, edge, expected in ((0.15, 0.3, 1_000), (0.25, 0.4, 2_000), (0.15, 0.5, 4_000)):
        scores, wrong = rows(1, bad=bad, edge=edge)
        assert looks_at(scores, wrong).raised.rows == expected
        assert looks_at(scores[: expected - 1], wrong[: expected - 1]).raised is None


def test_hardly_anything_kept_is_not_worth_a_certificate(monkeypatch):
    scores, wrong = rows(1, bad=0.2, good=0.005, edge=0.88)
    looks = looks_at(scores, wrong)
    assert looks.raised is None and looks.over and not looks.holds
    monkeypatch.setattr(recertify, "KEEPS_AT_LAST", 0.01)  # the guard broken on purpose
    assert looks_at(scores, wrong).raised.coverage < 0.15


def test_the_threshold_in_force_is_never_lowered():
    scores, wrong = rows(4, bad=0.01, good=0.01)
    looks = looks_at(scores, wrong, Certified(0.5))
    assert looks.holds and looks.raised is None and looks.over


def test_guards_are_certified_with_it_or_nothing_is():
    scores, wrong = rows(5)
    names = np.where(np.arange(scores.size) % 10 == 0, "fraud", "other")
    slips = wrong | ((names == "fraud") & (scores < 0.6) & (np.arange(scores.size) % 20 == 0))
    plain = looks_at(scores, slips, references=names).raised
    guarded = looks_at(scores, slips, Certified(0.2, {"fraud": 0.1}), references=names).raised
    assert guarded.threshold > plain.threshold and guarded.guards[0].held
    missed = slips & (names == "fraud") & (scores >= plain.threshold)
    assert missed.sum() > 0.1 * (names == "fraud").sum()  # what would have been accepted without the guard
    unknown = looks_at(scores, slips, Certified(0.2, {"fraud": 0.1}))
    assert unknown.raised is None and not unknown.holds


@pytest.mark.parametrize("stop", [1, 999, 1_000, 1_999, 2_000, 2_500])
def test_a_stop_and_batches_change_nothing(stop):
    scores, wrong = rows(1)
    whole = looks_at(scores, wrong)
    first, again = looks_at(scores[:stop], wrong[:stop]), looks_at([], [])
    again.restore(json.loads(json.dumps(first.to_state())))
    for start in range(stop, scores.size, 70):
        again.take(scores[start : start + 70], wrong[start : start + 70])
    assert again.to_state() == whole.to_state() and again.raised == whole.raised is not None


def falsely(streams, seed, *, slope=0.0):
    """Count doubts that end with a certificate though the risk at every threshold is above 5 %."""
    false = 0
    for stream in range(streams):
        random = np.random.default_rng([seed, stream])
        scores = random.random(LOOKS[-1])
        share = np.where(scores < 0.2, 0.9, 0.0501 + slope * (1.0 - scores))
        wrong = random.random(LOOKS[-1]) < share
        doubt = DoubtAudits(0.05, confidence_level=0.95, certified=SERVED)
        for start in range(0, scores.size, 50):
            part = slice(start, start + 50)
            doubt.take(wrong[part][scores[part] >= 0.2], scores[part], wrong[part])
            if doubt.shown or doubt.raised is not None:
                false += 1
                break
    return false


def test_doubts_end_falsely_no_more_often_than_their_budget():
    streams = 150
    assert falsely(streams, 6) / streams <= allowed(budget(0, 0.95), streams)


def test_control_looks_that_each_take_the_whole_end_falsely_too_often(monkeypatch):
    monkeypatch.setattr(recertify, "budget", lambda doubts, level: 6.0 * (1.0 - level))
    streams = 150
    assert falsely(streams, 6) / streams > allowed(budget(0, 0.95), streams)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.0, 0.02])
def test_doubts_end_falsely_no_more_often_than_their_budget_at_length(slope):
    streams = 3_000
    assert falsely(streams, 7, slope=slope) / streams <= allowed(budget(0, 0.95), streams)


def monitored(certified=SERVED, seed=8):
    """Return a monitor in doubt: the scores have moved."""
    random = np.random.default_rng(seed)
    monitor = DriftMonitor(0.05, Reference.of(2, scores=random.random(1_000)), certified=certified)
    monitor.requests(scores=random.beta(3, 1, size=1_000))
    assert monitor.standing is Standing.DOUBT
    return monitor


def audit(monitor, scores, wrong, step=10):
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        accepted = scores[part] >= 0.2
        monitor.audits(wrong=wrong[part][accepted], scores=scores[part], differs=wrong[part])


def test_a_doubt_that_finds_a_threshold_stands_and_takes_nothing_more():
    scores, wrong = rows(1, bad=0.15)
    monitor = monitored()
    audit(monitor, scores, wrong)
    assert monitor.raised is not None and monitor.standing is Standing.DOUBT and monitor.doubts == 0
    before = monitor.to_state()
    audit(monitor, np.ones(200), np.ones(200, bool))
    assert monitor.to_state() == before and monitor.standing is Standing.DOUBT
    again = monitored()
    again.restore(json.loads(json.dumps(before)))
    assert again.raised == monitor.raised


def test_without_a_certificate_in_force_none_is_looked_for():
    scores, wrong = rows(1, bad=0.15)
    monitor = monitored(None)
    audit(monitor, scores, wrong)
    assert monitor.raised is None


def test_what_is_crossed_is_not_certified_anew():
    scores, wrong = rows(1, bad=0.6)
    monitor = monitored()
    audit(monitor, scores, wrong)
    assert monitor.standing is Standing.CROSSED and monitor.raised is None


def test_a_look_that_certifies_what_is_in_force_ends_the_doubt():
    """At a risk of 3.5 % the sequence has not shown it yet, the exact look at 1,000 or 2,000 has."""
    random = np.random.default_rng(9)
    scores, wrong = random.random(4_000), random.random(4_000) < 0.03
    monitor = monitored(Certified(0.0, doubts=3))
    audit(monitor, scores, wrong)
    assert (monitor.cleared, monitor.lapsed, monitor.doubts) == (1, 0, 4) and monitor.standing is Standing.CALM
