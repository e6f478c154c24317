import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.errors import UpstreamError
from insource.policy.rename import for_upstream, replace_model
from insource.types import Request

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON), st.booleans())
def test_only_the_model_changes_and_the_order_stays(fields, ascii_only):
    fields = {**fields, "model": "task:triage"}
    renamed = json.loads(replace_model(json.dumps(fields, ensure_ascii=ascii_only).encode(), "gpt-4o"))
    assert renamed == {**fields, "model": "gpt-4o"}
    assert list(renamed) == list(fields)


def test_other_values_keep_their_bytes():
    body = b'{ "model": "task:x", "t": 1.50, "m": [ {"role":"user", "content":"\\u00e9 \xc3\xa9"} ], "seed": 1e3}'
    renamed = replace_model(body, "m")
    assert b"1.50" in renamed and b'[ {"role":"user", "content":"\\u00e9 \xc3\xa9"} ]' in renamed and b"1e3" in renamed


@pytest.mark.parametrize("text", ["\ud83d", "a \udc00 b"])
def test_half_a_surrogate_pair_goes_up_as_it_came(text):
    fields = {"model": "task:x", text: 1.5, "messages": [{"role": "user", "content": text}]}
    assert json.loads(replace_model(json.dumps(fields).encode(), "m")) == {**fields, "model": "m"}


def test_a_real_model_is_left_alone():
    request = Request("r", (), "gpt-4o", body=b'{ "model" : "gpt-4o" }')
    assert for_upstream(request, "other") is request


def test_a_task_without_an_upstream_model_cannot_go_up():
    with pytest.raises(UpstreamError, match="'task:x' and must go up, but no upstream model is configured"):
        for_upstream(Request("r", (), "task:x"), None)
