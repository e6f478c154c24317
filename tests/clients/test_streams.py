"""What real clients make of streams as the wire renders them: whole, broken off, and rendered wrongly on purpose."""

import anthropic
import openai
import pytest

from insource.errors import UpstreamTimeout
from insource.gateway.server import ServerThread
from insource.gateway.wire import EVENTS, broken_off, render
from insource.types import Answer, Request

ANSWER = Answer("triage@1", "yes", label="yes", score=0.9)
SAID = [{"role": "user", "content": "x"}]


def events(dialect):
    return render(Request("abc", (), "m", stream=True, dialect=dialect), ANSWER, 1700000000)


def serving(*chunks):
    """A server that sends these chunks as the events of any request."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return ServerThread(app, drain=1)


def text_of(dialect, url):
    """The text that a client gathers from its dialect's stream."""
    if dialect == "messages":
        with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
            with client.messages.stream(model="m", max_tokens=5, messages=SAID) as stream:
                return stream.get_final_text()
    with openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0) as client:
        if dialect == "responses":
            with client.responses.stream(model="m", input="x") as responses:
                return responses.get_final_response().output_text
        if dialect == "completions":
            chunks = client.completions.create(model="m", prompt="x", stream=True)
            return "".join(chunk.choices[0].text for chunk in chunks)
        chats = client.chat.completions.create(model="m", messages=SAID, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chats)


DIALECTS = ["chat", "completions", "responses", "messages"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_rendered_stream_is_gathered(dialect):
    with serving(*events(dialect)) as server:
        assert text_of(dialect, server.url) == "yes"


@pytest.mark.parametrize(
    ("dialect", "rest"),
    [("chat", b""), ("completions", b""), ("messages", b""), ("messages", b"event: content_block_delta")],
)
def test_a_stream_that_is_broken_off_raises_and_says_why(dialect, rest):
    told = broken_off(UpstreamTimeout("Silence for 60 s."), dialect)
    begun = events(dialect)[:2] if dialect != "completions" else []
    with serving(*begun, rest, told) as server:
        with pytest.raises((openai.APIError, anthropic.APIError), match="Silence for 60 s."):
            text_of(dialect, server.url)


def test_a_response_that_is_broken_off_ends_with_an_event_that_says_why():
    with serving(*events("responses")[:4], broken_off(UpstreamTimeout("Silence for 60 s."), "responses")) as server:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0) as client:
            found = list(client.responses.create(model="m", input="x", stream=True))
    assert (found[-1].type, found[-1].code) == ("error", "upstream_timeout")
    assert "Silence for 60 s." in found[-1].message


def test_events_without_their_names_are_nothing_to_the_client():
    """The control: were the `event:` lines left out, the client would gather no message at all."""
    unnamed = [event.partition(b"\n")[2] for event in events("messages")]
    with serving(*unnamed) as server:
        with pytest.raises(AssertionError):
            text_of("messages", server.url)


def test_a_response_without_its_last_event_is_none():
    with serving(*events("responses")[:-1]) as server:
        with pytest.raises(RuntimeError):
            text_of("responses", server.url)
