"""The replay on small made-up streams: what is known when, what may certify, and who serves."""

import asyncio
import json

import numpy as np
import pytest

from insource.cascade.coin import coin_rate, hash_coin
from insource.inputs import InputSettings
from insource.lifecycle.replay import Plan, Replay
from insource.lifecycle.stream import to_stream
from insource.traffic import read
from insource.training.families import Material
from insource.types import Reason, Task

WARMUP = 300
TASK = Task("tickets", target_risk=0.1, audit_rate=0.1)


def silent(_title):
    return lambda done, total=None: None


def nothing_to_open():
    raise AssertionError("the linear family asks for no encoder")


class Spied(Replay):
    """The replay as it is, keeping what each version was taught with."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.taught = []

    def _rows(self, seen, space):
        rows = super()._rows(seen, space)
        self.taught.append(rows)
        return rows


class Pooling(Spied):
    """The control: everything with a reference certifies, escalated requests as well."""

    def _note(self, row, choice, certified, active):
        super()._note(row, choice, certified, active)
        self._evidence[row] = self.known[row]


class AlwaysNewest(Spied):
    """The control: the newest version serves, whatever it certified."""

    def _gives_way(self, serving, at, found):
        return True


class NeverRefuted(Spied):
    """The control: a version's own audits are not looked at."""

    def _gives_way(self, serving, at, found):
        self.result.wrong[:] = False
        return super()._gives_way(serving, at, found)


@pytest.fixture(scope="session")
def stream_of(tickets, tmp_path_factory):
    def make(lines):
        path = tmp_path_factory.mktemp("stream") / "may.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return to_stream(read(path).examples, InputSettings())

    return make


@pytest.fixture(scope="session")
def noisy(stream_of, tickets):
    """Tickets of which about a quarter cannot be told from their words."""
    return stream_of(tickets(1_500, answers=2, told=0.15, seed=3))


async def replay(stream, *, kind=Spied, seed=0, task=TASK, **plan):
    plan = Plan(task, "linear", seed, WARMUP, **{"growth": 1.5, **plan})
    material = Material(stream.texts, nothing_to_open, silent, "none")
    made = kind(stream, material, plan, hash_coin(seed), lambda done, total: None)
    return await made.run(), made


@pytest.fixture(scope="module")
def usual(noisy):
    """The replay of the noisy stream and what made it, to be looked at only."""
    return asyncio.run(replay(noisy))


def spans(result, stream):
    """Return (from, to, the version that served) for each version tried."""
    ends = [*(version.at for version in result.versions[1:]), len(stream)]
    serving, found = None, []
    for version, stop in zip(result.versions, ends, strict=True):
        serving = version if version.took_over else serving
        found.append((version.at, stop, serving))
    return found


def certifying_rows_are_fair(result, made, stream):
    """Say whether all that certified came from stretches where nothing was accepted, or from the coin."""
    open_rows = np.zeros(len(stream), bool)
    open_rows[:WARMUP] = True
    for start, stop, serving in spans(result, stream):
        open_rows[start:stop] = serving.threshold is None
    return all((open_rows[rows.evidence] | result.audited[rows.evidence]).all() for rows in made.taught)


def test_the_shadow_period_is_exact(usual):
    result, _ = usual
    assert set(result.reasons[:WARMUP]) == {Reason.NO_SPECIALIST}
    assert Reason.NO_SPECIALIST not in result.reasons[WARMUP:]
    assert not result.accepted[:WARMUP].any() and not result.audited[:WARMUP].any()
    assert np.isnan(result.scores[:WARMUP]).all() and np.isfinite(result.scores[WARMUP:]).all()
    assert result.versions[0].at == WARMUP


def test_the_coin_falls_before_the_decision_and_apart_from_the_score(noisy, usual):
    result, _ = usual
    coin = hash_coin(0)
    for start, stop, serving in spans(result, noisy):
        rate = coin_rate(TASK.audit_rate, serving.certified_coverage)
        picked = [coin(request.id) < rate for request in noisy.requests[start:stop]]
        assert result.audited[start:stop].tolist() == picked
    assert (result.audited & result.accepted).any() and (result.audited & ~result.accepted).any()


def test_evidence_is_chosen_by_time_and_coin_alone(noisy, usual):
    result, made = usual
    assert result.accepted.any()
    assert certifying_rows_are_fair(result, made, noisy)
    last = made.taught[-1]
    assert not set(last.evidence) & set(last.also)
    assert (result.audited[last.evidence] & result.accepted[last.evidence]).any()


