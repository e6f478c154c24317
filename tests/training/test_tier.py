"""Certifying a tier in the house, from a file to a registered candidate; what was asked is never asked again."""

import asyncio
import json
import stat
from datetime import UTC, datetime
from random import Random

import numpy as np
import pytest

from insource.backends.house_tier import behind, open_house_tier
from insource.backends.scripted import Scripted
from insource.backends.specialist import open_specialist
from insource.errors import DataError, KeptLocal, UpstreamError, UpstreamUnreachable
from insource.policy.egress import Egress
from insource.store import held_out
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.tier import Before, House, train_tier
from insource.types import Answer, Message, Relay, Request, Sensitivity, Stage, Task

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TASK = Task("triage", tiers=("house",))
LEAVES_SOME = {"noise": 0.02, "told": 0.2}


class Server(Scripted):
    """A model server that knows the gold answers, is wrong about some, and then says so by its log-probabilities."""

    def __init__(self, lines, *, wrong=0.1, names=True, fail_after=None, says=None):
        super().__init__({}, name="house")
        self.gold = {line["text"]: line["gold"] for line in lines}
        self.wrong, self.names, self.fail_after, self.says = wrong, names, fail_after, says
        self.texts, self.running, self.most = [], 0, 0

    async def answer(self, request):
        if self.fail_after is not None and len(self.texts) >= self.fail_after:
            raise UpstreamUnreachable("The upstream 'house' cannot be reached.")
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        asked = json.loads(request.body)
        text = asked["messages"][-1]["content"]
        self.texts.append(text)
        chance = Random(text)
        mistaken = chance.random() < self.wrong
        answer = next(name for name in ("card", "refund") if name != self.gold[text]) if mistaken else self.gold[text]
        logprob = -chance.uniform(0.5, 2.0) if mistaken else -chance.uniform(0.0, 0.6)
        choice = {"message": {"content": self.says or answer}, "finish_reason": "stop"}
        if self.names:
            choice["logprobs"] = {"content": [{"logprob": logprob}]}
        body = json.dumps({"choices": [choice]}).encode()

        async def send():
            yield body

        async def close():
            return None

        return Answer("house", relay=Relay(200, (("content-type", "application/json"),), send(), close))


@pytest.fixture
def certified(home, say):
    """Certifies a server as the tier of a task, behind what is active; returns the outcome."""

    async def run(examples, server, *, task=TASK, before=None, rate=lambda _: Sensitivity.INTERNAL, **more):
        with Registry.open(home) as registry:
            house, before = House("house", "qwen", server), before or Before()
            return await train_tier(examples, task, house, before=before, rate=rate, home=home, registry=registry,
                                    artifacts=ArtifactStore(home), say=say, now=lambda: NOON, **more)  # fmt: skip

    return run


@pytest.fixture
def active(home):
    """Promotes a trained version and opens it."""

    def promote(trained):
        with Registry.open(home) as registry:
            version = registry.promote("triage", trained.version.version, "tester", "test", NOON)
        artifact = ArtifactStore(home).open(version.digest)
        return version, open_specialist(artifact.folder, artifact.manifest, name=version.name, digest=version.digest,
                                        trunk=None)  # fmt: skip

    return promote


async def test_a_tier_alone_is_certified_on_all_rows(certified, examples, tickets, home):
    lines = tickets(600, **LEAVES_SOME)
    done = await certified(examples(lines=lines), Server(lines))
    version, calibration = done.version, done.version.calibration
    assert (version.name, version.family, version.stage) == ("triage/house@1", "house", Stage.CANDIDATE)
    assert calibration.rows == done.figures.reaching == 600 and version.lineage["behind"] == []
    assert 0.3 < calibration.coverage < 1.0 and calibration.risk_upper_bound <= 0.05
    told = done.to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told and told["calibration"]["method"] == "tier"
    artifact = ArtifactStore(home).open(version.digest)
    async with Server(lines) as server:
        tier = open_house_tier(artifact.folder, artifact.manifest, name=version.name, digest="d", upstream=server)
        answers = [await tier.answer(Request("r", (Message("user", line["text"]),))) for line in lines]
    accepted = [answer.score >= calibration.threshold for answer in answers]
    assert sum(accepted) == calibration.accepted  # what was certified is what is served
    wrong = [a.label != line["answer"] for a, line, taken in zip(answers, lines, accepted, strict=True) if taken]
    assert sum(wrong) == calibration.errors


async def test_behind_a_specialist_only_what_it_escalates_is_asked(certified, active, trained, examples, tickets, home):
    lines = tickets(900, **LEAVES_SOME)
    version, specialist = active(trained(examples(lines=lines)))
    server = Server(lines)
    done = await certified(examples(lines=lines), server, before=Before((version, specialist)))
    texts = [line["text"] for line in lines]
    recalled = held_out.recall(home, version.digest, texts)
    said = [found or one for found, one in zip(recalled, specialist.answer_texts(texts), strict=True)]
    left = {text for text, (_, score) in zip(texts, said, strict=True) if score < version.calibration.threshold}
    assert set(server.texts) == left and 50 < len(left) < 900
    assert done.version.lineage["behind"] == behind([version]) != []
    assert done.figures.recalled == sum(found is not None for found in recalled) > 600
    in_sample = sum(score < version.calibration.threshold for _, score in specialist.answer_texts(texts))
    assert in_sample < len(left)  # of rows it learned from it is surer than it will be again


