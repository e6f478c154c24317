"""The order that everything rests on: decision on record, then the reply, then what may come after."""

import asyncio
import threading

import pytest

from insource.types import Task


class HeldLedger:
    """A ledger whose decisions become durable only when it is told; everything else is the real one's."""

    def __init__(self, ledger):
        self._ledger = ledger
        self.asked, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    async def append(self, decision, content=None, *, keep_text=False):
        self.asked.set()
        await asyncio.to_thread(self.go.wait)
        await self._ledger.append(decision, content, keep_text=keep_text)


@pytest.mark.parametrize("text", ["sure", "unsure", "hello"])
@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_is_sent_either_way_before_the_decision_is_durable(house, chat, text, stream):
    held = []

    def wrap(ledger):
        held.append(HeldLedger(ledger))
        return held[0]

    house.promote(house.register())
    house.start(wrap=wrap)
    async with house.client() as client:
        system = None if text == "hello" else "Say yes or no."
        job = asyncio.ensure_future(client.post("/v1/chat/completions", json=chat(text, system=system, stream=stream)))
        await asyncio.to_thread(held[0].asked.wait)
        async with client.get("/healthz") as reply:  # the loop goes on meanwhile
            assert reply.status == 200
        assert not job.done()
        assert house.raw.received == []
        held[0].go.set()
        async with await job as reply:
            assert reply.status == 200
            await reply.read()
    assert len(house.raw.received) == (text != "sure")


async def test_an_audit_that_hangs_delays_no_reply_and_its_cost_is_unknown(house, chat):
    async def until_gone(receive):
        while (await receive())["type"] != "http.disconnect":
            pass
        return True

    house.raw.gate = until_gone
    house.promote(house.register())
    house.start(tasks=(Task("triage", audit_rate=1.0),), coin=lambda _: 0.0, drain=1, timeout=60.0)
    async with house.client() as client:
        async with client.post("/v1/chat/completions", json=chat("sure", model="task:triage")) as reply:
            assert (reply.status, reply.headers["x-insource-served-by"]) == (200, "triage@1")
            await reply.read()
    house.stop()
    with house.reader() as ledger:
        (row,) = ledger.rows()
    assert (row.settlement.status, row.settlement.cost, row.settlement.cost_saved) == (200, None, 0)
    assert row.audit is None


async def test_an_audit_whose_reference_fails_says_so(house, chat):
    house.promote(house.register())
    house.raw.status = 500
    house.start(tasks=(Task("triage", audit_rate=1.0),), coin=lambda _: 0.0)
    async with house.client() as client:
        async with client.post("/v1/chat/completions", json=chat("sure", model="task:triage")) as reply:
            assert reply.status == 200
    house.stop()
    with house.reader() as ledger:
        (row,) = ledger.rows()
    assert (row.audit.agrees, row.audit.detail) == (None, "the upstream answered 500")
    assert row.settlement.cost is None
