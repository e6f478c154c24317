"""A specialist behind the one contract, and the folders it refuses to open."""

import json
from dataclasses import replace

import numpy as np
import pytest

from insource.answers import learn_answers
from insource.backends.conformance import check_backend
from insource.backends.specialist import SCORE_FILE, open_specialist, write_specialist
from insource.errors import ArtifactDamaged, DataError
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.linear import LinearStudent
from insource.training.students.static import StaticStudent
from insource.training.students.static_lexicon import Lexicon
from insource.types import Message, Request

TEXTS = ["my card was stolen", "card lost again", "where is my refund", "refund not here"] * 8
ANSWERS = ['{"label": "Card"}', '{"label": "Card"}', '{"label": "Refund"}', '{"label": "Refund"}'] * 8


def asking(text, number=0):
    return Request(f"r{number}", (Message("user", text),))


@pytest.fixture(params=["linear", "static", "encoder-frozen"])
def stored(request, tmp_path, tiny_trunk):
    space = learn_answers(ANSWERS)
    classes = np.array([space.index(space.normalise(answer)) for answer in ANSWERS])
    student = {
        "linear": LinearStudent,
        "static": lambda: StaticStudent(Lexicon(("card", "refund"), (), np.eye(2, 4, dtype=np.float32))),
        "encoder-frozen": lambda: EncoderFrozenStudent(tiny_trunk, lambda texts, _: tiny_trunk.embed(texts)),
    }[request.param]()
    alone = request.param in ("linear", "static")
    prepared, rows = student.prepare(TEXTS), np.arange(len(TEXTS))
    student.fit(prepared, rows, classes, 2)
    scorer = Scorer.fit(student.probabilities(prepared, rows), rows % 5 > 0)
    told = student.to_artifact(tmp_path)
    manifest = write_specialist(tmp_path, task="triage", family=request.param, model=told, scorer=scorer, answers=space,
                                inputs=InputSettings(), trunk=None if alone else "0" * 64)  # fmt: skip
    return tmp_path, json.loads(json.dumps(manifest))


@pytest.fixture
def opened(stored, tiny_trunk):
    folder, manifest = stored
    return lambda: open_specialist(folder, manifest, name="triage@1", digest="d" * 64, trunk=lambda _: tiny_trunk)


async def test_it_is_a_sound_backend(opened):
    await check_backend(opened, [asking(text, number) for number, text in enumerate(TEXTS[:4])])


async def test_an_answer_is_written_as_the_teacher_writes_it(opened):
    async with opened() as specialist:
        answer = await specialist.answer(asking("my card was stolen"))
    assert (answer.content, answer.label, answer.served_by) == ('{"label": "Card"}', '"Card"', "specialist:triage@1")
    assert 0.0 <= answer.score <= 1.0 and answer.seconds["specialist"] >= 0.0 and answer.decision is None
    assert specialist.info.digest == "d" * 64


async def test_a_moderation_alone_is_given_every_answers_probability(opened):
    async with opened() as specialist:
        plain = await specialist.answer(asking("my card was stolen"))
        judged = await specialist.answer(replace(asking("my card was stolen"), dialect="moderations"))
    assert plain.probabilities is None
    assert (judged.label, judged.score, judged.content) == (plain.label, plain.score, plain.content)
    assert tuple(judged.probabilities) == specialist.answers.answers
    assert sum(judged.probabilities.values()) == pytest.approx(1.0)
    assert max(judged.probabilities, key=judged.probabilities.get) == judged.label


async def test_many_one_and_text_say_the_same(opened):
    specialist = opened()
    texts = [*TEXTS[:4], "zzz", "x" * 30_000]
    many = await specialist.answer_many([asking(text) for text in texts])
    for text, answer in zip(texts, many, strict=True):
        alone = await specialist.answer(asking(text))
        assert (alone.label, alone.score) == (answer.label, answer.score) == specialist.answer_text(text[:20_000])
    probabilities = specialist.probabilities(texts[:4])
    assert specialist.scores(probabilities).tolist() == [answer.score for answer in many[:4]]


@pytest.mark.parametrize("content", [None, " ", ({"type": "image_url"},)])
async def test_a_request_without_text_is_refused(opened, content):
    with pytest.raises(DataError, match="Request r0 has no text that specialist:triage@1 could read; send it upstream"):
        await opened().answer(Request("r0", (Message("user", content),)))


def test_it_explains_the_first_against_the_second(opened):
    explained = opened().explain("my card was stolen")
    assert {explained.label, explained.runner_up} == {'"Card"', '"Refund"'}
    assert explained.probability >= explained.runner_up_probability and explained.evidence
    assert (explained.label, explained.score) == opened().answer_text("my card was stolen")


@pytest.mark.parametrize(
    "change",
    [
        {"family": "decoder"},
        {"answers": {}},
        {"answers": None},
        {"inputs": {"messages": "none", "max_characters": 5}},
        {"inputs": []},
        {"family": "two-tier", "trunk": None},
    ],
)
def test_a_manifest_that_is_none_is_refused(stored, tiny_trunk, change):
    folder, manifest = stored
    with pytest.raises(ArtifactDamaged, match="Train the version again"):
        open_specialist(folder, {**manifest, **change}, name="x", digest=None, trunk=lambda _: tiny_trunk)


@pytest.mark.parametrize("missing", ["family", "answers", "inputs", "trunk"])
def test_a_manifest_that_lacks_a_part_is_refused(stored, tiny_trunk, missing):
    folder, manifest = stored
    cut = {key: value for key, value in manifest.items() if key != missing}
    with pytest.raises(ArtifactDamaged, match=f"KeyError: '{missing}'"):
        open_specialist(folder, cut, name="x", digest=None, trunk=lambda _: tiny_trunk)


@pytest.mark.parametrize("data", [None, b"", b"\xff" * 40])
def test_a_scorer_that_cannot_be_read_is_refused(stored, tiny_trunk, data):
    folder, manifest = stored
    (folder / SCORE_FILE).unlink() if data is None else (folder / SCORE_FILE).write_bytes(data)
    with pytest.raises(ArtifactDamaged, match="is no specialist that can be served"):
        open_specialist(folder, manifest, name="x", digest=None, trunk=lambda _: tiny_trunk)


def test_more_answers_than_the_model_has_are_refused(stored, tiny_trunk):
    """A sound model under a manifest that names another number of answers would render the wrong ones."""
    folder, manifest = stored
    more = learn_answers([*ANSWERS, *['{"label": "Login"}'] * 8]).to_json()
    with pytest.raises(ArtifactDamaged, match="the model has 2 answers, the scorer 2, the manifest 3"):
        open_specialist(folder, {**manifest, "answers": more}, name="x", digest=None, trunk=lambda _: tiny_trunk)
