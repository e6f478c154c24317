"""Under a budget the replay sends up what its selection is least sure of, whatever the threshold says."""

import json

import numpy as np
import pytest

from insource.cascade.coin import hash_coin
from insource.cascade.pacing import Pacer
from insource.inputs import InputSettings
from insource.lifecycle import replay as replays
from insource.lifecycle.replay import Plan, Replay
from insource.lifecycle.stream import to_stream
from insource.traffic import read
from insource.training.families import Material
from insource.types import Task
from tests.lifecycle.test_backtest import silent

REQUESTS, WARMUP, BUDGET = 900, 200, 400


class Told:
    """A selection with a number for every row, that keeps what it was asked."""

    def __init__(self, sure):
        self.sure, self.fitted, self.asked = sure, [], []

    def fit(self, rows, probabilities):
        assert len(probabilities) == len(rows.evidence)
        self.fitted.append(rows)

    def __call__(self, rows, probabilities):
        assert len(probabilities) == len(rows)
        self.asked += rows.tolist()
        return self.sure[rows]


class Bounded(Replay):
    """The control: the threshold is kept, and what lies above it never goes up."""

    async def _serve(self, active, start, stop):
        kept, replays._unbounded = replays._unbounded, lambda active: active
        try:
            await super()._serve(active, start, stop)
        finally:
            replays._unbounded = kept


@pytest.fixture(scope="module")
def stream(tickets, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "may.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in tickets(REQUESTS, answers=2, told=0.15, seed=3)))
    return to_stream(read(path).examples, InputSettings())


async def replayed(stream, select, kind=Replay):
    material = Material(stream.texts, lambda: None, silent, "none")
    plan = Plan(Task("tickets", target_risk=0.3), "linear", 0, WARMUP, BUDGET, 1.5)
    return await kind(stream, material, plan, hash_coin(0), lambda done, total: None, select).run()


async def test_the_selection_decides_and_sees_every_request_once(stream):
    select = Told(np.random.default_rng(0).random(REQUESTS))
    result = await replayed(stream, select)
    assert select.asked == list(range(WARMUP, REQUESTS))
    assert len(select.fitted) == len(result.versions) > 2
    assert all((rows.evidence < WARMUP).all() for rows in select.fitted)
    pacer, expected = Pacer(BUDGET - WARMUP, REQUESTS - WARMUP), []
    for row in range(WARMUP, REQUESTS):
        pacer.passed()
        expected.append(pacer(select.sure[row]))
    assert (~result.spent[WARMUP:]).tolist() == expected
    assert int((~result.spent).sum()) >= BUDGET - 4 and not result.accepted.any()


def above_and_up(result):
    """Return how many requests went up although the version's threshold lay below their score."""
    threshold = np.full(REQUESTS, np.inf)
    for version in result.versions:
        threshold[version.at :] = np.inf if version.threshold is None else version.threshold
    return int((~result.spent & ~result.accepted & (result.scores >= threshold)).sum())


async def test_requests_above_the_threshold_compete_too(stream):
    sure = np.random.default_rng(0).random(REQUESTS)
    free, bounded = await replayed(stream, Told(sure)), await replayed(stream, Told(sure), Bounded)
    assert above_and_up(free) > 10 and not free.accepted.any()
    assert above_and_up(bounded) == 0 and bounded.accepted.any(), "the guard broken on purpose"


async def test_insources_own_selection_is_no_worse_than_chance(stream):
    own = await replayed(stream, None)
    chance = await replayed(stream, Told(np.random.default_rng(0).random(REQUESTS)))
    assert (own.wrong & own.spent).sum() < (chance.wrong & chance.spent).sum()
