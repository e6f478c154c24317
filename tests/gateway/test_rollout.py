"""A rollout while serving: shadow, canary, promotion, rollback and suspension, followed without a failed request."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from yarl import URL

from insource.gateway import gateway as gateways
from insource.store.doubts import KeptWatch
from insource.types import Doubt, Match, Stage, Task

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SYSTEM = "Say yes or no."


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gateways, "POLL_SECONDS", 0.01)


def move(house, version, to, share=0.0):
    return house.registry.move(
        version.task, version.version, expected=version.stage, to=to, share=share, who="t", why="t", now=NOW
    )


async def ask(client, chat, text="sure", **more):
    async with client.post("/v1/chat/completions", json=chat(text, **more)) as reply:
        assert reply.status == 200
        return reply.headers


async def until(client, chat, served, text="sure", **more):
    """Ask until the served-by header is as told, and return all that were seen before."""
    seen = []
    while True:
        told = (await ask(client, chat, text, **more))["x-insource-served-by"]
        if told == served:
            return seen
        seen.append(told)


def gauges(house):
    names = ("active_version", "trial_version", "canary_share", "task_suspended")
    return tuple(house.gateway.metrics.value(f"insource_{name}", task="triage") for name in names)


async def test_from_shadow_over_canary_to_active_and_back_loads_each_version_once(house, scripted, chat):
    house.promote(house.register())
    second = house.register(digest="e" * 64)
    house.start(upstream=scripted)
    async with house.client() as client:
        second = move(house, second, Stage.SHADOW)
        while gauges(house) != (1, 2, 0, 0):
            assert (await ask(client, chat))["x-insource-served-by"] == "triage@1"
        second = move(house, second, Stage.CANARY, 1.0)
        assert set(await until(client, chat, "triage@2")) <= {"triage@1"}
        assert gauges(house) == (1, 2, 1.0, 0)
        move(house, second, Stage.ACTIVE)
        while gauges(house) != (2, 0, 0, 0):
            assert (await ask(client, chat))["x-insource-served-by"] == "triage@2"
        house.registry.rollback("triage", "t", "t", NOW, expected=2)
        assert set(await until(client, chat, "triage@1")) <= {"triage@2"}
    assert len(house.opened) == 2  # the one before was loaded all along
    assert house.gateway.metrics.value("insource_versions_opened_total", task="triage") == 2


async def test_a_canary_that_is_rolled_back_answers_nothing_more(house, scripted, chat):
    house.promote(house.register())
    move(house, house.register(digest="e" * 64), Stage.CANARY, 1.0)
    house.start(upstream=scripted)
    async with house.client() as client:
        assert (await ask(client, chat))["x-insource-served-by"] == "triage@2"
        house.registry.rollback("triage", "t", "t", NOW)
        await until(client, chat, "triage@1")
        assert not await until(client, chat, "triage@1")
        while (await house.opened[1].health()).ready:
            await ask(client, chat)
    assert len(house.opened) == 2 and (await house.opened[0].health()).ready


async def test_a_share_of_the_subjects_is_in_the_canary_and_each_stays(house, scripted, chat):
    house.promote(house.register())
    move(house, house.register(digest="e" * 64), Stage.CANARY, 0.5)
    house.start(upstream=scripted)
    served = {}
    async with house.client() as client:
        for _ in range(2):
            for n in range(30):
                told = (await ask(client, chat, user=f"user {n}"))["x-insource-served-by"]
                assert served.setdefault(n, told) == told
    assert 5 < list(served.values()).count("triage@2") < 25


async def test_a_suspended_task_accepts_nothing_until_it_is_resumed(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        assert (await ask(client, chat))["x-insource-served-by"] == "triage@1"
        house.registry.suspend("triage", "t", "too many errors", NOW)
        await until(client, chat, "main")
        assert (await ask(client, chat))["x-insource-reason"] == "suspended"
        assert (await ask(client, chat, "unsure"))["x-insource-reason"] == "below_threshold"
        assert gauges(house) == (1, 0, 0, 1)
        house.registry.resume("triage", "t", "mended", NOW)
        await until(client, chat, "triage@1")
    assert len(house.opened) == 1


async def test_a_suspension_does_not_wait_for_another_version_to_load(house, scripted, chat):
    house.promote(house.register())
    second = house.register(digest="e" * 64)
    gate, loading, opened = threading.Event(), threading.Event(), house.open_specialist

    def slowly(version):
        if version.version == 2:
            loading.set()
            gate.wait(60)
        return opened(version)

    house.open_specialist = slowly
    house.start(upstream=scripted)
    try:
        async with house.client() as client:
            house.promote(second)
            while not loading.is_set():
                assert (await ask(client, chat))["x-insource-served-by"] == "triage@1"
            house.registry.suspend("triage", "t", "t", NOW)
            await until(client, chat, "main")
            gate.set()
            while (await ask(client, chat))["x-insource-version"] != "2":
                pass
            assert (await ask(client, chat))["x-insource-reason"] == "suspended"
    finally:
        gate.set()


async def test_every_version_is_audited_on_the_same_requests(house, scripted, chat):
    task = replace(Task("triage"), audit_rate=1.0, content="full")
    house.promote(house.register())
    move(house, house.register(digest="e" * 64), Stage.SHADOW)
    house.start(upstream=scripted, tasks=(task,), coin=lambda _: 0.0)
    async with house.client() as client:
        for text in ("sure", "wrong", "unsure"):
            await ask(client, chat, text, model="task:triage", system=None)
    house.stop()
    with house.reader() as ledger:
        rows = list(ledger.rows())
    found = {
        row.content.text: {
            audit.version: (audit.accepted, audit.accepts, audit.agrees, audit.stage, audit.score)
            for audit in row.audits
        }
        for row in rows
    }
    active, shadow = Stage.ACTIVE, Stage.SHADOW
    assert found == {
        "sure": {1: (True, True, True, active, 0.9), 2: (False, True, True, shadow, 0.9)},
        "wrong": {1: (True, True, False, active, 0.8), 2: (False, True, False, shadow, 0.8)},
        "unsure": {1: (False, False, False, active, 0.2), 2: (False, False, False, shadow, 0.2)},
    }
    assert scripted.state.invoice.requests == 3


async def test_a_trial_that_cannot_be_opened_changes_nothing(house, scripted, chat):
    house.promote(house.register())
    house.broken[2] = ValueError("odd")
    move(house, house.register(digest="e" * 64), Stage.SHADOW)
    house.start(upstream=scripted)
    async with house.client() as client:
        assert (await ask(client, chat))["x-insource-served-by"] == "triage@1"
    assert house.gateway.metrics.value("insource_artifacts_refused_total", task="triage") == 1


async def test_the_tasks_are_told_as_the_registry_has_them(house, scripted, chat):
    house.promote(house.register())
    second = move(house, house.register(digest="e" * 64), Stage.CANARY, 0.05)
    house.registry.suspend("triage", "anna", "drift", NOW)
    house.registry.propose("triage", second.version, Stage.CANARY, 0.25, ("900 pairs", "p 0.01"), NOW)
    house.start(upstream=scripted)
    async with house.client() as client:
        async with client.get("/v1/insource/tasks/triage") as reply:
            told = await reply.json()
        async with client.get("/v1/insource/tasks") as reply:
            listed = await reply.json()
        encoded = URL(f"{house.url}/v1/insource/tasks%2Ftriage", encoded=True)
        async with client.get(encoded) as reply:
            assert (await reply.json()) == told
        async with client.get("/v1/insource/tasks/nobody") as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (404, "task_unknown")
    assert listed == {"object": "list", "data": [told]}
    versions = told.pop("versions")
    assert told == {
        "name": "triage", "object": "insource.task", "mode": "approve", "stage": "canary", "active": 1, "trial": 2,
        "share": 0.05, "suspension": {"since": NOW.isoformat(), "who": "anna", "why": "drift"},
        "doubt": None, "recertified": None, "drift": None, "labels": {"today": 0, "per_day": 0},
        "proposal": {"version": 2, "from": "canary", "to": "canary", "share": 0.25, "why": ["900 pairs", "p 0.01"],
                     "since": NOW.isoformat()},
    }  # fmt: skip
    assert [(each["version"], each["stage"], each["share"], each["threshold"]) for each in versions] == [
        (1, "active", 0.0, 0.5), (2, "canary", 0.05, 0.5)
    ]  # fmt: skip
    assert not house.raw.received


async def test_an_idle_registry_opens_nothing_anew(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        await ask(client, chat)
        stack = house.gateway.generation.serving.snapshot.stacks["triage"]
        house.register(digest="f" * 64)  # a candidate changes the registry, and nothing that serves
        await asyncio.sleep(0.05)
        await ask(client, chat)
    assert house.gateway.generation.serving.snapshot.stacks["triage"] is stack


DOUBTED = Task("triage", match=Match(system_prompts=(SYSTEM,)), audit_rate=0.01, content="full")


async def test_in_doubt_every_worker_audits_every_request_until_it_ends(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted, tasks=(DOUBTED,), coin=lambda _: 0.9)
    doubt = Doubt("triage", 1, NOW, ("scores",), 12, "steward", "the scores fell")

    async def until_doubted(value):
        while house.gateway.metrics.value("insource_task_doubted", task="triage") != value:
            await asyncio.sleep(0.01)

    async with house.client() as client:
        before = (await ask(client, chat))["x-insource-request-id"]
        house.registry.raise_doubt(doubt)
        await until_doubted(1)
        during = (await ask(client, chat))["x-insource-request-id"]
        told = await (await client.get("/v1/insource/tasks/triage")).json()
        assert (told["doubt"]["version"], told["doubt"]["kinds"], told["doubt"]["who"]) == (1, ["scores"], "steward")
        house.registry.end_doubt(doubt, "steward", "no harm", NOW)
        await until_doubted(0)
        after = (await ask(client, chat))["x-insource-request-id"]
        assert (await (await client.get("/v1/insource/tasks/triage")).json())["doubt"] is None
    house.stop()
    with house.reader() as ledger:
        found = {name: ledger.decision(name) for name in (before, during, after)}
    coins = [(row.decision.audited, row.decision.audit_rate) for row in found.values()]
    assert coins == [(False, 0.02), (True, 1.0), (False, 0.02)]
    assert [len(row.audits) for row in found.values()] == [0, 1, 0]
    assert len(house.opened) == 1


@pytest.mark.parametrize(("content", "numbers"), [("full", [0, 1, None, 0]), ("digest", [None] * 4)])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_drift_is_seen_by_is_recorded_and_numbers_only_with_contents(
    house, scripted, chat, content, numbers, stream
):
    house.promote(house.register())
    house.start(upstream=scripted, tasks=(replace(DOUBTED, content=content, audit_rate=0.0),))
    async with house.client() as client:
        for text in ("sure", "unsure"):
            async with client.post("/v1/chat/completions", json=chat(text, stream=stream)) as reply:
                assert reply.status == 200 and await reply.read()
    house.stop()
    with house.reader() as ledger:
        kept, up = ledger.rows("triage")
        signals = list(ledger.signals("triage", until=ledger.last_row()))
    assert [kept.decision.answer, up.decision.answer, kept.settlement.reference, up.settlement.reference] == numbers
    assert (kept.settlement.agrees, up.settlement.agrees) == (None, False)
    assert [each.score for each in signals] == [0.9, 0.2, None] and signals[-1].agrees is False


async def test_a_reference_outside_the_set_is_told_and_a_failure_is_none(house, chat):
    house.promote(house.register())
    house.start(tasks=(replace(DOUBTED, audit_rate=0.0),))
    house.raw.chunks = [b'{"choices":[{"message":{"content":"I cannot say."}}]}']
    async with house.client() as client:
        await ask(client, chat, "unsure")
        house.raw.status = 429
        async with client.post("/v1/chat/completions", json=chat("unsure")) as reply:
            assert reply.status == 429
    house.stop()
    with house.reader() as ledger:
        seen = [(row.settlement.agrees, row.settlement.reference) for row in ledger.rows("triage")]
    assert seen == [(False, -1), (None, None)]


async def test_what_the_steward_kept_of_drift_is_told_of_the_active_version_only(house, scripted):
    house.promote(house.register())
    told = {"version": 1, "standing": "calm", "alarms": [], "kinds": []}
    house.registry.keep_watch(KeptWatch("triage", "basis", 40, NOW, {}, told))
    house.start(upstream=scripted)
    async with house.client() as client:
        found = await (await client.get("/v1/insource/tasks/triage")).json()
        assert found["drift"] == {"row": 40, "at": NOW.isoformat(), **told}
        house.promote(house.register(digest="e" * 64))
        assert (await (await client.get("/v1/insource/tasks/triage")).json())["drift"] is None
