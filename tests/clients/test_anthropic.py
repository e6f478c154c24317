"""The `anthropic` package, sync and async, against the gateway: accepted here, sent up, and passed through."""

import inspect

import anthropic
import pytest

KINDS = [("sure", "yes", "triage@1"), ("unsure", "yes", "main")]


@pytest.fixture(params=["sync", "async"])
async def client(request, served):
    options = {"base_url": served.url, "api_key": "k", "max_retries": 0}
    if request.param == "sync":
        with anthropic.Anthropic(**options) as opened:
            yield opened
    else:
        async with anthropic.AsyncAnthropic(**options) as opened:
            yield opened


async def got(value):
    return await value if inspect.isawaitable(value) else value


def fields(served, text, **more):
    said = {"role": "user", "content": text}
    return {"model": "claude-x", "max_tokens": 64, "system": served.system, "messages": [said], **more}


async def raw(client, **asked):
    reply = await got(client.messages.with_raw_response.create(**asked))
    return await got(reply.parse()), reply.headers


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message(client, served, kind):
    reply, headers = await raw(client, **fields(served, kind[0]))
    assert headers["x-insource-served-by"] == kind[2]
    assert ([block.text for block in reply.content], reply.stop_reason) == ([kind[1]], "end_turn")
    assert (reply.usage.input_tokens + reply.usage.output_tokens == 0) is (kind[0] == "sure")


@pytest.mark.parametrize("kind", KINDS)
async def test_its_events(client, served, kind):
    stream, headers = await raw(client, **fields(served, kind[0]), stream=True)
    events = [event async for event in stream] if hasattr(stream, "__aiter__") else list(stream)
    assert headers["x-insource-served-by"] == kind[2]
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    assert "".join(event.delta.text for event in events if event.type == "content_block_delta") == kind[1]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_clients_own_gathering_of_a_stream(client, served, kind):
    if isinstance(client, anthropic.Anthropic):
        with client.messages.stream(**fields(served, kind[0])) as stream:
            final = stream.get_final_message()
    else:
        async with client.messages.stream(**fields(served, kind[0])) as stream:
            final = await stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == (kind[1], "end_turn")


@pytest.mark.parametrize(
    "more",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        {"extra_body": {"x_new": 1}},
    ],
)
async def test_what_a_specialist_cannot_honour_goes_up(client, served, more):
    _, headers = await raw(client, **fields(served, "sure", **more))
    assert headers["x-insource-reason"] == "unsupported_field"


async def test_system_and_content_in_blocks_go_up_as_they_are(client, served):
    blocks = [{"type": "text", "text": "unsure", "cache_control": {"type": "ephemeral"}}]
    reply, headers = await raw(client, **fields(served, blocks))
    assert headers["x-insource-served-by"] == "main"
    assert reply.content[0].text == "yes"


async def test_tokens_are_counted_by_the_upstream(client):
    found = await got(
        client.messages.count_tokens(model="claude-x", messages=[{"role": "user", "content": "hello there"}])
    )
    assert found.input_tokens == 3


async def test_the_upstreams_errors_are_the_clients_own(client):
    said = [{"role": "user", "content": "nobody recorded this"}]
    with pytest.raises(anthropic.NotFoundError, match="has no reference for this text"):
        await got(client.messages.create(model="claude-x", max_tokens=5, messages=said))


async def test_the_gateways_errors_are_the_clients_own(client):
    with pytest.raises(anthropic.NotFoundError) as caught:
        await got(
            client.messages.create(model="task:nobody", max_tokens=5, messages=[{"role": "user", "content": "x"}])
        )
    assert (caught.value.body["type"], caught.value.body["error"]["type"]) == ("error", "not_found_error")
