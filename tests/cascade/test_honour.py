import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.cascade.honour import unfit, unsupported


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0, "top_p": 1, "seed": 7, "user": "u", "stream": True, "store": False, "metadata": {"a": "b"}},
        {"n": 1, "tools": [], "tool_choice": "none", "logprobs": False, "top_logprobs": 0, "logit_bias": {}},
        {"tools": None, "logprobs": None, "prediction": None, "modalities": ["text"]},
        {"stream_options": {"include_usage": True}, "reasoning_effort": "low", "service_tier": "auto"},
    ],
)
def test_fields_that_a_specialist_honours(fields):
    assert unsupported(fields) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temperature": 0, "n": 2}, "n"),
        ({"n": True}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"prediction": {"type": "content"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
    ],
)
def test_fields_that_send_a_request_up(fields, named):
    assert unsupported(fields) == named


@given(st.text(min_size=1, max_size=20), st.one_of(st.booleans(), st.integers(), st.text(), st.lists(st.integers())))
def test_a_field_nobody_knows_is_never_ignored(name, value):
    assert unsupported({f"x_{name}": value}) == f"x_{name}"


SCHEMA = {"schema": {"properties": {"label": {"enum": ["spam", "ham"]}, "why": {}}, "required": ["label"]}}


@pytest.mark.parametrize(
    ("fields", "content", "named"),
    [
        ({"max_tokens": 4}, "card_arrival", None),
        ({"max_tokens": 2}, "card_arrival", "max_tokens"),
        ({"max_completion_tokens": 1}, "yes", None),
        ({"max_completion_tokens": 1}, "negative", "max_completion_tokens"),
        ({"max_tokens": "many"}, "yes", "max_tokens"),
        ({"stop": "\n"}, "yes", None),
        ({"stop": ["_", "\n"]}, "card_arrival", "stop"),
        ({"stop": 7}, "yes", "stop"),
        ({"response_format": {"type": "text"}}, "yes", None),
        ({"response_format": {"type": "json_object"}}, "yes", "response_format"),
        ({"response_format": {"type": "json_object"}}, '"yes"', "response_format"),
        ({"response_format": {"type": "json_object"}}, '{"label": "spam"}', None),
        ({"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, '{"label": "spam"}', None),
        ({"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, '{"label": "eggs"}', "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, '{"why": "x"}', "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            '{"label": "ham", "z": 1}',
            "response_format",
        ),
        ({"response_format": {"type": "json_schema"}}, '{"label": "ham"}', "response_format"),
        ({"response_format": {"type": "grammar"}}, "yes", "response_format"),
        ({"response_format": "json"}, "yes", "response_format"),
    ],
)
def test_an_answer_must_be_one_the_fields_allow(fields, content, named):
    assert unfit(fields, content) == named


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_odd_formats_are_refused_and_never_raise(form):
    answer = json.dumps({"label": "spam"})
    for fields in ({"response_format": form}, {"response_format": {"type": "json_schema", "json_schema": form}}):
        assert unfit(fields, answer) in (None, "response_format")
    assert unfit({"stop": form, "max_tokens": 100}, answer) in (None, "stop")
