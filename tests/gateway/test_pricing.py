"""The most a request may cost: never less than it can, and nothing where that is not known."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.config import UpstreamConfig
from insource.errors import CostUnknown
from insource.gateway.pricing import claims
from insource.gateway.wire import read
from insource.types import Key, Limits

UP = UpstreamConfig("main", "http://x/v1", price_in=Decimal(2), price_out=Decimal(8))
KEY = Key("k", "k", datetime.now(UTC), "ada", limits=Limits(money=(Decimal(1), "day"), tokens=(1_000, "total")))


def asked(dialect="chat", **fields):
    if dialect == "chat":
        fields = {"messages": [{"role": "user", "content": "hello"}], **fields}
    return read(dialect, "r", json.dumps({"model": "m", **fields}).encode(), {}, "/v1/x")


def most(request, *upstreams, key=KEY):
    return [claim.amount for claim in claims(request, key, upstreams or (UP,))]


def test_a_request_is_bounded_by_its_bytes_and_its_own_bound():
    request = asked(max_tokens=100)
    size = len(request.body)
    assert most(request) == [(size * 2 + 100 * Decimal(8)) / 1_000_000, size + 100]
    assert most(asked(max_tokens=100, n=3))[1] == len(asked(max_tokens=100, n=3).body) + 300
    assert most(asked(max_tokens=5, max_completion_tokens=50))[1] >= 50
    dear = replace(UP, name="dear", price_out=Decimal(80))
    assert most(request, UP, dear)[0] == (size * 2 + 100 * Decimal(80)) / 1_000_000
    assert most(asked("embeddings", input="hello"))[1] == len(asked("embeddings", input="hello").body)
    bounded = replace(UP, max_reply_tokens=40)
    assert most(asked(), bounded)[1] == len(asked().body) + 40


def test_what_the_reader_leaves_in_place_must_be_text():
    many = asked("completions", prompt=["a", "b", [1, 2]], max_tokens=7)
    assert most(many)[1] == len(many.body) + 21
    seen = [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]
    for dialect, fields in (("responses", {"input": seen}), ("responses", {"input": [seen]}),
                            ("responses", {"input": "x", "prompt": {"id": "p"}})):  # fmt: skip
        with pytest.raises(CostUnknown, match="no text"):
            most(asked(dialect, max_output_tokens=5, **fields))


def test_without_a_budget_nothing_is_asked():
    assert claims(asked(), replace(KEY, limits=Limits()), (UP,)) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "sets no bound"),
        ({"max_tokens": "5"}, "no whole number"),
        ({"max_tokens": True}, "no whole number"),
        ({"max_tokens": -1}, "no whole number"),
        ({"max_tokens": 5, "n": 0}, "its n is no whole number"),
        ({"max_tokens": 5, "web_search_options": {}}, "'web_search_options'"),
        ({"max_tokens": 5, "service_tier": "priority"}, "'service_tier'"),
        ({"max_tokens": 5, "previous_response_id": "x"}, "'previous_response_id'"),
        ({"max_tokens": 5, "tools": [{"type": "web_search"}]}, "a tool that the upstream runs"),
        ({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "no text"),
        ({"max_tokens": 5, "messages": "hello"}, "no text"),
        ({"max_tokens": 5, "messages": [{"role": "assistant", "content": None, "audio": {"id": "a"}}]}, "no text"),
        ({"max_tokens": 5, "system": [{"type": "image"}]}, "no text"),
    ],
)
def test_what_has_no_known_bound_is_refused(fields, why):
    with pytest.raises(CostUnknown, match=why):
        most(asked(**fields))


@pytest.mark.parametrize(
    ("upstream", "why"),
    [
        (replace(UP, price_out=None), "prices of upstream 'main' are not set"),
        (replace(UP, currency="EUR"), "in EUR; USD"),
    ],
)
def test_an_unknown_price_is_never_zero(upstream, why):
    with pytest.raises(CostUnknown, match=why):
        most(asked(max_tokens=5), UP, upstream)
    tokens_alone = replace(KEY, limits=Limits(tokens=(1_000, "total")))
    assert len(most(asked(max_tokens=5), upstream, key=tokens_alone)) == 1
