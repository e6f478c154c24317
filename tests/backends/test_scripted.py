import json
from decimal import Decimal

import aiohttp
import openai
import pytest

from insource.backends.scripted import Price, Scripted, scripted_app
from insource.errors import UpstreamError, UpstreamUnreachable
from insource.gateway.server import ServerThread
from insource.types import Example, Message, Request

TEXTS = {"hello": "Hello! I am a script.", "card": "card_arrival"}


def ask(text, id="r1", system=None):
    messages = (Message("user", text),)
    return Request(id, ((Message("system", system), *messages) if system else messages))


async def test_a_double_answers_scores_and_counts():
    async with Scripted(TEXTS, score=lambda request, answer: len(answer) / 100) as double:
        answer = await double.answer(ask("card"))
        assert (answer.content, answer.label, answer.score) == ("card_arrival", "card_arrival", 0.12)
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 3)
        with pytest.raises(UpstreamError, match="no reference for this request; it knows 2 texts"):
            await double.answer(ask("other"))
        assert double.asked == 2


async def test_examples_are_found_by_conversation_then_by_text():
    examples = [
        Example(ask("x", system="A"), "a"),
        Example(ask("x", system="B"), "b"),
        Example(ask("x", system="B"), "late"),
        Example(ask("y"), None),
    ]
    async with Scripted(examples) as double:
        assert [(await double.answer(ask("x", system=s))).content for s in ("A", "B", "C", None)] == [
            "a",
            "b",
            "a",
            "a",
        ]
        with pytest.raises(UpstreamError):
            await double.answer(ask("y"))


async def test_faults_fall_by_seed_and_request_in_any_order():
    requests = [ask("hello", f"r{n}") for n in range(60)]

    async def faults(order, seed):
        fell = set()
        async with Scripted(TEXTS, fault_rate=0.3, seed=seed) as double:
            for request in requests[::order]:
                try:
                    await double.answer(request)
                except UpstreamUnreachable:
                    fell.add(request.id)
        return fell

    assert await faults(1, 1) == await faults(-1, 1) != await faults(1, 2)
    assert 5 < len(await faults(1, 1)) < 35


def body(text, **more):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


async def test_the_server_speaks_to_the_official_client():
    app = scripted_app(TEXTS, price=Price(Decimal(2), Decimal(8)))
    with ServerThread(app, drain=1) as server:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0) as client:
            messages = [{"role": "user", "content": "hello"}]
            plain = await client.chat.completions.create(model="m", messages=messages)
            assert (plain.choices[0].message.content, plain.model) == (TEXTS["hello"], "m")
            assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (2, 6)
            stream = await client.chat.completions.create(
                model="m", messages=messages, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
            assert "".join(piece or "" for piece in pieces) == TEXTS["hello"]
            assert len([piece for piece in pieces if piece]) == 4
            assert chunks[-1].usage == plain.usage
            assert [model.owned_by async for model in client.models.list()] == ["insource-scripted"]
            with pytest.raises(openai.NotFoundError, match="has no reference for this text"):
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    invoice = app.state.invoice
    assert (invoice.requests, invoice.prompt_tokens, invoice.completion_tokens) == (2, 4, 12)
    assert invoice.cost == Decimal("0.000104")


def test_an_invoice_without_prices_is_unknown():
    assert scripted_app(TEXTS).state.invoice.cost is None


@pytest.mark.parametrize("odd", [b"", b"[]", b'{"messages": 7}', b'{"messages": ["x"]}', b"\xff"])
async def test_odd_bodies_are_a_400(odd):
    with ServerThread(scripted_app(TEXTS), drain=1) as server:
        async with aiohttp.ClientSession(server.url) as client:
            async with client.post("/v1/chat/completions", data=odd) as reply:
                assert (reply.status, (await reply.json())["error"]["code"]) == (400, "invalid_request")


async def outcomes(seed, order):
    seen = {}
    with ServerThread(scripted_app(TEXTS, fault_rate=0.6, seed=seed), drain=1) as server:
        timeout = aiohttp.ClientTimeout(sock_read=0.1)
        async with aiohttp.ClientSession(server.url, timeout=timeout) as client:
            for n in range(30)[::order]:
                try:
                    async with client.post("/v1/chat/completions", data=body("hello", seed=n)) as reply:
                        await reply.read()
                        seen[n] = str(reply.status)
                except aiohttp.ClientError as error:
                    seen[n] = type(error).__name__
    return seen


async def test_the_servers_faults_are_four_and_the_same_for_a_seed():
    first = await outcomes(3, 1)
    assert set(first.values()) == {"200", "429", "500", "ClientPayloadError", "SocketTimeoutError"}
    assert await outcomes(3, -1) == first
