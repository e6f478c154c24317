"""An exported folder answers as serving does, appears whole or not at all, and refuses what it cannot carry over."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from insource.answers import learn_answers
from insource.backends.ngrams import ngrams
from insource.backends.onnx import Trunks
from insource.backends.specialist import Specialist, open_specialist, write_specialist
from insource.errors import ArtifactDamaged, FetchError, UserError
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training import exporting
from insource.training.base_models import DEFAULT_ENCODER, KNOWN
from insource.training.encoder_graph_scored import SpecialistGraph
from insource.training.export import Exported, check_runner, export
from insource.training.exporting import web_runtime as web
from insource.training.exporting.card import card
from insource.training.exporting.contents import Contents
from insource.training.run import Recipe, train
from insource.training.students.linear import LinearStudent
from insource.types import Calibration, SpecialistVersion, Task
from tests.conftest import make_tickets
from tests.training.conftest import NOON, as_examples, silent
from tests.training.random_static import random_static

CERTIFIED = Calibration("cross-fit", 0.05, 0.95, 400, 0.6, 0.8, 320, 3, 0.03, 0.9)
FAMILIES = ("linear", "static", "two-tier", "encoder-frozen")
LONG = ["card lost " * 6, "refund " * 100, "w1 w2 w3 w4 w5 w6 w7 w8 " * 4, "card " * 1_000]
ODD = [
    "",
    "  ",
    "Ünïcödé CARD — ΑΣ ΟΔΟΣ",
    "卡 card",
    "🙂 refund",
    "[SEP] lost [MASK]",
    "a\x1cb\x85c",
    "\ud800",
    "w" * 400,
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> SimpleNamespace:
    """A home with a version of each family, and the folder of each."""
    home, out = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("out")
    artifacts = ArtifactStore(home)
    words = {
        "linear": 9,
        "static": 9,
        "two-tier": 3,
        "encoder-frozen": 9,
    }  # so that one encoder reads windows and the other does not
    versions, exported = {}, {}
    with Registry.open(home) as registry:
        for family in FAMILIES:
            examples = as_examples(make_tickets(400, noise=0.1, words=words[family]))
            recipe = Recipe(family, "none", base=str(tiny_base))
            done = train(examples, Task(family), recipe, home=home, registry=registry, artifacts=artifacts, say=silent,
                         now=lambda: NOON)  # fmt: skip
            versions[family] = replace(done.version, calibration=CERTIFIED)
            (out / family).mkdir()  # an empty one will do
            exported[family] = export(versions[family], out / family, artifacts=artifacts, runtime=None, say=silent)
    return SimpleNamespace(artifacts=artifacts, versions=versions, exported=exported, out=out)


def opened(made: SimpleNamespace, version: SpecialistVersion) -> Specialist:
    artifact = made.artifacts.open(version.digest)
    trunks = Trunks(lambda digest: made.artifacts.open(digest).folder)
    return open_specialist(artifact.folder, artifact.manifest, name="x", digest=version.digest, trunk=trunks.get)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "triage"


@pytest.fixture
def write(made: SimpleNamespace, out: Path) -> Callable[..., Exported]:
    """Exports a version of the module's home and returns what was exported."""

    def write(version: SpecialistVersion, to: Path = out, runtime: Callable[[], Path] | None = None) -> Exported:
        return export(version, to, artifacts=made.artifacts, runtime=runtime, say=silent)

    return write


@pytest.fixture
def copied(made: SimpleNamespace, tmp_path: Path) -> Callable[[str], Path]:
    """Copies a family's folder, to be damaged."""
    return lambda family: Path(shutil.copytree(made.out / family, tmp_path / family))


