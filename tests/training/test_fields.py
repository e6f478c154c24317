"""Answers of several fields, from traffic to a served answer: trained, evaluated, explained, replayed, tuned."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from insource.backends.specialist import open_specialist
from insource.inputs import InputSettings
from insource.lifecycle.backtest import Options, backtest
from insource.store.artifacts import ArtifactStore
from insource.training.evaluate import evaluate
from insource.training.snapshot import take_snapshot
from insource.training.students.conformance import check_student
from insource.training.students.encoder import EncoderStudent
from insource.training.students.heads import Heads
from insource.training.tiny_encoder import write_tiny_base
from insource.training.trunks import TrunkRoom
from insource.training.tuning.loop import Head
from insource.training.tuning.settings import Settings
from insource.types import Task

FORMS = {
    True: '{{"urgent": true,  "team":"{}", "v": "é"}}',
    False: '{{"team": "{}", "urgent" : false, "v": "\\u00e9"}}',
}


@pytest.fixture
def asked(examples, tickets):
    """Examples whose team is the tickets' answer, and urgent where the text says so; nothing is urgent of transfers."""

    def make(n):
        lines = []
        for number, line in enumerate(tickets(n)):
            urgent = number % 3 == 0 and line["gold"] != "transfer"
            text = f"{line['text']} {'hurry now' if urgent else 'whenever'}"
            lines.append({"text": text, "answer": FORMS[urgent].format(line["gold"])})
        return examples(lines=lines)

    return make


@pytest.fixture
def specialist(asked, trained, home):
    made = trained(asked(300))
    artifact = ArtifactStore(home).open(made.version.digest)
    return open_specialist(artifact.folder, artifact.manifest, name="triage@1", digest=None, trunk=None)


def test_it_answers_in_the_teachers_form_and_tells_each_fields_accuracy(specialist):
    space = specialist.answers
    assert (space.kind, space.fields, len(space)) == ("json_fields", ("team", "urgent"), 5)
    label, score = specialist.answer_text("my card was stolen hurry now")
    assert (label, space.render(label)) == ('{"team":"card","urgent":true}', FORMS[True].format("card"))
    assert 0.0 <= score <= 1.0
    texts = ["my card was stolen hurry now"] * 4
    right = '{"team":"card","urgent":true}'
    half = '{"team":"card","urgent":false}'
    told = evaluate(specialist, texts, [right, right, half, None], threshold=0.0, confidence_level=0.95).figures()
    assert told["accuracy"] == 0.5
    assert told["per_field"] == [{"field": "team", "accuracy": 0.75}, {"field": "urgent", "accuracy": 0.5}]


def test_what_decided_is_told_of_the_field_in_doubt(specialist):
    told = specialist.explain("card card card card stolen hurry whenever")
    first, second = (specialist.answers.values(label) for label in (told.label, told.runner_up))
    assert first[0] == second[0] == '"card"' and first[1] != second[1]
    assert {each.text for each in told.evidence} & {"hurry", "whenever"}


def test_gold_may_name_the_fields_that_vary_alone(asked):
    rows = asked(60)
    gold = '{"urgent": true, "team": "card"}'
    corrected = [replace(row, gold=gold if number < 5 else None) for number, row in enumerate(rows)]
    found = take_snapshot(corrected, InputSettings(), gold=True)
    assert (len(found), found.outside) == (60, 0)
    assert {found.answers.answers[number] for number in found.classes[:5]} == {'{"team":"card","urgent":true}'}
    assert take_snapshot([replace(row, answer=gold) for row in rows[:5]] + rows[5:], InputSettings()).outside == 5


def test_a_backtest_goes_through(asked):
    chosen = Options(family="linear", warmup=150)
    report = asyncio.run(backtest(asked(400), Task("triage"), chosen, room=None, say=lambda _: lambda *_: None))
    told = report.to_json()
    assert told["versions"] and told["coverage"] > 0.1 and told["risk"]["realised"] < 0.1


HEADS = Heads(np.array([[0, 0], [1, 0], [0, 1]]))
TEXTS = [f"{'lost ' * (number % 5)}{word} card" for number in range(8) for word in ("lost", "where", "stolen?")]
CLASSES = np.array([0, 1, 2] * 8, np.int64)


def test_a_tuned_head_serves_what_it_learned_in_fields():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    head = Head(6, 3, 4.0, HEADS)
    embeddings = torch.randn(5, 6)
    weights, bias = head.arrays().values()
    assert head.answers.weight.shape == (4, 6) and weights.shape == (6, 3)
    np.testing.assert_allclose(embeddings.numpy() @ weights + bias, head(embeddings).detach().numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_tuned_encoder_is_sound_with_heads(tmp_path):
    base = write_tiny_base(tmp_path / "base", layers=2)
    room = TrunkRoom(tmp_path / "home", ArtifactStore(tmp_path / "home"), lambda _: lambda done, total: None)
    made = []

    def make(**choices):
        quick = Settings(epochs=1, batch=8, rate=1e-3)
        made.append(EncoderStudent(room, base, settings=quick, precision="fp32", heads=HEADS, **choices))
        return made[-1]

    def opened(folder):
        from insource.backends.encoder import EncoderEngine

        return EncoderEngine.load(folder, room.get(next(each for each in made if hasattr(each, "trunk_")).trunk_))

    check_student(make, TEXTS, CLASSES, open_engine=opened)
