"""A whole run of family encoder, from examples to a registered version, with a tiny base model and real torch."""

import pytest

from insource.backends.specialist import open_specialist
from insource.errors import DataError, UserError
from insource.store import held_out
from insource.store.artifacts import ArtifactStore
from insource.training import teacher as teachers
from insource.training.encoder_weights import read_shape
from insource.training.recipe import Recipe
from insource.training.split_rows import split_rows
from insource.training.tiny_encoder import write_tiny_base
from insource.training.trunks import TrunkRoom
from insource.training.tuning.settings import Settings

QUICK = Settings(epochs=2, batch=16, rate=1e-3)


@pytest.fixture
def recipe(tmp_path):
    write_tiny_base(tmp_path / "tiny", layers=3)
    chosen = {"family": "encoder", "base": str(tmp_path / "tiny"), "tuning": QUICK, "precision": "fp32"}
    return lambda **choices: chosen | choices


def test_it_is_certified_on_rows_that_it_never_saw(trained, examples, recipe, home):
    made = trained(examples(400), **recipe())
    version, split = made.version, split_rows(made.snapshot, Recipe(**recipe(method="strict")), 400, 0)
    assert (version.family, version.calibration.method) == ("encoder", "strict")
    assert made.figures.rows == (len(split.learn), len(split.calibrate), len(split.test))
    assert version.calibration.rows == len(split.calibrate) > 40
    assert version.lineage["precision"] == "fp32" and "epoch" in version.lineage["why"]
    artifact = ArtifactStore(home).open(version.digest)
    told = artifact.manifest["model"]
    assert len(told["epochs"]) == 2 and told["dimension"] == 32
    room = TrunkRoom(home, ArtifactStore(home), lambda _: lambda done, total: None)
    assert room.encoder_of(artifact.manifest["trunk"]) == told["encoder"]
    assert read_shape(room.kept(told["encoder"]).folder).layers == 3


def test_what_it_was_tuned_on_certifies_no_tier(trained, examples, recipe, home):
    made = trained(examples(400), **recipe())
    split = split_rows(made.snapshot, Recipe(**recipe(method="strict")), 400, 0)
    texts = [made.snapshot.texts[i] for i in split.learn]
    recalled = held_out.recall(home, made.version.digest, texts)
    answers = [made.snapshot.answers.answers[made.snapshot.classes[i]] for i in split.learn]
    sure = [found == (answer, 1.0) for found, answer in zip(recalled, answers, strict=True)]
    assert None not in recalled and 0.7 < sum(sure) / len(sure) < 1.0


def test_the_same_recipe_gives_the_same_version(trained, examples, recipe):
    one, two = trained(examples(200), **recipe()), trained(examples(200), **recipe())
    other = trained(examples(200), **recipe(seed=1))
    assert one.version.digest == two.version.digest != other.version.digest
    assert (one.version.version, two.version.version) == (1, 2)


def test_nothing_is_set_aside_without_a_certificate(trained, examples, recipe):
    made = trained(examples(200), **recipe(method="none"))
    assert made.version.calibration is None and made.figures.rows == (200, 0, 0)


@pytest.mark.parametrize("family", ["encoder", "linear"])
def test_a_student_is_smaller_than_its_teacher(trained, examples, recipe, home, family):
    method = "strict" if family == "linear" else "cross-fit"
    first = trained(examples(300), **(recipe() if family == "encoder" else {"method": method}))
    rows = examples(300)
    made = trained(rows, **recipe(teacher=1, layers=1, small_vocabulary=True))
    assert made.version.lineage["recipe"]["teacher"] == first.version.version == 1
    store = ArtifactStore(home)
    room = TrunkRoom(home, store, lambda _: lambda done, total: None)
    artifact = store.open(made.version.digest)
    own = room.kept(artifact.manifest["model"]["encoder"])
    assert read_shape(own.folder).layers == 1
    specialist = open_specialist(artifact.folder, artifact.manifest, name="t", digest=None, trunk=room.get)
    assert specialist.answer_text(rows[0].request.messages[-1].content)[0] in made.snapshot.answers.answers


def test_a_teacher_that_saw_the_evidence_must_not_teach(trained, examples, recipe):
    trained(examples(200), family="linear")
    with pytest.raises(UserError, match=r"triage@1 learned from \d+ of the \d+ rows that are to certify"):
        trained(examples(200), **recipe(teacher=1))
    trained(examples(200), **recipe(teacher=1, method="none"))


def test_a_teacher_of_another_file_must_not_teach(trained, examples, recipe):
    trained(examples(200), method="strict")
    with pytest.raises(UserError, match="learned from another file"):
        trained(examples(210), **recipe(teacher=1))


def test_the_guard_on_teachers_is_what_refuses(trained, examples, recipe, monkeypatch):
    trained(examples(200), family="linear")
    monkeypatch.setattr(teachers.Teacher, "check", lambda *_: None)
    assert trained(examples(200), **recipe(teacher=1)).version.version == 2


def test_more_layers_than_there_are_is_refused(trained, examples, recipe):
    with pytest.raises(UserError, match="--layers is 7; 1 to 3 was expected, which tiny has"):
        trained(examples(200), **recipe(layers=7))


@pytest.mark.parametrize(
    ("chosen", "option"),
    [
        ({"layers": 2}, "--layers"), ({"teacher": 1}, "--teacher-version"), ({"tuning": QUICK}, "--epochs or --rate"),
        ({"small_vocabulary": True}, "--small-vocabulary"),
    ],
)  # fmt: skip
def test_what_only_a_tuned_encoder_knows_is_refused_of_others(trained, examples, chosen, option):
    with pytest.raises(UserError, match=f"{option} is for a tuned encoder, and the family is 'linear'"):
        trained(examples(200), family="linear", **chosen)


def test_a_recipe_comes_back_from_its_lineage(trained, examples, recipe):
    made = trained(examples(200), **recipe(layers=2))
    assert Recipe.of_lineage(made.version.lineage["recipe"]) == Recipe(**recipe(layers=2, method="strict"))
    assert Recipe.of_lineage({"family": "linear", "of another age": 1}) == Recipe("linear")
    told = {"family": "encoder", "tuning": {"epochs": 3, "of another age": 1}}
    assert Recipe.of_lineage(told) == Recipe("encoder", tuning=Settings(epochs=3))


def test_too_few_rows_or_answers_are_told(trained, examples, recipe):
    with pytest.raises(DataError, match=r"rows with \d answers are left to learn from"):
        trained(examples(16), **recipe())
