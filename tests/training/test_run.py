"""A whole run from examples to a registered candidate, in a home of its own; nothing stored is ever lost."""

import errno
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from insource.backends.onnx import Trunks
from insource.backends.specialist import open_specialist
from insource.errors import DataError, OpenEndedAnswers, StoreFull, UserError
from insource.inputs import InputSettings
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.store.snapshots import read_snapshot
from insource.training.develop import guards_of
from insource.training.recipe import Recipe
from insource.training.run import _precision, train
from insource.training.snapshot import take_snapshot
from insource.training.split_rows import split_rows
from insource.types import Require, Stage, Task

from .conftest import embedded

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEYS = {"task", "version", "family", "digest", "artifact", "rows", "skipped", "unlabelled", "textless", "outside",
        "test", "calibration", "size_bytes", "latency_ms", "seconds", "why", "precision", "label_noise",
        "notes"}  # fmt: skip
MEASURED = ("seconds", "latency_ms", "artifact")


def figures(trained):
    return {key: value for key, value in trained.to_json().items() if key not in MEASURED}


def served(home, version):
    store = ArtifactStore(home)
    artifact = store.open(version.digest)
    trunks = Trunks(lambda digest: store.open(digest).folder)
    return open_specialist(artifact.folder, artifact.manifest, name="x", digest=None, trunk=trunks.get)


def test_a_candidate_is_certified_measured_and_registered(trained, examples, home, kept):
    done = trained(examples(600, noise=0.02))
    told = done.to_json()
    assert set(told) == KEYS and json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["task"], told["version"], told["family"]) == ("triage", 1, "linear")
    assert told["rows"]["train"] + told["rows"]["test"] == 600 and told["rows"]["calibration"] == told["rows"]["train"]
    assert 60 < told["rows"]["test"] < 120
    assert told["test"]["accuracy"] > 0.9
    assert told["calibration"]["threshold"] is not None and told["calibration"]["risk_upper_bound"] <= 0.05
    (version,) = kept().versions
    assert version == done.version and version.stage is Stage.CANDIDATE and not kept().drafts
    lineage = version.lineage
    assert lineage["recipe"]["method"] == "cross-fit" and lineage["promise"]["target_risk"] == 0.05
    assert lineage["packages"]["numpy"] == np.__version__
    assert len(read_snapshot(home, lineage["snapshot"])) == 600


@pytest.mark.parametrize("method", ["cross-fit", "strict", "none"])
@pytest.mark.parametrize("family", ["encoder-frozen", "two-tier"])
def test_few_rows_learn_from_the_answers_words_too(trained, examples, tiny_base, home, family, method):
    trained(examples(50), family=family, method=method, base=str(tiny_base), precision="int8")
    assert embedded(home) == {50, 3}


def test_a_seed_makes_the_same_figures_and_the_same_artifact(trained, examples):
    given = examples(300, noise=0.05)
    first, second, other = trained(given, seed=7), trained(given, seed=7), trained(given, seed=8)
    assert figures(second) == {**figures(first), "version": 2}
    assert other.version.digest != first.version.digest


def test_strict_certifies_on_rows_that_were_not_learned_from(trained, examples, home):
    done = trained(examples(900), method="strict")
    rows = done.to_json()["rows"]
    assert sum(rows.values()) == 900 and 200 < rows["calibration"] < 420
    calibration = done.version.calibration
    assert (calibration.method, calibration.rows) == ("strict", rows["calibration"])
    assert calibration.coverage > 0.5


def test_strict_scores_come_from_the_serving_backend(trained, examples, home):
    done = trained(examples(900, noise=0.02, told=0.25), method="strict")
    split = split_rows(done.snapshot, Recipe("linear", "strict"), 900, 0)
    specialist = served(home, done.version)
    answered = specialist.answer_texts([done.snapshot.texts[row] for row in split.calibrate])
    accepted = [score >= done.version.calibration.threshold for _, score in answered]
    assert sum(accepted) == done.version.calibration.accepted


def test_no_certify_fits_on_every_row_and_promises_nothing(trained, examples):
    done = trained(examples(300), method="none")
    told = done.to_json()
    assert told["rows"] == {"train": 300, "calibration": 0, "test": 0}
    assert told["calibration"] is None and told["test"] is None and told["notes"] == []
    assert done.version.calibration is None


@pytest.mark.parametrize("family", ["encoder-frozen", "two-tier", "auto"])
def test_encoder_families_train_certify_and_serve(trained, examples, home, tiny_base, family):
    task = Task("triage", require=Require(accuracy=1.0))
    done = trained(examples(240, noise=0.1), task, family=family, base=str(tiny_base))
    assert done.version.lineage["precision"] in ("int8", "fp32", None)
    specialist = served(home, done.version)
    label, score = specialist.answer_text("my card was stolen")
    assert label in ("card", "refund", "transfer") and 0.0 <= score <= 1.0
    if family != "auto":
        assert done.version.family == family and done.to_json()["size_bytes"] > 40_000


def test_auto_says_why(trained, examples, tiny_base):
    done = trained(examples(240, noise=0.2), family="auto", base=str(tiny_base))
    why = done.to_json()["why"]
    assert why.count("certifies") == 3 and "encoder-frozen certifies" in why and done.version.lineage["why"] == why
    easy = trained(examples(240), Task("triage", require=Require(accuracy=0.5)), family="auto", base="not asked for")
    assert easy.to_json()["why"].endswith("it meets the task's bar")


