"""The most a request may cost: never less than it can, and nothing where that is not known."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from insource.config import UpstreamConfig
from insource.errors import CostUnknown
from insource.gateway.pricing import claims, spent
from insource.gateway.taken import Taken
from insource.gateway.wire import read
from insource.types import Key, Limits, Settlement, Usage

UP = UpstreamConfig("main", "http://x/v1", price_in=Decimal(2), price_out=Decimal(8))
KEY = Key("k", "k", datetime.now(UTC), "ada", limits=Limits(money=(Decimal(1), "day"), tokens=(1_000, "total")))


def asked(dialect="chat", **fields):
    if dialect in ("chat", "messages"):
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


ANY = {"chat": {}, "completions": {"prompt": "x"}, "messages": {}, "responses": {"input": "x"}}
OWN = {
    "chat": ("max_tokens", "max_completion_tokens"),
    "completions": ("max_tokens",),
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
}
PAIRS = [
    (dialect, name) for dialect in OWN for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "name"), PAIRS)
def test_a_bound_is_one_in_its_own_dialect_only(dialect, name):
    request = asked(dialect, **ANY[dialect], **{name: 1})
    size, bounded = len(request.body), replace(UP, max_reply_tokens=40)
    if name in OWN[dialect]:
        assert most(request)[1] == most(request, bounded)[1] == size + 1
    else:
        with pytest.raises(CostUnknown, match="sets no bound"):
            most(request)
        assert most(request, bounded)[1] == size + 40
        both = asked(dialect, **ANY[dialect], **{OWN[dialect][0]: 1, name: 7})
        assert most(both)[1] == len(both.body) + 7  # the larger, whichever the upstream reads


def test_tokens_of_a_reply_that_is_not_whole_settle_nothing():
    told = Settlement("r", datetime.now(UTC), 200, "main", 1.0, usage=Usage(10, 1), cost=Decimal("0.01"))
    assert spent(told, replied=True, whole=True, attempts=1) == {"tokens": Decimal(11), "money": Decimal("0.01")}
    assert spent(told, replied=True, whole=False, attempts=1) == {}


FAILED = Settlement("r", datetime.now(UTC), 500, "main", 1.0)


def test_a_failure_gives_all_back_unless_another_attempt_may_have_been_billed():
    assert spent(FAILED, replied=True, whole=True, attempts=1) == {"money": 0, "tokens": 0}
    assert spent(FAILED, replied=True, whole=True, attempts=2) == {}
    assert spent(FAILED, replied=False, whole=False, attempts=1) == {}
    resting = replace(FAILED, status=503, detail="upstream_resting")
    assert spent(resting, replied=False, whole=False, attempts=None) == {"money": 0, "tokens": 0}


def test_what_was_reserved_stays_where_the_failure_followed_another_attempt():
    told = []

    class Told:
        def settle(self, ticket, spent):
            told.append((ticket, dict(spent)))

    for attempts in (1, 2):
        Taken(Told(), attempts).settle(FAILED, replied=True, whole=True, attempts=attempts)
    assert told == [(1, {"money": 0, "tokens": 0}), (2, {})]


SPOKEN = b'{"model":"m","max_tokens":5,"messages":[{"role":"assistant",%b},{"role":"user","content":"x"}]}'


@pytest.mark.parametrize(
    "said",
    [
        b'"audio":{"id":"audio_1"}',
        b'"content":"hi","audio":{"id":"audio_1"}',
        b'"\\u0061udio":{"id":"audio_1"}',
        b'"content":"hi","aud\\u0069o":{"id":"audio_1"}',
        b'"content":"\\ud83d","audio":{"id":"audio_1"}',
    ],
)
def test_a_sound_of_an_earlier_reply_has_no_known_bound(said):
    with pytest.raises(CostUnknown, match="a sound"):
        most(read("chat", "r", SPOKEN % said, {}, "/v1/x"))


@pytest.mark.parametrize("said", [b'"content":"\\"audio\\":"', b'"content":"hi","audio":null', b'"content":"audio"'])
def test_text_that_speaks_of_sounds_is_text(said):
    body = SPOKEN % said
    assert most(read("chat", "r", body, {}, "/v1/x"))[1] == len(body) + 5


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
