"""What a promoted specialist answers, over real sockets."""

import json
from decimal import Decimal

import openai
import pytest

from insource.types import Outcome, Reason, Task


async def post(client, body, **headers):
    async with client.post("/v1/chat/completions", json=body, headers=headers) as reply:
        return reply.status, dict(reply.headers), await reply.read()


async def test_an_accepted_answer_is_a_chat_completion_with_its_why(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        status, headers, body = await post(client, chat("sure"))
    value = json.loads(body)
    assert status == 200
    assert value["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "yes", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert (value["object"], value["model"]) == ("chat.completion", "gpt-4o")
    assert value["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert headers["x-insource-served-by"] == "triage@1"
    assert headers["x-insource-reason"] == "above_threshold"
    assert headers["x-insource-score"] == "0.900000"
    assert headers["x-insource-version"] == "1"
    assert value["id"] == "chatcmpl-" + headers["x-insource-request-id"]
    assert scripted.state.invoice.requests == 0


async def test_an_unsure_request_goes_up_with_the_score_it_had(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        _, headers, body = await post(client, chat("unsure"))
    assert json.loads(body)["choices"][0]["message"]["content"] == "yes"
    assert headers["x-insource-served-by"] == "main"
    assert headers["x-insource-reason"] == "below_threshold"
    assert headers["x-insource-score"] == "0.200000"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"model": "task:triage", "system": None}, {}),
        ({"model": "whatever", "system": None}, {"x-insource-task": "triage"}),
        ({"model": "whatever"}, {}),
    ],
)
async def test_a_request_finds_its_task_by_model_header_or_prompt(house, scripted, chat, body, headers):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        _, told, _ = await post(client, chat("sure", **body), **headers)
    assert told["x-insource-served-by"] == "triage@1"


async def test_an_unknown_task_is_a_404_that_names_the_nearest(house, chat):
    house.start()
    async with house.client() as client:
        status, _, body = await post(client, chat("sure", model="task:triag"))
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (404, "task_unknown")
    assert "the nearest is 'triage'" in error["message"]


async def test_the_official_client_reads_plain_and_streamed_answers(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with openai.AsyncOpenAI(base_url=house.url + "/v1", api_key="k", max_retries=0) as client:
        for text, answer in (("sure", "yes"), ("unsure", "yes")):
            plain = await client.chat.completions.create(**chat(text))
            assert plain.choices[0].message.content == answer
            stream = await client.chat.completions.create(
                **chat(text), stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == answer
            assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
            assert chunks[-1].usage.total_tokens == (0 if text == "sure" else plain.usage.total_tokens)
        names = [model.id async for model in client.models.list()]
    assert names == ["task:triage", "scripted"]


async def test_the_raw_events_of_an_accepted_stream(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        _, headers, body = await post(client, chat("sure", stream=True))
    events = body.decode().split("\n\n")
    assert headers["Content-Type"].startswith("text/event-stream")
    assert events[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events[:-2]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "yes"}, {}]


async def test_a_field_the_specialist_cannot_honour_sends_the_request_up(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        _, headers, _ = await post(client, chat("sure", n=2))
        assert headers["x-insource-reason"] == "unsupported_field"
    house.stop()
    with house.reader() as ledger:
        (row,) = ledger.rows()
    assert (row.decision.reason, row.decision.detail) == (Reason.UNSUPPORTED_FIELD, "n")


async def test_the_specialist_answers_while_the_upstream_is_down(house, chat):
    house.promote(house.register())
    house.start(upstream="http://127.0.0.1:1/v1")
    async with house.client() as client:
        assert (await post(client, chat("sure")))[0] == 200
        status, headers, body = await post(client, chat("unsure"))
    assert status == 502
    assert json.loads(body)["error"]["code"] == "upstream_unreachable"
    assert headers["x-insource-reason"] == "below_threshold"


async def test_without_an_upstream_the_error_says_so(house, chat):
    house.promote(house.register())
    house.start(upstream=False)
    async with house.client() as client:
        assert (await post(client, chat("sure")))[0] == 200
        status, _, body = await post(client, chat("unsure"))
    assert status == 502
    assert "no upstream is configured" in json.loads(body)["error"]["message"]


async def test_the_ledger_holds_decision_settlement_and_money(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted, energy=lambda served_by, seconds: 0.5 if served_by == "triage@1" else None)
    async with house.client() as client:
        for text in ("sure", "unsure", "sure"):
            await post(client, chat(text))
    house.stop()
    with house.reader() as ledger:
        first, up, last = ledger.rows()
    assert [row.decision.outcome for row in (first, up)] == [Outcome.ACCEPTED, Outcome.ESCALATED]
    assert (first.settlement.status, first.settlement.served_by, first.settlement.joules) == (200, "triage@1", 0.5)
    assert (first.settlement.cost, first.settlement.cost_saved) == (Decimal(0), None)  # nothing to estimate from yet
    cost = (5 * Decimal(2) + 1 * Decimal(8)) / 1_000_000
    assert (up.settlement.cost, up.settlement.usage.prompt_tokens, up.settlement.joules) == (cost, 5, None)
    assert last.settlement.cost_saved == cost


async def test_an_audited_answer_is_compared_and_its_cost_counted(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted, tasks=(Task("triage", audit_rate=0.5, content="full"),), coin=lambda _: 0.0)
    async with house.client() as client:
        for text in ("sure", "wrong", "unsure"):
            _, headers, _ = await post(client, chat(text, model="task:triage"))
    house.stop()
    with house.reader() as ledger:
        rows = list(ledger.rows())
    assert [row.audit.agrees for row in rows] == [True, False, False]
    assert [row.audit.accepted for row in rows] == [True, True, False]
    assert all(row.decision.audited and row.decision.audit_rate == 0.5 for row in rows)
    assert all(row.settlement.cost > 0 for row in rows)
    assert [row.settlement.cost_saved for row in rows] == [0, 0, None]
    assert [(row.content.text, row.content.answer, row.content.reference) for row in rows] == [
        ("sure", "yes", "yes"),
        ("wrong", "no", "yes"),
        ("unsure", "yes", "yes"),
    ]
    assert scripted.state.invoice.requests == 3


async def test_digest_mode_keeps_no_text(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        await post(client, chat("sure"))
        await post(client, chat("hello", system=None))
    house.stop()
    with house.reader() as ledger:
        assert [row.content for row in ledger.rows()] == [None, None]
    assert b"hello" not in (house.home / "ledger.db").read_bytes()


async def test_the_list_of_models_has_the_tasks_even_without_the_upstream(house, scripted):
    house.promote(house.register())
    house.start(upstream="http://127.0.0.1:1/v1")
    async with house.client() as client, client.get("/v1/models") as reply:
        value = await reply.json()
    assert (reply.status, [card["id"] for card in value["data"]]) == (200, ["task:triage"])
    assert value["data"][0]["owned_by"] == "insource"