def differences(folder: Path, specialist: Specialist, threshold: float | None, texts: list[str]) -> float:
    """Return by how much scores differ; labels, replies and what is accepted must be the same."""
    read = [specialist.inputs.text_of_user(text) for text in texts]
    served = specialist.answer_texts([text or "" for text in read])
    told = list(map(runpy.run_path(str(folder / "run.py"))["answer"], texts))
    assert [each["label"] for each in told] == [label for label, _ in served]
    assert [each["answer"] for each in told] == [specialist.answers.render(label) for label, _ in served]
    accepted = [
        text is not None and threshold is not None and score >= threshold
        for text, (_, score) in zip(read, served, strict=True)
    ]
    assert [each["accepted"] for each in told] == accepted
    return max(abs(each["score"] - score) for each, (_, score) in zip(told, served, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_answers_and_scores_as_serving_does(made, family):
    version, done = made.versions[family], made.exported[family]
    texts = [line["text"] for line in make_tickets(520, seed=5)] + ODD + LONG
    threshold = version.calibration.threshold
    assert done.difference <= 1e-5 and done.checked > 12
    assert differences(done.folder, opened(made, version), threshold, texts) <= 1e-5
    windows = json.loads((done.folder / "specialist.json").read_text()).get("tokens", {}).get("windows", 0)
    assert windows == 0 if family in ("linear", "static") else windows == 1 if family == "two-tier" else windows > 1
    assert set(done.files) == {path.name for path in done.folder.iterdir()} and "index.html" not in done.files


def test_what_answers_optimises_the_graph_as_far_as_serving_does(made):
    """Beyond, a sum and a norm become one node that takes six times as long."""
    for family in ("linear", "two-tier", "encoder-frozen"):
        options = runpy.run_path(str(made.out / family / "run.py"))["SESSION"].get_session_options()
        assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    page = Path(exporting.__file__).parent / "folder" / "engine_onnx.js"
    assert 'graphOptimizationLevel: "basic" };\n' in page.read_text("utf-8")


def test_it_is_a_program_that_needs_no_insource(made):
    code = "import runpy, sys; sys.modules['insource'] = None; runpy.run_path(sys.argv[0], run_name='__main__')"
    call = [sys.executable, "-I", "-c", f"import sys; sys.argv[:] = ['run.py', *sys.argv[1:]]; {code}"]
    folder = made.out / "linear"
    for arguments, given in ((("card lost", "money back"), ""), ((), "card lost\nmoney back\n")):
        done = subprocess.run([*call, *arguments], cwd=folder, input=given, capture_output=True, text=True)
        assert [json.loads(line)["answer"] for line in done.stdout.splitlines()] == ["card", "refund"], done.stderr


def test_the_runner_imports_no_more_than_it_says(made):
    onnx, tokens = {"numpy", "onnxruntime"}, {"numpy", "onnxruntime", "tokenizers"}
    for family, wanted in (("linear", onnx), ("static", {"numpy"}), ("encoder-frozen", tokens), ("two-tier", tokens)):
        runner = (made.out / family / "run.py").read_text()
        imported = {line.split()[1] for line in runner.splitlines() if line.startswith(("import ", "from "))}
        assert imported - sys.stdlib_module_names == wanted
        packages = f"pip install {' '.join(sorted(wanted, key=['onnxruntime', 'numpy', 'tokenizers'].index))}`"
        assert packages in (made.out / family / "README.md").read_text()
        assert "#:" not in runner and "in_slots" not in runner
        assert len(runner.splitlines()) < (95 if family == "static" else 65)


@pytest.mark.parametrize("family", ["encoder-frozen", "static"])
def test_every_file_is_checked_before_an_answer(copied, family):
    folder = copied(family)
    for path in sorted(folder.iterdir()):
        if path.name == "run.py":
            continue
        kept = path.read_bytes()
        path.unlink()
        assert refused(folder), path.name
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert path.name == "specialist.json" or refused(folder), path.name  # its own last byte is a line break
        path.write_bytes(kept)
    assert not refused(folder)


def refused(folder: Path) -> bool:
    try:
        runpy.run_path(str(folder / "run.py"))
    except SystemExit as error:
        return "Export the specialist again" in str(error)
    return False


def test_a_folder_that_answers_otherwise_is_found(made, copied):
    folder = copied("linear")
    with pytest.raises(ArtifactDamaged, match="the same was expected"):
        check_runner(folder, opened(made, made.versions["encoder-frozen"]))
    (folder / "specialist.json").unlink()
    with pytest.raises(ArtifactDamaged, match="the export did not end"):
        check_runner(folder, opened(made, made.versions["linear"]))


def test_nothing_is_left_where_the_runner_fails(made, write, out, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ArtifactDamaged, match="Nothing was exported"):
        write(made.versions["linear"])
    assert list(out.parent.iterdir()) == []


def test_a_taken_folder_is_left_alone(made, write, out, copied):
    taken = copied("linear")
    before = {path.name: path.read_bytes() for path in taken.iterdir()}
    with pytest.raises(UserError, match="is taken"):
        write(made.versions["encoder-frozen"], taken)
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == before
    out.parent.mkdir()
    (out.parent / "file").write_text("x")
    (out.parent / "link").symlink_to(out.parent)
    for name in ("file", "link", "file/below"):
        with pytest.raises(UserError):
            write(made.versions["linear"], out.parent / name)


def test_other_families_are_refused_by_name(made, write, out):
    with pytest.raises(UserError, match="family 'house' cannot be exported; one of linear"):
        write(replace(made.versions["linear"], family="house"))
    assert not out.parent.exists()


def linear_artifact(artifacts: ArtifactStore, inputs: InputSettings, texts: list[str], answers: list[str]) -> str:
    student, space = LinearStudent(), learn_answers(answers)
    counts, rows = student.prepare(texts), np.arange(len(texts))
    student.fit(counts, rows, np.array([space.index(answer) for answer in answers]), len(space))
    scorer = Scorer.fit(student.probabilities(counts, rows), rows % 5 > 0)
    with artifacts.draft() as folder:
        told = student.to_artifact(folder)
        manifest = write_specialist(folder, task="t", family="linear", model=told, scorer=scorer, answers=space,
                                    inputs=inputs, trunk=None)  # fmt: skip
        return artifacts.commit(folder, manifest)


TEMPLATES = (("Ticket: ", "\nFrom: ", " (end)"), ("Say: ", ""))
TEXTS = ["my card was stolen", "card lost", "where is my refund", "refund not here"] * 8


def test_limits_are_carried_over_and_without_a_threshold_nothing_is_accepted(made, write, out):
    digest = linear_artifact(made.artifacts, InputSettings("user", 60), TEXTS, ["card", "card", "refund", "refund"] * 8)
    version = replace(made.versions["linear"], digest=digest, calibration=None)
    write(version)
    long = ["card " * 20 + "refund refund refund", "🙂" * 59 + "card", "x" * 60 + " refund refund"]
    assert differences(out, opened(made, version), None, long) <= 1e-5
    told = (out / "README.md").read_text()
    assert "joined by line breaks" in told and "no answer is accepted" in told


def test_templates_are_carried_over(made, write, out):
    inputs = InputSettings("last_user", 60, TEMPLATES)
    digest = linear_artifact(made.artifacts, inputs, TEXTS, ["card", "card", "refund", "refund"] * 8)
    version = replace(made.versions["linear"], digest=digest)
    write(version)
    assert "in_slots" in (out / "run.py").read_text()
    assert differences(out, opened(made, version), version.calibration.threshold, templated()) <= 1e-5


def templated() -> list[str]:
    return [
        "Ticket: card\nFrom: refund refund (end)",
        "Ticket: \nFrom: refund (end)",
        "Ticket: a\nFrom:  (end)",
        "Ticket: \x1c\nFrom: \x85 (end)",
        "Ticket: card\nFrom: x\nFrom: y (end)",
        "Ticket: 🙂\nFrom: 🙂 (end)",
        "Ticket: card\nFrom: (end) (end)",
        "Say: card",
        "Say: ",
        "say: refund",
        "Say: Ticket: card\nFrom: (end)",
    ]


def test_whole_conversations_are_refused(made, write):
    digest = linear_artifact(made.artifacts, InputSettings("all"), TEXTS, ["card", "card", "refund", "refund"] * 8)
    with pytest.raises(UserError, match="whole conversations"):
        write(replace(made.versions["linear"], digest=digest))


def test_a_context_that_is_moved_is_refused(made, write):
    inputs = InputSettings(templates=(("Is ", " met by ", "?"),), contexts=(0,))
    digest = linear_artifact(made.artifacts, inputs, TEXTS, ["card", "card", "refund", "refund"] * 8)
    with pytest.raises(UserError, match=r"shown \{context\} last"):
        write(replace(made.versions["linear"], digest=digest))


@pytest.mark.parametrize("calibrator", ["logistic", "venn_abers"])
def test_a_static_model_is_summed_as_where_it_serves(made, write, out, calibrator):
    texts = [line["text"] for line in make_tickets(60, seed=5)] + ODD
    digest = random_static(made.artifacts, texts, calibrator)
    version = replace(made.versions["static"], digest=digest)
    write(version)
    asked = [*texts, *LONG, *(line["text"] for line in make_tickets(200, seed=8)), "of which no word is known: zyx"]
    assert differences(out, opened(made, version), version.calibration.threshold, asked) <= 1e-6
    told = json.loads((out / "specialist.json").read_text())
    assert ("steps" in told["scorer"]) == (calibrator == "venn_abers") and "model.onnx" not in told["files"]
    told["units"]["part_orders"] = [5]
    (out / "specialist.json").write_text(json.dumps(told))
    with pytest.raises(ArtifactDamaged, match="the same was expected"):
        check_runner(out, opened(made, version))


def test_the_page_of_a_static_model_needs_no_runtime(made, write, out):
    def asked_for():
        raise AssertionError("the runtime was asked for")

    write(made.versions["static"], runtime=asked_for)
    page = {"index.html", "page.css", "page.js", "specialist.js", "reading.js", "engine.js"}
    files = {path.name for path in out.iterdir()}
    assert files == {"README.md", "run.py", "specialist.json", "static.safetensors", *page}
    assert "onnxruntime" not in "".join((out / name).read_text() for name in files - {"static.safetensors"})
    with pytest.raises(AssertionError, match="asked for"):
        write(made.versions["linear"], to=out.parent / "other", runtime=asked_for)


@pytest.mark.parametrize("calibrator", ["logistic", "venn_abers"])
@pytest.mark.parametrize("rows", [6, 300])
def test_the_graph_scores_as_the_scorer_does(calibrator, rows):
    random = np.random.default_rng(rows)
    probabilities = random.dirichlet(np.full(5, 0.4), size=rows)
    scorer = Scorer.fit(probabilities, random.uniform(size=rows) < probabilities.max(axis=1), calibrator=calibrator)
    graph = SpecialistGraph()
    graph.inputs.append(onnx_input())
    session = onnxruntime.InferenceSession(graph.scored("p", scorer.to_arrays()), providers=["CPUExecutionProvider"])
    sure = np.eye(5)[:2]
    for row in [*random.dirichlet(np.full(5, 0.2), size=200), *probabilities[:20], *sure, np.full(5, 0.2)]:
        answer, score, same = session.run(None, {"p": row[None]})
        assert answer.tolist() == [row.argmax()] and (same == row).all()
        assert score[0] == pytest.approx(scorer.score_one(row), abs=1e-9)


def onnx_input():
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info("p", TensorProto.DOUBLE, [1, 5])


def test_the_grams_of_the_runner_are_those_of_the_engine(made, copied):
    """All grams are known here, so that none can be missed."""
    run = runpy.run_path(str(copied("linear") / "run.py"))
    texts = [*ODD, "one  two\ttwo, two!", "x"]
    known = [sorted({gram for text in texts for gram in ngrams(text)[kind]}) for kind in (0, 1)]
    run["GRAMS"].update(
        (kind, {gram: i for i, gram in enumerate(grams)})
        for kind, grams in zip(("words", "characters"), known, strict=True)
    )
    for text in texts:
        fed = run["numbers"](text)
        for kind, name in enumerate(("words", "characters")):
            assert sorted(known[kind][i] for i in fed[f"grams.{name}"]) == sorted(ngrams(text)[kind])


def test_a_tokenizer_that_the_page_cannot_do_is_refused(made, tmp_path):
    artifact = made.artifacts.open(made.versions["encoder-frozen"].digest)
    contents = Contents(artifact.folder, artifact.manifest, lambda digest: made.artifacts.open(digest).folder)
    told = json.loads(contents.files["tokenizer.json"])
    for change in ({"normalizer": {"type": "NFC"}}, {"model": {**told["model"], "type": "BPE"}}, {"normalizer": None},
                   {"added_tokens": [{**told["added_tokens"][0], "lstrip": True}]}):  # fmt: skip
        contents.files["tokenizer.json"] = json.dumps({**told, **change}).encode()
        with pytest.raises(UserError, match="page cannot do"):
            contents.page(lambda: tmp_path)


def test_the_licence_of_the_base_is_told(made):
    done = made.exported["encoder-frozen"]
    assert done.licence == json.loads((done.folder / "specialist.json").read_text())["base"]["licence"]
    assert "not known to insource" in done.licence and done.licence in (done.folder / "README.md").read_text()
    pin = KNOWN[DEFAULT_ENCODER]
    trunk = {"base": DEFAULT_ENCODER, "base_digest": pin.weights_sha256}
    space = learn_answers(["a", "b"] * 5)
    version = made.versions["encoder-frozen"]
    assert card(version, space, {}, trunk)["base"]["licence"] == "Apache-2.0"
    assert card(version, space, {}, {**trunk, "base_digest": "0"})["base"]["licence"] != "Apache-2.0"
    assert card(version, space, {}, {**trunk, "base_digest": "0", "licence": "MIT"})["base"]["licence"] == "MIT"
    static = made.versions["static"]
    assert made.exported["static"].licence == done.licence and made.exported["linear"].licence is None
    pinned = replace(static, lineage={**static.lineage, "recipe": {"base": DEFAULT_ENCODER}})
    assert card(pinned, space, {}, None)["base"]["licence"] == "Apache-2.0"


def npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an npm of one's own first on the PATH."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_runtime_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "dist").mkdir()
    for name in web.FILES:
        (tmp_path / "dist" / name).write_bytes(b"other")
    with pytest.raises(UserError, match=r"ort\.wasm\.bundle\.min\.mjs, ort-wasm"):
        web.web_runtime(tmp_path / "cache", tmp_path / "dist")
    npm(tmp_path / "bin", 'echo other > "$5/x.tgz"', monkeypatch)
    with pytest.raises(FetchError, match="It was not used"):
        web.web_runtime(tmp_path / "cache")
    assert not list((tmp_path / "cache" / "npm").iterdir())


def test_why_npm_failed_is_told(tmp_path, monkeypatch):
    npm(tmp_path / "bin", "echo no such host >&2; exit 1", monkeypatch)
    with pytest.raises(FetchError, match="npm said: no such host"):
        web.web_runtime(tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm is not here"):
        web.web_runtime(tmp_path / "cache")


def test_files_that_are_the_pinned_ones_are_taken(tmp_path, monkeypatch):
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    monkeypatch.setattr(web, "FILES", {"a": digest})
    folder = tmp_path / "cache" / "npm" / f"{web.PACKAGE}-{web.VERSION}"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"test")
    monkeypatch.setenv("PATH", "")
    assert web.web_runtime(tmp_path / "cache") == folder
    assert web.web_runtime(tmp_path, folder) == folder
    (folder / "a").write_bytes(b"text")
    with pytest.raises(FetchError, match="npm is not here"):
        web.web_runtime(tmp_path / "cache")
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="missing or not that of"):
        web.web_runtime(tmp_path, folder)
