"""A raised threshold while serving: in force within a poll, on what is loaded already, and told over HTTP."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from insource.gateway import gateway as gateways
from insource.store.recertifications import Recertified
from tests.gateway.conftest import CALIBRATION

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RAISED = replace(CALIBRATION, method="doubt", threshold=0.95, coverage=0.4, rows=2_000)
TOLD = Recertified("triage", 1, NOW, 0.5, RAISED, 1, 40, "steward", "threshold raised (ledger row 90)")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gateways, "POLL_SECONDS", 0.01)


async def test_what_was_accepted_goes_up_from_now_on_and_nothing_is_loaded_anew(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:

        async def asked():
            async with client.post("/v1/chat/completions", json=chat("sure")) as reply:
                assert reply.status == 200
                return reply.headers

        before = (await asked())["x-insource-request-id"]
        house.registry.recertify(TOLD)
        while (last := await asked())["x-insource-served-by"] == "triage@1":
            pass
        assert last["x-insource-reason"] == "below_threshold"
        told = await (await client.get("/v1/insource/tasks/triage")).json()
    assert told["recertified"] == {
        "version": 1, "since": NOW.isoformat(), "before": 0.5, "threshold": 0.95, "audits": 2_000, "coverage": 0.4,
        "row": 40, "who": "steward", "why": TOLD.why,
    }  # fmt: skip
    assert [(each["threshold"], each["coverage"]) for each in told["versions"]] == [(0.95, 0.4)]
    house.stop()
    with house.reader() as ledger:
        first, second = (ledger.decision(each).decision for each in (before, last["x-insource-request-id"]))
    assert (first.threshold, second.threshold, first.score) == (0.5, 0.95, second.score)
    assert len(house.opened) == 1