async def test_a_second_tier_is_certified_behind_the_first(certified, examples, tickets, home):
    lines = tickets(600, **LEAVES_SOME)
    first = await certified(examples(lines=lines), Server(lines))
    artifact = ArtifactStore(home).open(first.version.digest)
    server = Server(lines)
    opened = open_house_tier(artifact.folder, artifact.manifest, name="triage/house@1", digest="d", upstream=server)
    other = Server(lines, wrong=0.0)
    other._name = "other"
    done = await certified(examples(lines=lines), other, before=Before(None, ((first.version, opened),)))
    assert not server.texts  # its answers were kept
    assert done.figures.reaching == 600 - first.version.calibration.accepted == len(other.texts)
    assert done.version.lineage["behind"] == behind([first.version])


async def test_a_run_that_breaks_off_loses_nothing(certified, examples, tickets, home, kept):
    lines = tickets(80)
    first = Server(lines, fail_after=30)
    with pytest.raises(UpstreamUnreachable):
        await certified(examples(lines=lines), first)
    assert not kept().versions and 30 <= len(first.texts) < 80
    (path,) = (home / "cache" / "tiers").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    asked = len(path.read_bytes().splitlines())
    with path.open("ab") as file:
        file.write(b'{"key":"cut off')
    second = Server(lines)
    await certified(examples(lines=lines), second)
    assert len(second.texts) == 80 - asked and not set(second.texts) & set(first.texts[:asked])
    third = Server(lines)
    assert (await certified(examples(lines=lines), third)).version.version == 2 and not third.texts


async def test_at_most_four_are_asked_at_once_and_equal_requests_once(certified, examples, tickets):
    lines = tickets(40)
    server = Server(lines)
    done = await certified(examples(lines=lines + lines), server)
    assert server.most == 4 and len(server.texts) == 40 and done.figures.reaching == 80


async def test_a_server_without_log_probabilities_is_certified_on_half(certified, examples, tickets):
    lines = tickets(400)
    done = await certified(examples(lines=lines), Server(lines, wrong=0.01, names=False))
    assert done.figures.score == "answer" and 150 < done.version.calibration.rows < 250
    assert any("names no log-probabilities" in note for note in done.notes)


async def test_replies_outside_the_set_are_counted_and_certify_nothing(certified, examples, tickets):
    lines = tickets(60)
    done = await certified(examples(lines=lines), Server(lines, says="It depends."), task=Task("triage"))
    assert done.figures.outside == 60 and done.version.calibration.threshold is None
    assert any("60 of 60 replies lie outside" in note for note in done.notes)
    assert any("add 'house' to its tiers" in note for note in done.notes)


async def test_what_the_policy_keeps_from_the_house_is_not_asked(certified, examples, tickets):
    lines = tickets(40)
    server = Server(lines)
    allowed = frozenset({Sensitivity.PUBLIC, Sensitivity.INTERNAL})
    with pytest.raises(KeptLocal):
        await certified(examples(lines=lines), Egress(server, allowed), rate=lambda _: Sensitivity.RESTRICTED)
    assert not server.texts
    await certified(examples(lines=lines), Egress(server, allowed))
    assert len(server.texts) == 40


async def test_too_little_says_what_is_missing(certified, examples, tickets):
    lines = tickets(9)
    with pytest.raises(DataError, match="9 of 9 requests .* at least 10 were expected"):
        await certified(examples(lines=lines), Server(lines))
    with pytest.raises(DataError, match="None of 1 requests has both"):
        await certified(examples(lines=[{"text": "x"}]), Server(lines))


async def test_a_status_that_is_no_answer_stops_the_run(certified, examples, tickets):
    class Busy(Server):
        async def answer(self, request):
            answer = await super().answer(request)
            relay = answer.relay
            return Answer("house", relay=Relay(503, relay.headers, relay.chunks, relay.close))

    lines = tickets(40)
    with pytest.raises(UpstreamError, match="answered with status 503"):
        await certified(examples(lines=lines), Busy(lines))


def test_what_was_held_out_is_kept_and_recalled(trained, examples, home):
    done = trained(examples(300))
    found = held_out.recall(home, done.version.digest, [*done.snapshot.texts, "never seen"])
    scores = np.array([each[1] for each in found if each is not None])
    assert len(scores) == done.figures.rows[0] and found[-1] is None
    assert (scores >= done.version.calibration.threshold).sum() == done.version.calibration.accepted
    assert held_out.recall(home, "0" * 64, ["x"]) == [None]
    assert not any("stolen" in path.read_text() for path in (home / "held-out").iterdir())
