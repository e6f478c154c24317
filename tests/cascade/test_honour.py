import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.cascade.honour import UNNAMED, told, unfit, unsupported
from insource.cascade.honoured import HONOURED


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


TYPED = {"type": "json_schema", "name": "x", **SCHEMA}
HONOURED_VALUES = {
    "completions": [
        {"max_tokens": 20, "temperature": 0, "stop": ["\n"], "n": 1, "best_of": 1, "echo": False, "suffix": ""},
        {"logprobs": None, "logit_bias": {}, "stream": True, "stream_options": {"include_usage": True}, "user": "u"},
    ],
    "responses": [
        {"instructions": "S", "temperature": 0, "max_output_tokens": 64, "store": False, "metadata": {}, "tools": []},
        {"reasoning": {"effort": "low", "summary": None}, "text": {"format": {"type": "text"}, "verbosity": "low"}},
        {"truncation": "auto", "background": False, "include": [], "previous_response_id": None, "tool_choice": "auto"},
        {
            "stream": True,
            "stream_options": {"include_obfuscation": False},
            "top_logprobs": 0,
            "parallel_tool_calls": True,
        },
    ],
    "messages": [
        {"max_tokens": 64, "temperature": 0, "top_k": 1, "stop_sequences": ["\n"], "stream": True, "metadata": {}},
        {"thinking": {"type": "disabled"}, "tools": [], "tool_choice": {"type": "auto"}, "service_tier": "auto"},
        {"output_config": {"effort": "low"}, "cache_control": {"type": "ephemeral"}},
    ],
    "moderations": [{"model": "m"}, {}],
}
REFUSED_VALUES = {
    "completions": [
        {"prompt": [1, 2]}, {"n": 2}, {"best_of": 3}, {"echo": True}, {"suffix": "x"}, {"logprobs": 0}, {"logprobs": 5},
        {"logit_bias": {"1": 5}}, {"messages": []}, {"response_format": {"type": "text"}},
    ],
    "responses": [
        {"input": 7}, {"instructions": ["x"]}, {"store": True}, {"background": True}, {"previous_response_id": "r"},
        {"conversation": "c"}, {"prompt": {"id": "p"}}, {"include": ["reasoning.encrypted_content"]},
        {"tools": [{"type": "web_search"}]}, {"tool_choice": "required"}, {"tool_choice": {"type": "auto"}},
        {"reasoning": {"summary": "auto"}}, {"reasoning": "low"}, {"text": {"format": None, "x": 1}},
        {"context_management": [{}]}, {"moderation": {}}, {"top_logprobs": 2}, {"n": 1}, {"max_tokens": 5},
    ],
    "messages": [
        {"messages": []}, {"system": 7}, {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled", "x": 1}}, {"tools": [{"name": "f"}]},
        {"tool_choice": {"type": "any"}}, {"tool_choice": "auto"}, {"container": "c"}, {"mcp_servers": [{}]},
        {"output_config": {"x": 1}}, {"inference_geo": "us"}, {"n": 1}, {"store": False},
    ],
    "moderations": [{"input": ["x", "y"]}, {"stream": True}, {"temperature": 0}],
    "embeddings": [{"input": "x"}, {"model": "m"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "fields"), [(d, f) for d, all_of_them in HONOURED_VALUES.items() for f in all_of_them]
)
def test_fields_of_a_dialect_that_a_specialist_honours(dialect, fields):
    assert unsupported(fields, dialect) is None


@pytest.mark.parametrize(
    ("dialect", "fields"), [(d, f) for d, all_of_them in REFUSED_VALUES.items() for f in all_of_them]
)
def test_fields_of_a_dialect_that_send_a_request_up(dialect, fields):
    assert unsupported(fields, dialect) == next(iter(fields))


@given(st.sampled_from(sorted(HONOURED)), st.text(min_size=1, max_size=20), st.booleans() | st.integers() | st.text())
def test_a_field_nobody_knows_is_ignored_in_no_dialect(dialect, name, value):
    assert unsupported({f"x_{name}": value}, dialect) == f"x_{name}"


@pytest.mark.parametrize("field", ["n", "tools", "input", "web_search_options", "mcp_servers"])
def test_a_field_of_an_api_is_told_by_name(field):
    assert told(field) == field


@pytest.mark.parametrize("field", ["", "x", "patient Jane Roe, born 1971", "N", "tools ", "canary_7"])
def test_a_name_of_the_clients_own_is_never_written_down(field):
    assert told(field) == UNNAMED


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
)


@given(st.sampled_from(sorted(HONOURED)), st.data())
def test_odd_values_are_judged_and_never_raise(dialect, data):
    honoured = HONOURED[dialect]
    names = sorted({*honoured.always, *honoured.within})
    fields = data.draw(st.dictionaries(st.sampled_from(names), ODD, max_size=5))
    assert unsupported(fields, dialect) in (None, *honoured.within)
    assert unfit(fields, '{"label": "spam"}', dialect) in (None, *names)


@pytest.mark.parametrize(
    ("dialect", "fields", "content", "named"),
    [
        ("completions", {}, "x" * 64, None),
        ("completions", {}, "x" * 65, "max_tokens"),  # 16 tokens where nothing is said
        ("completions", {"max_tokens": 17}, "x" * 65, None),
        ("completions", {"stop": "_"}, "card_arrival", "stop"),
        ("responses", {"max_output_tokens": 2}, "card_arrival", "max_output_tokens"),
        ("responses", {"max_tokens": 2}, "card_arrival", None),  # not its name
        ("responses", {"text": {"format": {"type": "text"}}}, "yes", None),
        ("responses", {"text": {"verbosity": "low"}}, "yes", None),
        ("responses", {"text": {"format": TYPED}}, '{"label": "spam"}', None),
        ("responses", {"text": {"format": TYPED}}, '{"label": "eggs"}', "text"),
        ("responses", {"text": {"format": TYPED}}, "spam", "text"),
        ("responses", {"text": {"format": {"type": "json_object"}}}, "spam", "text"),
        ("messages", {"max_tokens": 2}, "card_arrival", "max_tokens"),
        ("messages", {"max_tokens": 3}, "card_arrival", None),
        ("messages", {"stop_sequences": ["_"]}, "card_arrival", "stop_sequences"),
        ("messages", {"output_config": {"format": TYPED}}, '{"label": "ham"}', None),
        ("messages", {"output_config": {"format": TYPED}}, "ham", "output_config"),
        ("moderations", {}, "x" * 1000, None),
    ],
)
def test_an_answer_must_be_one_that_the_dialects_fields_allow(dialect, fields, content, named):
    assert unfit(fields, content, dialect) == named
