"""A tier in the house behind the one contract: what it sends, what it reads, and the manifests it refuses."""

import json
import math

import pytest

from insource.answers import learn_answers
from insource.backends.conformance import check_backend
from insource.backends.contract import BackendInfo
from insource.backends.house_tier import (
    HouseTier,
    TierScore,
    house_request,
    open_house_tier,
    write_house_tier,
)
from insource.backends.scripted import Scripted
from insource.errors import ArtifactDamaged, InsourceError, UpstreamError
from insource.inputs import InputSettings
from insource.types import Answer, Message, Relay, Request

SPACE = learn_answers(["Card", "Refund"] * 8)
RISING = TierScore("probability", 2.0, -1.0)


class House(Scripted):
    """A server that says what it was told, with the log-probabilities given, as bytes in two pieces."""

    def __init__(self, content="card.", logprobs=(-0.1, -0.2), status=200, body=None):
        super().__init__({}, name="house")
        self.content, self.logprobs, self.status, self.body = content, logprobs, status, body
        self.received = []
        self.closed = 0

    async def answer(self, request):
        self.received.append(request)
        logprobs = None
        if self.logprobs is not None:
            logprobs = {"content": [{"token": "x", "logprob": each} for each in self.logprobs]}
        choice = {"index": 0, "message": {"content": self.content}, "logprobs": logprobs, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}).encode()
        body = self.body if self.body is not None else body

        async def send():
            yield body[:9]
            yield body[9:]

        async def close():
            self.closed += 1

        return Answer("house", relay=Relay(self.status, (("content-type", "application/json"),), send(), close))


def tier(house, score=RISING):
    return HouseTier("triage/house@1", house, "qwen", SPACE, score, "d" * 64)


def ask(body=None, **more):
    body = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    more = {"body": body, **more}
    return Request("r1", (Message("system", "Sort."), Message("user", "lost it")), "task:triage", **more)


async def test_it_is_a_sound_backend():
    async with House() as house:
        await check_backend(lambda: tier(house), [ask(), ask()])


async def test_an_answer_is_rendered_and_scored_by_the_probability_of_its_tokens():
    async with House() as house, tier(house) as t:
        answer = await t.answer(ask())
    p = math.exp(-0.1 - 0.2)
    assert (answer.content, answer.label, answer.served_by) == ("Card", "card", "tier:triage/house@1")
    assert answer.score == pytest.approx(1 / (1 + math.exp(-(2.0 * math.log(p / (1 - p)) - 1.0))))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 2) and house.closed == 1
    assert t.info == BackendInfo("tier:triage/house@1", "d" * 64) and "tier" in answer.seconds


@pytest.mark.parametrize(("content", "logprobs", "said"), [
    ("I cannot say.", (-0.1,), (None, None, None)),
    (None, (-0.1,), (None, None, None)),
    ("card", None, ("Card", "card", None)),
    ("card", (), ("Card", "card", None)),
    ("card", (-0.1, 0.7), ("Card", "card", None)),  # no probability lies above one
])  # fmt: skip
async def test_what_cannot_be_scored_has_no_score(content, logprobs, said):
    async with House(content, logprobs) as house, tier(house) as t:
        answer = await t.answer(ask())
    assert (answer.content, answer.label, answer.score) == said


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices":[]}', b"<html>", b'{"choices":[{"logprobs":3}]}'])
async def test_a_reply_of_another_form_is_outside(body):
    async with House(body=body) as house, tier(house) as t:
        answer = await t.answer(ask())
    assert (answer.content, answer.score) == (None, None)


async def test_without_log_probabilities_the_answer_itself_is_scored():
    score = TierScore("answer", rates=(0.97, 0.4))
    async with House("refund", None) as house, tier(house, score) as t:
        assert (await t.answer(ask())).score == 0.4


async def test_a_failing_server_is_an_upstream_error_and_a_closed_tier_says_so():
    async with House(status=503) as house, tier(house) as t:
        with pytest.raises(UpstreamError, match="got status 503"):
            await t.answer(ask())
    assert house.closed == 1
    with pytest.raises(InsourceError, match="is closed"):
        await t.answer(ask())
    with pytest.raises(UpstreamError, match="closed"):
        async with tier(Scripted({}, name="house")) as t:
            await t.answer(ask())


