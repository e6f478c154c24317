"""Promotion while serving, and artifacts that cannot be opened."""

import asyncio

import pytest

from insource.errors import ArtifactDamaged
from insource.types import Reason


async def served_by(client, chat):
    async with client.post("/v1/chat/completions", json=chat("sure")) as reply:
        assert reply.status == 200
        return reply.headers["x-insource-served-by"]


async def test_a_promoted_version_takes_over_without_a_failed_request(house, scripted, chat):
    house.promote(house.register())
    second = house.register(digest="e" * 64)
    house.start(upstream=scripted)
    seen = []
    async with house.client() as client:
        seen.append(await served_by(client, chat))
        house.promote(second)
        while seen[-1] != "triage@2":
            seen += await asyncio.gather(*(served_by(client, chat) for _ in range(8)))
        while (await house.opened[0].health()).ready:
            await served_by(client, chat)  # the replaced version closes after its last request
    assert seen == ["triage@1"] * seen.count("triage@1") + ["triage@2"] * seen.count("triage@2")
    assert scripted.state.invoice.requests == 0
    assert (await house.opened[1].health()).ready
    assert house.gateway.metrics.value("insource_active_version", task="triage") == 2


async def test_the_first_promotion_needs_no_restart_and_no_configuration(house, scripted, chat):
    house.start(upstream=scripted, tasks=())
    async with house.client() as client:
        async with client.post("/v1/chat/completions", json=chat("sure", model="task:triage")) as reply:
            assert reply.status == 404
        house.promote(house.register())
        status = 404
        while status == 404:
            async with client.post("/v1/chat/completions", json=chat("sure", model="task:triage")) as reply:
                status = reply.status
        assert reply.headers["x-insource-served-by"] == "triage@1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ArtifactDamaged("weights.safetensors has digest 0a, not 0b"), Reason.ARTIFACT_DAMAGED),
        (ValueError("odd"), Reason.SPECIALIST_FAILED),
    ],
)
async def test_an_artifact_that_cannot_be_opened_is_refused_and_the_upstream_serves(
    house, scripted, chat, error, reason
):
    house.promote(house.register())
    house.broken[1] = error
    house.start(upstream=scripted)
    async with house.client() as client, client.post("/v1/chat/completions", json=chat("sure")) as reply:
        assert (reply.status, reply.headers["x-insource-reason"]) == (200, reason.value)
        assert reply.headers["x-insource-served-by"] == "main"
    assert house.gateway.metrics.value("insource_artifacts_refused_total", task="triage") == 1
    house.stop()
    with house.reader() as ledger:
        (row,) = ledger.rows()
        (act,) = ledger.acts("triage@1")
    assert row.decision.reason is reason and row.decision.version == 1
    assert (act.who, act.what) == ("insource", "refuse artifact")
    assert "digest 0a" in act.detail or reason is Reason.SPECIALIST_FAILED