async def test_the_control_that_certifies_with_escalated_requests_is_caught(noisy):
    result, made = await replay(noisy, kind=Pooling)
    assert not certifying_rows_are_fair(result, made, noisy)


def test_nothing_is_learned_from_an_accepted_request_that_was_not_audited(usual):
    result, made = usual
    unknown = result.accepted & ~result.audited
    assert unknown.any()
    for version, rows in zip(result.versions, made.taught, strict=True):
        taught = np.concatenate([rows.evidence, rows.also])
        assert not unknown[taught].any() and taught.max() < version.at


def test_the_same_seed_gives_the_same_replay_and_another_seed_another(noisy, usual):
    (first, _), (again, _), (other, _) = usual, asyncio.run(replay(noisy)), asyncio.run(replay(noisy, seed=1))
    assert first.versions == again.versions
    assert (first.accepted == again.accepted).all() and (first.audited == again.audited).all()
    assert np.array_equal(first.scores, again.scores, equal_nan=True)
    assert not (first.audited == other.audited).all()


async def test_a_version_that_certifies_nothing_accepts_nothing(stream_of, tickets):
    stream = stream_of(tickets(900, answers=2, noise=0.9, seed=1))
    result, made = await replay(stream)
    assert [version.threshold for version in result.versions] == [None] * len(result.versions)
    assert not result.accepted.any() and not result.audited.any()
    assert set(result.reasons[WARMUP:]) == {Reason.NO_THRESHOLD}
    assert len(made.taught[-1].evidence) == result.versions[-1].at  # all of it is evidence, without a coin


def test_the_risk_of_what_is_accepted_is_within_the_target(usual):
    result, _ = usual
    assert result.accepted.sum() > 300
    assert result.wrong[result.accepted].mean() <= TASK.target_risk


@pytest.mark.parametrize("budget", [600, 700, 900])
async def test_a_budget_is_never_overdrawn_and_nearly_used_up(noisy, budget):
    task = Task("tickets", target_risk=0.01, audit_rate=0.1)  # certifies next to nothing: the pacer decides
    result, _ = await replay(noisy, task=task, budget=budget)
    up = int((~(result.accepted | result.spent)).sum())
    assert budget - 20 <= up <= budget
    assert not result.audited.any() and result.spent.any()
    assert None not in result.served


async def test_a_budget_sends_up_what_is_least_sure(noisy):
    result, _ = await replay(noisy, task=Task("tickets", target_risk=0.01), budget=700)
    later = np.arange(len(noisy)) >= WARMUP
    assert np.median(result.scores[later & ~result.spent & ~result.accepted]) < np.median(result.scores[result.spent])


@pytest.fixture(scope="session")
def spoilt(stream_of, tickets):
    """Easy tickets whose references turn to noise at the 450th request."""
    return stream_of(
        [*tickets(450, answers=2, told=0.6, seed=5), *tickets(650, answers=2, told=0.6, noise=0.9, seed=6)]
    )


def coverage_in_service(result, stream):
    return [serving.certified_coverage for _, _, serving in spans(result, stream)]


async def test_a_version_that_certifies_less_does_not_take_over(noisy):
    result, _ = await replay(noisy, growth=1.15)
    found = coverage_in_service(result, noisy)
    assert found == sorted(found)
    assert not all(version.took_over for version in result.versions)


async def test_the_control_in_which_the_newest_serves_certifies_less_at_times(noisy):
    result, _ = await replay(noisy, kind=AlwaysNewest, growth=1.15)
    found = coverage_in_service(result, noisy)
    assert found != sorted(found)


STRICTER = Task("tickets", target_risk=0.05, audit_rate=0.2)


async def test_a_version_that_its_own_audits_refute_gives_way_to_one_that_certifies_less(spoilt):
    result, _ = await replay(spoilt, task=STRICTER)
    found = coverage_in_service(result, spoilt)
    assert found[0] > 0.9 and found[-1] < 0.8


async def test_the_control_that_looks_at_no_audits_goes_on_with_the_old_one(spoilt):
    result, _ = await replay(spoilt, kind=NeverRefuted, task=STRICTER)
    found = coverage_in_service(result, spoilt)
    assert found == sorted(found) and found[-1] > 0.9