def test_only_what_must_be_is_rewritten():
    body = b'{"model": "task:triage", "messages": [{"role":"user","content":"\\u00e9"}], "temperature": 0.50,' \
           b'"stream": true, "stream_options": {"include_usage": true}, "seed": 12345678901234567890}'  # fmt: skip
    asked = house_request(
        ask(stream=True, headers={"authorization": "Bearer secret", "x-insource-task": "t"}, path="/v1/x", body=body),
        "qwen",
    )
    assert (asked.model, asked.path, asked.method, asked.stream, asked.dialect) == (
        "qwen", "/v1/chat/completions", "POST", False, "chat")  # fmt: skip
    assert dict(asked.headers) == {"content-type": "application/json"}
    assert b'"messages":[{"role":"user","content":"\\u00e9"}]' in asked.body and b'"temperature":0.50' in asked.body
    assert b'"seed":12345678901234567890' in asked.body
    told = json.loads(asked.body)
    assert (told["model"], told["stream"], told["logprobs"]) == ("qwen", False, True)
    assert set(told) == {"model", "messages", "temperature", "seed", "stream", "logprobs"}


def test_a_request_without_a_body_or_of_another_dialect_is_written_anew():
    wire = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "lost it"}]
    told = json.loads(house_request(ask(fields={"stop": "x", "temperature": 0}), "qwen").body)
    assert (told["messages"], told["stop"], told["temperature"]) == (wire, "x", 0)
    other = ask({"system": "Sort.", "max_tokens": 5}, dialect="messages", path="/v1/messages",
                fields={"max_tokens": 5, "temperature": 0.2})  # fmt: skip
    told = json.loads(house_request(other, "qwen").body)
    assert told["messages"] == wire and told["temperature"] == 0.2 and "max_tokens" not in told


async def test_a_body_that_is_no_object_is_refused_without_a_word_of_it():
    async with House() as house, tier(house) as t:
        with pytest.raises(InsourceError) as raised:
            await t.answer(ask(body=b"[secret]"))
    assert "secret" not in str(raised.value) and not house.received


def manifest(**changes):
    made = write_house_tier(task="triage", tier="house", model="qwen", answers=SPACE, inputs=InputSettings(),
                            score=RISING)  # fmt: skip
    return {**json.loads(json.dumps(made)), **changes}


async def test_a_manifest_opens_as_it_was_written(tmp_path):
    async with House() as house:
        t = open_house_tier(tmp_path, manifest(), name="triage/house@1", digest="d", upstream=house)
        assert (t.model, t.score, t.answers) == ("qwen", RISING, SPACE)
        rates = TierScore("answer", rates=(0.9, 0.1))
        t = open_house_tier(tmp_path, manifest(score=rates.to_json()), name="x", digest="d", upstream=house)
        assert t.score == rates


@pytest.mark.parametrize("change", [
    {"family": "linear"}, {"model": {"name": ""}}, {"model": "qwen"}, {"answers": {}}, {"score": {}}, {"score": None},
    {"score": TierScore("answer", rates=(0.9,)).to_json()}, {"score": TierScore("probability", -1.0).to_json()},
    {"score": TierScore("other").to_json()}, {"score": {**RISING.to_json(), "slope": 1e9}},
])  # fmt: skip
def test_a_damaged_manifest_is_refused(tmp_path, change):
    with pytest.raises(ArtifactDamaged, match="insource train --tier"):
        open_house_tier(tmp_path, manifest(**change), name="x", digest="d", upstream=House())


def test_the_score_never_turns_two_answers_round():
    scores = [RISING.of(0, p) for p in (0.0, 1e-12, 0.1, 0.5, 0.9, 0.999999, 1.0)]
    assert scores == sorted(scores) and all(0.0 <= score <= 1.0 for score in scores)
    assert RISING.of(0, None) is None
