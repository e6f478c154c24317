import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from insource.backends.embedding import MOST_INPUTS, embeddings_reply
from insource.errors import RequestError

SECRET = "patient Ada"


class Counting:
    """A trunk of three numbers: a token for each word, at most five."""

    sentence_dimension = 3

    class Tokens:
        def __init__(self, words):
            self.ids, self.truncated = tuple(range(len(words[:5]))), len(words) > 5

    def tokens(self, text):
        return self.Tokens(text.split())

    def sentence_one(self, text):
        return np.array([len(text), 0.25, -1.0], np.float32)


def ask(trunk=None, **fields):
    return embeddings_reply(trunk or Counting(), fields, "house")


def test_one_text_and_many_are_answered_in_order_with_their_real_tokens():
    reply = json.loads(ask(input=["a b", "c"]))
    assert reply == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [3.0, 0.25, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.25, -1.0]},
        ],
        "model": "house",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert CreateEmbeddingResponse.model_validate(reply).usage.prompt_tokens == 3
    assert json.loads(ask(input="a b"))["data"] == reply["data"][:1]


def test_a_real_trunk_gives_the_same_numbers_in_either_encoding(tiny_trunk):
    texts = ["my card was stolen", "refund"]
    plain = json.loads(ask(tiny_trunk, input=texts, encoding_format="float"))
    length = tiny_trunk.sentence_dimension
    packed = json.loads(ask(tiny_trunk, input=texts, encoding_format="base64", dimensions=length))
    for text, one, other in zip(texts, plain["data"], packed["data"], strict=True):
        unpacked = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        assert np.array_equal(np.array(one["embedding"], np.float32), unpacked)
        assert np.array_equal(unpacked, tiny_trunk.sentence_one(text))
    assert plain["usage"]["prompt_tokens"] == sum(len(tiny_trunk.tokens(text).ids) for text in texts)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"input": None},
        {"input": 7},
        {"input": []},
        {"input": ""},
        {"input": ["x", ""]},
        {"input": [1, 2]},
        {"input": [[1, 2], [3]]},
        {"input": ["x", 7]},
        {"input": "x", "dimensions": 2},
        {"input": "x", "dimensions": 3.0},
        {"input": "x", "dimensions": True},
        {"input": "x", "encoding_format": "int8"},
        {"input": "x", "x_new": 1},
    ],
)
def test_what_the_trunk_cannot_give_is_the_upstreams(fields):
    assert ask(**fields) is None


def test_null_counts_as_not_set():
    assert ask(input="x", dimensions=None, encoding_format=None, user="u", x_new=None) is not None


def test_too_many_texts_are_refused():
    assert ask(input=["x"] * MOST_INPUTS) is not None
    with pytest.raises(RequestError, match="holds 2049 texts; at most 2048"):
        ask(input=["x"] * (MOST_INPUTS + 1))


def test_a_text_longer_than_the_trunk_reads_is_refused_and_not_quoted():
    with pytest.raises(RequestError, match="Text 1 of the request is longer") as caught:
        ask(input=["x", f"{SECRET} 3 4 5 6"])
    assert "Ada" not in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from("input dimensions encoding_format user x".split()),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text() | st.integers(), max_size=3),
    )
)
def test_any_fields_are_answered_left_or_refused(fields):
    try:
        found = ask(**fields)
    except RequestError:
        return
    assert found is None or json.loads(found)["object"] == "list"
