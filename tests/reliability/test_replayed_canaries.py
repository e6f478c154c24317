"""The replay of canaries through a gateway: what its judge lets pass, and what its clients see of a rollback."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from insource.types import Move, Stage
from reliability.c02_losses_caught import APART, EVERY, FULL, judge_replays
from reliability.harness import Tally
from reliability.losses import LOSSES
from reliability.raw_http import Reply
from reliability.replayed_canaries import SUBJECTS, Replay, _count, _see_it_end, measured, replay, simulated
from reliability.told_answers import ROLES, telling, told

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
WHOLE = FULL // EVERY


def found(number=WHOLE, over=0, **counts):
    """A tally of so many replays of each loss, `over` of them later than the median asked."""
    tally = Tally()
    usual = {"replays": 3 * number, "replayed_canary_requests": 9, "requests_after": 20}
    for name, count in (usual | counts).items():
        tally.count(name.replace("_", " "), count)
    for loss in LOSSES[:3]:
        for replayed in range(number):
            tally.measure(measured(loss.points), loss.median + (replayed < over))
    tally.measure("pairs apart from the simulation", APART)
    return tally


@pytest.mark.parametrize(
    ("tally", "told_of"),
    [
        (Tally(), "no canary was replayed"),
        (found(replayed_canary_requests=0), "no canary was asked"),
        (found(requests_after=0), "none was seen to end"),
        (found(replayed_otherwise=1), "replayed otherwise: 1"),
        (found(late_canaries=1), "late canaries: 1"),
        (found(broken_replayed_requests=1), "broken replayed requests: 1"),
        (found(over=WHOLE // 2 + 1), "10 points lost, replayed"),
        (found(number=4, over=4), ""),
        (found(number=10, over=9), "3 points lost, replayed: 9 of 10 took over 500"),
    ],
)
def test_the_judge_of_replays(tally, told_of):
    complaints = "; ".join(judge_replays(tally))
    assert told_of in complaints and bool(told_of) == bool(complaints)


def test_the_judge_wants_the_verdicts_of_the_simulation():
    tally = found(over=WHOLE // 2)
    assert judge_replays(tally) == []
    tally.measure("pairs apart from the simulation", APART + 1)
    assert judge_replays(tally) == [f"a replay's verdict fell over {APART} pairs from its simulation's"]


@pytest.mark.parametrize("wrong", [(False, False), (True, False), (False, True), (True, True)])
def test_a_text_tells_each_role_its_answer(wrong):
    for number in (6, 7):
        text = telling(number, incumbent_wrong=wrong[0], candidate_wrong=wrong[1])
        reference, *said = (told(text, role) for role in ROLES)
        assert {reference, *said} <= {"yes", "no"} and [each != reference for each in said] == list(wrong)


class Answering:
    """A connection on which the version that answers is by script; the last one for ever."""

    def __init__(self, versions):
        self.versions = list(versions)

    async def ask(self, data, seconds):
        version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        return Reply(200, {"x-insource-version": version}, b'{"choices":[{"message":{"content":"yes"}}]}', True)


def ended(versions):
    """Return the tally of a canary that was rolled back by the test; its clients see `versions` after that."""
    decided_at = simulated(0)
    why = (
        f"it answers worse than the incumbent by 9.0% (shown after {decided_at} of 99 requests that both would accept)"
    )
    back = Move(NOON, "canary-0", 2, Stage.CANARY, Stage.RETIRED, 0.0, "steward", why)
    replayed, tally = Replay(0, 0.5, [(NOON - timedelta(seconds=2), True)] * (decided_at + 3), moved=back), Tally()
    asyncio.run(_see_it_end(Answering(versions), replayed))
    _count(tally, replayed)
    return tally


def test_what_a_canary_got_after_the_verdict_is_counted_and_nothing_later_is_allowed():
    tally = ended(["2"] * 7 + ["1"])
    assert tally.failures == [] and tally.counts["requests after"] == SUBJECTS
    assert tally.values["canary requests until rolled back"] == [3]
    assert tally.values["canary requests until all was calm"] == [7]
    assert tally.values["pairs apart from the simulation"] == [0]
    assert tally.values["rolled back s"] == [2.0]


def test_control_a_canary_that_comes_back_is_found():
    tally = ended(["1"] * SUBJECTS + ["2"])
    assert tally.counts["late canaries"] == 1


@pytest.mark.slow
def test_control_a_gateway_that_takes_the_candidate_for_the_incumbent_is_found(tmp_path):
    complaints = judge_replays(asyncio.run(replay(range(3), tmp_path, True)))
    assert "replayed otherwise: 3 in 3 replays" in complaints
