"""The scripted upstream in every dialect, read by the types of the official clients and by our own reader."""

import json

import anthropic.types
import pydantic
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from insource.backends.reply import read_whole
from insource.backends.scripted_dialects import DIALECTS, Said, failure, moderated
from insource.backends.scripted_vectors import embedded, vector
from insource.types import Usage

JSON, EVENTS = (("content-type", "application/json"),), (("content-type", "text/event-stream"),)
PATHS = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/responses": "responses",
         "/v1/messages": "messages"}  # fmt: skip
TYPES = {
    "chat": (ChatCompletion, ChatCompletionChunk),
    "completions": (Completion, None),
    "responses": (Response, pydantic.TypeAdapter(ResponseStreamEvent)),
    "messages": (anthropic.types.Message, pydantic.TypeAdapter(anthropic.types.RawMessageStreamEvent)),
}


def said(content="Hello! I am a script.", **fields):
    return Said("ab12", "m", content, Usage(2, 6), fields)


@pytest.mark.parametrize("path", PATHS)
def test_a_whole_reply_is_of_the_clients_type_and_read_back(path):
    reply = DIALECTS[path].whole(said())
    TYPES[PATHS[path]][0].model_validate(reply)
    found = read_whole(200, JSON, json.dumps(reply).encode(), PATHS[path])
    assert (found.content, found.usage, found.detail) == ("Hello! I am a script.", Usage(2, 6), None)


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_is_of_the_clients_types_and_read_back(path):
    events = list(DIALECTS[path].events(said(stream_options={"include_usage": True})))
    found = read_whole(200, EVENTS, b"".join(events), PATHS[path])
    assert (found.content, found.usage, found.detail) == ("Hello! I am a script.", Usage(2, 6), None)
    kind = TYPES[PATHS[path]][1]
    for event in events:
        data = event.rpartition(b"data: ")[2].strip()
        if kind is not None and data != b"[DONE]" and b'"ping"' not in data:
            value = json.loads(data)
            kind.validate_python(value) if isinstance(kind, pydantic.TypeAdapter) else kind.model_validate(value)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_usage_ends_a_stream_only_where_it_is_asked_for(path):
    assert read_whole(200, EVENTS, b"".join(DIALECTS[path].events(said())), PATHS[path]).usage is None


def test_vectors_are_the_same_for_a_text_and_of_length_one():
    assert vector("x", 8) == vector("x", 8) != vector("y", 8)
    assert sum(number * number for number in vector("x", 64)) == pytest.approx(1.0)
    reply, usage = embedded({"input": ["hello", "x"], "dimensions": 4}, "m")
    assert [len(row.embedding) for row in CreateEmbeddingResponse.model_validate(reply).data] == [4, 4]
    assert usage == Usage(3, 0)
    tokens, usage = embedded({"input": [1, 2, 3]}, "m")
    assert (len(tokens["data"]), usage) == (1, Usage(3, 0))


@pytest.mark.parametrize("odd", [{}, {"input": None}, {"input": []}, {"input": "x", "dimensions": -1}, {"input": [{}]}])
def test_an_odd_embeddings_request_is_refused(odd):
    with pytest.raises((KeyError, TypeError, ValueError)):
        embedded(odd, "m")


def test_a_moderation_flags_all_but_the_safe_answer():
    assert moderated("safe") == {
        "flagged": False,
        "categories": {},
        "category_scores": {},
        "category_applied_input_types": {},
    }
    assert (moderated("toxic")["flagged"], moderated("toxic")["categories"]) == (True, {"toxic": True})


def test_errors_are_worded_as_the_api_words_them():
    assert failure("/v1/messages", 404, "c", "m") == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "m"},
    }
    assert failure("/v1/responses", 404, "c", "m")["error"]["code"] == "c"
