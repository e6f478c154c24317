import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.cascade.honour import unsupported
from insource.errors import RequestError
from insource.gateway.wire import DIALECTS, read, read_headers
from insource.inputs import text_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries({"type": st.sampled_from(["text", "input_text", "image", 7]), "text": JSON})
ITEMS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", 7]), "content": st.lists(PARTS, max_size=3) | JSON}
)
FIELDS = st.dictionaries(
    st.sampled_from("model messages stream n prompt input instructions system store x".split()),
    JSON | st.lists(ITEMS, max_size=3),
)
NAMES = st.sampled_from(sorted(DIALECTS.values()))
SECRET = "the patient's name is Ada"


def ask(dialect, fields=None, body=None):
    path = next(path for path, name in DIALECTS.items() if name == dialect)
    return read(dialect, "r1", json.dumps(fields).encode() if body is None else body, {}, path)


@given(NAMES, st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_request_or_a_request_error(dialect, body):
    try:
        assert ask(dialect, body=body).body == body
    except RequestError as error:
        assert error.status == 400


@given(NAMES, FIELDS)
def test_any_object_is_read_and_keeps_its_bytes_and_other_fields(dialect, fields):
    body = json.dumps(fields).encode()
    request = ask(dialect, body=body)
    assert (request.body, request.dialect) == (body, dialect)
    taken = fields.keys() - request.fields.keys()
    assert taken <= {"model", "messages", "prompt", "input", "system"}
    assert all(request.fields[name] == fields[name] for name in fields.keys() - taken)
    streaming = dialect not in ("embeddings", "moderations")
    assert request.stream is (streaming and fields.get("stream") is True)
    text_of(request)


@given(NAMES, FIELDS)
def test_what_was_not_read_as_a_conversation_can_be_honoured_by_nobody(dialect, fields):
    """Else a specialist would answer a part of what was asked."""
    request = ask(dialect, fields)
    if request.fields.keys() & {"prompt", "input", "system"} and any(
        request.fields.get(name) is not None for name in ("prompt", "input", "system")
    ):
        assert unsupported(request.fields, dialect) is not None


@pytest.mark.parametrize(
    "body",
    [b'{"a": %b}', b"%b", b'{"a" "%b"}', b'["%b"]', b'"%b"', b'{"%b\xff": 1}', b'{"a": "%b', b'{"a": NaN, "b": "%b"}'],
)
@pytest.mark.parametrize("dialect", sorted(DIALECTS.values()))
def test_what_is_said_of_a_wrong_body_never_quotes_it(dialect, body):
    with pytest.raises(RequestError) as caught:
        ask(dialect, body=body % SECRET.encode())
    assert not quotes(caught.value)


def test_an_error_that_quotes_is_seen():
    assert quotes(RequestError(f"The body {SECRET[-5:]!r} is odd."))


def quotes(error):
    """Whether an error holds a word of the secret, or of what was wrong around it."""
    return any(word in f"{error} {error.hint}" for word in ("patient", "name", "Ada", "NaN"))


def test_deep_nesting_is_a_request_error():
    with pytest.raises(RequestError, match="nested too deeply"):
        ask("chat", body=b'{"a":' + b"[" * 100_000)


def test_half_a_surrogate_pair_is_read_and_passed_on_as_it_came():
    body = rb'{"model":"m","messages":[{"role":"user","content":"cut \ud83d"}],"x":1}'
    request = ask("chat", body=body)
    assert (request.messages[0].text, request.model, request.fields, request.body) == ("cut ?", "m", {"x": 1}, body)


def texts(request):
    return [(message.role, message.text) for message in request.messages]


def test_chat_messages_are_read_whole_or_not_at_all():
    good = {"role": "user", "content": "x"}
    parts = {"role": "user", "content": [{"type": "text", "text": "y"}]}
    tool = {"role": "assistant", "content": None, "tool_calls": []}
    assert texts(ask("chat", {"messages": [good, parts, tool]})) == [("user", "x"), ("user", "y"), ("assistant", None)]
    for odd in (
        "x",
        7,
        {"role": 1},
        {"content": "x"},
        {"role": "user", "content": 7},
        {"role": "user", "content": ["x"]},
    ):
        assert ask("chat", {"messages": [good, odd]}).messages == ()


@pytest.mark.parametrize(("prompt", "read_as"), [
    ("x", "x"), (["x"], "x"), (["x", "y"], None), ([1, 2], None), ([[1, 2]], None), ([], None), (7, None),
])  # fmt: skip
def test_a_prompt_of_one_text_is_the_users_message(prompt, read_as):
    request = ask("completions", {"model": "m", "prompt": prompt, "max_tokens": 5})
    assert texts(request) == ([("user", read_as)] if read_as else [])
    assert ("prompt" in request.fields) is (read_as is None)


def test_a_response_has_instructions_and_an_input_of_text_or_items():
    assert texts(ask("responses", {"instructions": "Be brief.", "input": "x"})) == [
        ("system", "Be brief."),
        ("user", "x"),
    ]
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a", "annotations": []}],
    }
    items = [
        {"role": "developer", "content": "D"},
        {"role": "user", "content": [{"type": "input_text", "text": "b"}, {"type": "input_text", "text": "c"}]},
        {"type": "reasoning", "summary": []},
        said,
    ]
    assert texts(ask("responses", {"input": items})) == [
        ("developer", "D"), ("user", "bc"), ("assistant", None), ("assistant", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call_output", "call_id": "1", "output": "42"},
        {"type": "item_reference", "id": "msg_1"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]},
        {"type": "message", "role": "user", "content": 7},
    ],
)
def test_items_that_are_no_text_leave_the_system_prompt_and_no_text_to_answer(item):
    request = ask("responses", {"instructions": "S", "input": [{"role": "user", "content": "x"}, item]})
    assert request.system_prompt == "S"
    assert text_of(request) is None


