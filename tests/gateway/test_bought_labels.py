"""Labels bought while serving: a reference in the ledger to learn from, its cost, and no audit of it."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.lifecycle.lessons import gather
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Match, Task

LATE = datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC)
TASK = Task("triage", match=Match(system_prompts=("Say yes or no.",)), audit_rate=0.0, content="full")


@pytest.mark.parametrize("limit", [1, 0])
async def test_a_label_teaches_costs_and_certifies_nothing(house, scripted, chat, limit):
    house.promote(house.register())
    house.start(tasks=(replace(TASK, labels_per_day=limit),), upstream=scripted, clock=lambda: LATE)
    async with house.client() as client:
        for _ in range(3):
            async with client.post("/v1/chat/completions", json=chat("wrong")) as reply:
                assert reply.headers["x-insource-served-by"] == "triage@1"
        async with client.get("/v1/insource/tasks/triage") as reply:
            told = (await reply.json())["labels"]
    house.stop()
    with Registry.open(house.home) as registry:
        assert registry.labels_taken("triage", LATE) == limit == told["per_day"] and told["today"] <= limit
    with LedgerReader(house.home) as reader:
        rows = list(reader.rows())
        lessons = gather(reader.references("triage"), (), reader.decision)
        audits = list(reader.audits("triage"))
    assert [(each.text, each.answer, each.unbiased) for each in lessons] == [("wrong", "yes", False)] * limit
    assert audits == [] and len(rows) == 3 and all(row.settlement is not None for row in rows)
    bought = [row.settlement for row in rows if row.settlement.usage is not None and row.settlement.cost > 0]
    assert len(bought) == limit and all(each.cost_saved == Decimal(0) for each in bought)
