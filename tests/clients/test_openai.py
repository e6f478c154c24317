"""The `openai` package, sync and async, against the gateway: accepted here, sent up, and passed through."""

import base64
import inspect

import numpy as np
import openai
import pytest

from insource.backends.scripted_vectors import vector

ACCEPTED = ("sure", "yes", "above_threshold", "triage@1", 0)
ESCALATED = ("unsure", "yes", "below_threshold", "main", None)
KINDS = [ACCEPTED, ESCALATED]


@pytest.fixture(params=["sync", "async"])
async def client(request, served):
    options = {"base_url": served.url + "/v1", "api_key": "k", "max_retries": 0}
    if request.param == "sync":
        with openai.OpenAI(**options) as opened:
            yield opened
    else:
        async with openai.AsyncOpenAI(**options) as opened:
            yield opened


async def got(value):
    """A value of either client."""
    return await value if inspect.isawaitable(value) else value


async def all_of(stream):
    """Every event of either client's stream."""
    return [event async for event in stream] if hasattr(stream, "__aiter__") else list(stream)


async def raw(method, **fields):
    """The parsed reply (a list where it is a stream), and the headers."""
    reply = await got(method.with_raw_response.create(**fields))
    parsed = await got(reply.parse())
    return (await all_of(parsed) if fields.get("stream") else parsed), reply.headers


def check(headers, kind):
    assert headers["x-insource-reason"] == kind[2]
    assert headers["x-insource-served-by"] == kind[3]


def counted(kind, *tokens):
    """No tokens where the specialist answered, some where the upstream did."""
    assert all(count == 0 for count in tokens) if kind is ACCEPTED else all(count > 0 for count in tokens)


def talk(served, text):
    return [{"role": "system", "content": served.system}, {"role": "user", "content": text}]


@pytest.mark.parametrize("kind", KINDS)
async def test_chat(client, served, kind):
    fields = {"model": "gpt-x", "messages": talk(served, kind[0]), "temperature": 0}
    reply, headers = await raw(client.chat.completions, **fields)
    check(headers, kind)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (kind[1], "stop")
    counted(kind, reply.usage.prompt_tokens, reply.usage.completion_tokens)
    options = {"stream_options": {"include_usage": True}}
    chunks, headers = await raw(client.chat.completions, **fields, stream=True, **options)
    check(headers, kind)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (text, chunks[-2].choices[0].finish_reason) == (kind[1], "stop")
    counted(kind, chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)


@pytest.mark.parametrize("kind", KINDS)
async def test_completions(client, kind):
    fields = {"model": "triage-1", "prompt": kind[0], "max_tokens": 5}
    reply, headers = await raw(client.completions, **fields)
    check(headers, kind)
    assert reply.choices[0].text == kind[1]
    counted(kind, reply.usage.prompt_tokens, reply.usage.completion_tokens)
    chunks, headers = await raw(client.completions, **fields, stream=True, stream_options={"include_usage": True})
    check(headers, kind)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == kind[1]
    counted(kind, chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", [False, True])
async def test_responses(client, served, kind, items):
    content = [{"type": "input_text", "text": kind[0]}]
    given = [{"role": "user", "content": content}] if items and kind is not ACCEPTED else kind[0]
    fields = {"model": "gpt-x", "instructions": served.system, "input": given, "store": False}
    reply, headers = await raw(client.responses, **fields)
    assert headers["x-insource-served-by"] == kind[3]
    assert (reply.output_text, reply.status, reply.instructions) == (kind[1], "completed", served.system)
    counted(kind, reply.usage.input_tokens, reply.usage.output_tokens)
    events, headers = await raw(client.responses, **fields, stream=True)
    assert headers["x-insource-served-by"] == kind[3]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == kind[1]
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.output_text == kind[1]
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_clients_own_gathering_of_a_responses_stream(client, served, kind):
    fields = {"model": "gpt-x", "instructions": served.system, "input": kind[0], "store": False}
    if isinstance(client, openai.OpenAI):
        with client.responses.stream(**fields) as stream:
            final = stream.get_final_response()
    else:
        async with client.responses.stream(**fields) as stream:
            final = await stream.get_final_response()
    assert final.output_text == kind[1]


@pytest.mark.parametrize("text", ["sure", "wrong", "unsure"])
async def test_moderations(client, text):
    """The answer "yes" is safe, "no" is a category; below the threshold the upstream's verdict is passed on."""
    reply, headers = await raw(client.moderations, model="guard-1", input=text)
    (result,) = reply.results
    if text == "unsure":
        assert (headers["x-insource-reason"], result.flagged) == ("below_threshold", True)
        assert result.categories.to_dict() == {"yes": True}
    else:
        assert headers["x-insource-served-by"] == "guard@1"
        assert result.flagged is (text == "wrong")
        assert result.categories.to_dict() == ({"no": True} if text == "wrong" else {})


async def test_several_moderations_go_up(client):
    reply, headers = await raw(client.moderations, model="guard-1", input=["sure", "fine"])
    assert headers["x-insource-reason"] == "unsupported_field"
    assert [result.flagged for result in reply.results] == [True, False]


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_embeddings_are_passed_through(client, encoding):
    more = {} if encoding is None else {"encoding_format": encoding}
    reply, headers = await raw(client.embeddings, model="e", input=["hello", "x"], dimensions=8, **more)
    assert headers["x-insource-reason"] == "no_task"
    for row, text in zip(reply.data, ["hello", "x"], strict=True):
        found = row.embedding
        if isinstance(found, str):
            found = np.frombuffer(base64.b64decode(found), "<f4")
        assert np.allclose(found, vector(text, 8))
    assert reply.usage.prompt_tokens == 3


async def test_models_lists_tasks_and_the_upstreams_own(client):
    found = await all_of(await got(client.models.list()))
    assert {"task:triage", "task:guard", "scripted"} <= {model.id for model in found}


async def test_no_task_is_passed_through(client):
    reply, headers = await raw(client.chat.completions, model="gpt-x", messages=[{"role": "user", "content": "hello"}])
    assert (reply.choices[0].message.content, headers["x-insource-reason"]) == ("Hi, how can I help?", "no_task")


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"logprobs": True},
        {"extra_body": {"x_new": 1}},
    ],
)
async def test_what_a_specialist_cannot_honour_goes_up(client, served, more):
    _, headers = await raw(client.chat.completions, model="gpt-x", messages=talk(served, "sure"), **more)
    assert headers["x-insource-reason"] == "unsupported_field"


async def test_the_upstreams_errors_are_the_clients_own(client):
    with pytest.raises(openai.NotFoundError, match="has no reference for this text"):
        await got(client.responses.create(model="gpt-x", input="nobody recorded this"))
    with pytest.raises(openai.BadRequestError):
        await got(client.completions.create(model="gpt-x", prompt=["x", "y"]))


async def test_the_gateways_errors_are_the_clients_own(client):
    with pytest.raises(openai.APIStatusError) as caught:
        await got(client.chat.completions.create(model="task:nobody", messages=[{"role": "user", "content": "x"}]))
    assert (caught.value.status_code, caught.value.code) == (404, "task_unknown")
