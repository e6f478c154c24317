import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.errors import InsourceError, Overloaded, RequestError, StoreFull
from insource.gateway.wire import envelope, read_completion, read_headers, render
from insource.types import Answer, Request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def read(body, headers=None):
    return read_completion("r1", body, headers or {}, "/v1/chat/completions")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_request_error(body):
    try:
        assert read(body).body == body
    except RequestError as error:
        assert error.status == 400


@given(st.dictionaries(st.sampled_from(["model", "messages", "stream", "n", "x"]), JSON))
def test_any_object_is_read_and_keeps_its_fields_and_bytes(fields):
    body = json.dumps(fields).encode()
    request = read(body)
    assert request.body == body
    assert request.fields == {name: value for name, value in fields.items() if name not in ("model", "messages")}
    assert request.stream is (fields.get("stream") is True)


def test_messages_are_read_whole_or_not_at_all():
    good = {"role": "user", "content": "x"}
    parts = {"role": "user", "content": [{"type": "text", "text": "y"}]}
    tool = {"role": "assistant", "content": None, "tool_calls": []}
    assert [m.text for m in read(json.dumps({"messages": [good, parts, tool]}).encode()).messages] == ["x", "y", None]
    for odd in (
        "x",
        7,
        {"role": 1},
        {"content": "x"},
        {"role": "user", "content": 7},
        {"role": "user", "content": ["x"]},
    ):
        assert read(json.dumps({"messages": [good, odd]}).encode()).messages == ()


def test_headers_are_read_by_lower_case_name_and_joined():
    raw = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Cookie", b"a=1"), (b"cookie", b"b=2"), (b"X-L", b"\xe9")]
    assert read_headers(raw) == {"x-a": "1, 2", "cookie": "a=1; b=2", "x-l": "é"}


def test_a_rendered_answer_is_stable_on_the_wire():
    request = Request("abc", (), "gpt-4o", {"stream_options": {"include_usage": True}}, stream=True)
    answer = Answer("triage@1", content='{"label": "é"}')
    plain = b"".join(render(Request("abc", (), "gpt-4o"), answer, 1700000000)).decode()
    assert plain == (
        '{"id":"chatcmpl-abc","object":"chat.completion","created":1700000000,"model":"gpt-4o","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"{\\"label\\": \\"é\\"}","refusal":null,"annotations":[]},'
        '"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}'
    )
    head = '"object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o"'
    assert [event.decode() for event in render(request, answer, 1700000000)][2:] == [
        f'data: {{"id":"chatcmpl-abc",{head},"usage":null,"choices":[{{"index":0,"delta":{{}},"logprobs":null,'
        '"finish_reason":"stop"}]}\n\n',
        f'data: {{"id":"chatcmpl-abc",{head},"usage":{{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}},'
        '"choices":[]}\n\n',
        "data: [DONE]\n\n",
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("Odd."), "invalid_request_error"),
        (Overloaded("x"), "insource_error"),
        (StoreFull("x"), "insource_error"),
    ],
)
def test_errors_come_in_the_envelope(error: InsourceError, kind):
    told = json.loads(envelope(error))["error"]
    assert told == {"message": f"{error} {error.hint}", "type": kind, "param": None, "code": error.code}