def test_a_target_the_data_cannot_certify_is_a_value_with_the_rows_it_would_need(trained, examples):
    done = trained(examples(40), Task("triage", target_risk=0.01))
    told = done.to_json()
    assert told["calibration"]["threshold"] is None and told["calibration"]["coverage"] == 0.0
    assert any("needs at least 299. Collect more, or raise target_risk" in note for note in told["notes"])


def test_a_guard_is_named_as_people_write_it_and_the_strictest_counts(trained, examples):
    given = examples(400, answers=2)
    done = trained(given, Task("triage", guard={"Card.": 0.3, "card": 0.15, "never": 0.2}))
    assert guards_of(Task("t", guard={"Card.": 0.3, "card": 0.15}), done.snapshot.answers) == {"card": 0.15}
    guards = {guard["answer"]: guard for guard in done.to_json()["calibration"]["guards"]}
    assert guards["card"]["limit"] == 0.15 and guards["card"]["held"]
    assert not guards["never"]["held"] and guards["never"]["rows"] == 0
    assert done.version.calibration.threshold is None


def test_labels_that_occur_once_are_learned_and_told(trained, examples, tickets):
    lines = tickets(300)
    for number in range(4):
        lines[number]["answer"] = f"odd one {number}"
    done = trained(examples(lines=lines))
    assert len(done.snapshot.answers.rare) == 4 and done.version.calibration.rows > 200
    assert any("under 10 % of the references" in note for note in done.to_json()["notes"])


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"family": "svm"}, "is 'svm'; one of auto, linear, static, two-tier, encoder-frozen, encoder was expected"),
        ({"method": "guess"}, "The method is 'guess'; one of cross-fit, strict, none was expected"),
        ({"family": "auto", "method": "none"}, "--no-certify measures nothing to choose by; name a --family beside it"),
    ],
)
def test_unknown_choices_are_refused_before_anything_is_written(trained, examples, home, recipe, said):
    with pytest.raises(UserError, match=said):
        trained(examples(60), **recipe)
    assert not (home / "snapshots").exists()


def test_rows_that_are_all_alike_cannot_be_cross_fitted(trained, examples, kept):
    trained(examples(60))
    same = [{"text": "where is my card", "answer": "yes" if number % 3 else "no"} for number in range(60)]
    with pytest.raises(DataError, match="rows|near-duplicates"):
        trained(examples(lines=same))
    alike = [{**line, "group": "a" if number % 2 else "b"} for number, line in enumerate(same)]
    for seed in range(6):
        try:
            trained(examples(lines=[{**line, "text": f"{line['text']} {line['group']}"} for line in alike]), seed=seed)
        except DataError as error:
            assert "expected" in str(error)
    assert kept().versions[0].version == 1


def test_what_makes_no_task_leaves_what_was_stored(trained, examples, kept):
    before = trained(examples(60)).version
    for lines, kind in (
        ([{"text": f"text {n}", "answer": f"a poem about {n}"} for n in range(80)], OpenEndedAnswers),
        ([{"text": f"text {n}", "answer": "yes"} for n in range(80)], DataError),
        ([], DataError),
    ):
        with pytest.raises(kind):
            trained(examples(lines=lines))
    assert kept().versions == [before] and not kept().drafts


def test_two_trainings_at_once_on_one_home(examples, home, say, kept):
    given = examples(200, noise=0.05)
    done, start = [], threading.Barrier(2)

    def run(seed):
        start.wait()
        with Registry.open(home) as registry:
            done.append(
                train(given, Task("triage"), Recipe("linear", seed=seed), home=home, registry=registry,
                      artifacts=ArtifactStore(home), say=say, now=lambda: NOON)
            )  # fmt: skip

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.version.version for each in done) == [1, 2]
    assert {version.digest for version in kept().versions} == {each.version.digest for each in done}
    assert not kept().drafts


def test_a_device_that_fills_up_is_told_and_leaves_no_draft(trained, examples, home, kept):
    before = trained(examples(60)).version
    with pytest.raises(StoreFull, match="No room left to write .*linear.safetensors. Nothing stored earlier is lost"):
        with ArtifactStore(home).draft() as folder:
            (folder / "half").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "linear.safetensors"))
    assert kept().versions == [before] and not kept().drafts


def test_only_rows_to_learn_from_choose_the_precision(examples):
    """The rows that certify and test have no say in what is trained."""
    snapshot = take_snapshot(examples(200), InputSettings())
    recipe = Recipe("encoder-frozen", "strict")
    split = split_rows(snapshot, recipe, 200, 0)
    shown = []

    class Watching:
        def prepare(self, texts):
            shown.extend(texts)
            return np.zeros(len(texts))

        def fit(self, *given):
            return self

        def probabilities(self, prepared, rows):
            return np.eye(3)[np.zeros(len(rows), int)]

    assert _precision(recipe, snapshot, split.learn)(lambda name: Watching()) == "int8"
    assert set(shown) == {snapshot.texts[row] for row in split.learn}
    assert _precision(replace(recipe, precision="fp32"), snapshot, split.learn)(None) == "fp32"


def test_a_run_embeds_only_those_rows_to_choose(examples, home, tiny_base):
    titles = []

    def say(title):
        titles.append(title)
        return lambda done, total=None: None

    with Registry.open(home) as registry:
        done = train(examples(200), Task("triage"), Recipe("encoder-frozen", "strict", base=str(tiny_base)), home=home,
                     registry=registry, artifacts=ArtifactStore(home), say=say, now=lambda: NOON)  # fmt: skip
    embedded = [title for title in titles if title.startswith("embedding")]
    learned = done.to_json()["rows"]["train"]
    assert embedded == [f"embedding {learned} texts"] * 2 + ["embedding 200 texts"]