@pytest.mark.parametrize("given", [7, None, ["x"], [{"role": "user", "content": "x"}, 7]])
def test_an_odd_input_of_a_response_stays_with_the_system_prompt_read(given):
    request = ask("responses", {"instructions": "S", "input": given})
    assert request.system_prompt == "S"
    assert (texts(request)[1:], request.fields["input"]) == ([], given)


def test_a_message_has_a_system_prompt_of_text_or_blocks():
    user = {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}
    for system in ("S", [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]):
        request = ask("messages", {"system": system, "messages": [user], "max_tokens": 5})
        assert (request.system_prompt, texts(request)[1:]) == ("S", [("user", "x")])
        assert request.fields == {"max_tokens": 5}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]}
    assert text_of(ask("messages", {"messages": [user, result]})) is None


def test_a_prefilled_answer_is_left_to_the_upstream():
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "The answer is"}]
    request = ask("messages", {"messages": talk})
    assert unsupported(request.fields, "messages") == "messages"
    assert unsupported(ask("messages", {"messages": talk[:1]}).fields, "messages") is None


def test_a_moderation_of_one_text_is_read_and_several_are_left():
    for one in ("x", ["x"], [{"type": "text", "text": "x"}]):
        request = ask("moderations", {"input": one})
        assert (text_of(request), dict(request.fields)) == ("x", {})
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    assert text_of(ask("moderations", {"input": [{"type": "text", "text": "x"}, image]})) is None
    for several in (["x", "y"], [], 7, None, ["x", {"type": "text", "text": "x"}]):
        request = ask("moderations", {"input": several})
        assert request.messages == ()
        assert unsupported(request.fields, "moderations") == ("input" if several is not None else None)


def test_embeddings_keep_their_input():
    request = ask("embeddings", {"model": "m", "input": ["x", "y"], "stream": True})
    assert (request.messages, request.fields["input"], request.stream) == ((), ["x", "y"], False)


def test_headers_are_read_by_lower_case_name_and_joined():
    raw = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Cookie", b"a=1"), (b"cookie", b"b=2"), (b"X-L", b"\xe9")]
    assert read_headers(raw) == {"x-a": "1, 2", "cookie": "a=1; b=2", "x-l": "é"}
