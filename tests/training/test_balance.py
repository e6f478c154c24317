"""Class imbalance: what answers weigh in closed form, rare ones found again, and certificates that stay true."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from insource.backends.engine import softmax
from insource.backends.specialist import open_specialist
from insource.errors import UserError
from insource.store.artifacts import ArtifactStore
from insource.training import balance
from insource.training.balance import advice, answer_weights, macro_f1, tilt
from insource.training.develop import Promise, RowSet, develop
from insource.training.evaluate import evaluate
from insource.training.recipe import Recipe
from insource.training.students.encoder import EncoderStudent
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.linear import LinearStudent
from insource.training.students.logistic import fit_logistic
from insource.training.students.two_tier import Tiers
from insource.training.tiny_encoder import write_tiny_base
from insource.training.tuning.loop import _cross_entropy
from insource.training.tuning.settings import Settings

EIGHT_TO_TWO = np.array([0] * 8 + [1] * 2)


def imbalanced(n, seed=0):
    """Texts of ten words, of which a fifteenth is 'fraud': those say 'wire' words more often, and so do others."""
    chance = np.random.default_rng(seed)
    said = [f"word{number}" for number in range(300)], [f"wire{number}" for number in range(30)]
    classes = (np.arange(n) % 15 == 0).astype(np.intp)
    texts = [
        " ".join(chance.choice(said[int(wire)]) for wire in chance.random(10) < share)
        for share in np.where(classes == 1, 0.6, 0.12)
    ]
    return texts, classes


def lines(n, seed=0):
    texts, classes = imbalanced(n, seed)
    return [{"text": text, "answer": ("fine", "fraud")[number]} for text, number in zip(texts, classes, strict=True)]


def test_what_an_answer_weighs_in_closed_form():
    assert answer_weights(EIGHT_TO_TWO, 2, 1.0) == pytest.approx([10 / 16, 10 / 4])
    half = np.sqrt([10 / 16, 10 / 4])
    assert answer_weights(EIGHT_TO_TWO, 2, 0.5) == pytest.approx(half / (0.8 * half[0] + 0.2 * half[1]))
    assert answer_weights(EIGHT_TO_TWO, 2, 0.0).tolist() == [1.0, 1.0]
    for share in (0.3, 1.0):
        assert answer_weights(EIGHT_TO_TWO, 2, share)[EIGHT_TO_TWO].mean() == pytest.approx(1.0)


def test_an_answer_without_rows_is_left_as_it_is():
    assert answer_weights(EIGHT_TO_TWO, 3, 1.0)[2] == 1.0


def test_what_knows_frequencies_alone_says_that_all_are_as_frequent():
    _, bias = fit_logistic(np.zeros((10, 1), np.float32), EIGHT_TO_TWO, 2, strength=1.0, tolerance=1e-6)
    known = softmax(np.zeros((1, 2)) + bias)
    assert known[0] == pytest.approx([0.8, 0.2], abs=1e-4)
    assert tilt(known, answer_weights(EIGHT_TO_TWO, 2, 1.0))[0] == pytest.approx([0.5, 0.5], abs=1e-4)
    odds = tilt(known, answer_weights(EIGHT_TO_TWO, 2, 0.5))[0]
    assert odds[0] / odds[1] == pytest.approx(2.0, abs=1e-3)


@pytest.fixture
def material(tiny_trunk):
    texts, classes = imbalanced(450)
    encoder = EncoderFrozenStudent(tiny_trunk, lambda given, progress: tiny_trunk.embed(given))
    counts, embeddings = LinearStudent().prepare(texts), encoder.prepare(texts)
    stuff = SimpleNamespace(
        trunk_digest="t" * 64, fitted={}, linear=lambda: (LinearStudent(), counts),
        encoder=lambda labels=(): (encoder, embeddings), tiers=Tiers(counts, embeddings),
    )  # fmt: skip
    places = np.arange(450) // 15 % 5
    return stuff, lambda share: RowSet(np.arange(450), places, np.arange(0), classes, ("fine", "fraud"), None, share)


@pytest.mark.parametrize("family", ["linear", "two-tier", "encoder-frozen"])
def test_what_is_certified_is_what_is_served(material, family):
    """Out of fold and served, the same weights; the wrong rows are counted as they come."""
    stuff, rows = material
    promise = Promise(0.2, 0.9, {})
    plain = develop(stuff, rows(0.0), promise, family)
    stuff.fitted.clear()  # so that both start at nothing
    raised = develop(stuff, rows(1.0), promise, family)
    prepared = {"linear": stuff.linear()[1], "encoder-frozen": stuff.encoder()[1], "two-tier": stuff.tiers}[family]
    classes, everything = rows(0.0).classes, np.arange(450)
    weights = answer_weights(classes, 2, 1.0)
    served = [each.student.probabilities(prepared, everything) for each in (plain, raised)]
    if family == "two-tier":
        assert raised.student.weight == plain.student.weight
    else:
        assert raised.probabilities == pytest.approx(tilt(plain.probabilities, weights))
        assert served[1] == pytest.approx(tilt(served[0], weights), abs=1e-5)
    assert (served[1][:, 1] > served[0][:, 1]).all()
    assert raised.accuracy == (raised.probabilities.argmax(axis=1) == classes).mean()
    kept = raised.scores >= raised.calibration.threshold
    assert raised.calibration.errors == (raised.wrong & kept).sum()
    rare = classes == 1
    assert raised.wrong[rare].mean() < plain.wrong[rare].mean()


def test_a_rare_answer_is_found_again(trained, examples, home):
    texts, classes = imbalanced(450, seed=1)
    plain, raised = (trained(examples(lines=lines(450)), family="linear", balance=share) for share in (0.0, 0.5))
    recalls = []
    for made in (plain, raised):
        artifact = ArtifactStore(home).open(made.version.digest)
        served = open_specialist(artifact.folder, artifact.manifest, name="x", digest=None, trunk=None)
        found = evaluate(
            served, texts, [("fine", "fraud")[each] for each in classes], threshold=None, confidence_level=0.95
        )
        recalls.append(next(row for row in found.forgotten() if row["answer"] == "fraud")["recall"])
    assert recalls[0] + 0.1 < recalls[1] < 1.0
    assert Recipe.of_lineage(raised.version.lineage["recipe"]).balance == 0.5
    told = [[note for note in made.notes if "--balance" in note] for made in (plain, raised)]
    assert told[0][0].startswith("Rare answers are given too seldom: --balance 0.5 would raise macro F1 from ")
    assert (len(told[0]), told[1]) == (1, [])
    assert "--balance" not in "".join(trained(examples(150), family="linear").notes)


@pytest.mark.parametrize("method", ["cross-fit", "none"])
def test_without_a_balance_nothing_changes(trained, examples, monkeypatch, method):
    given = examples(lines=lines(150))
    raised = trained(given, family="linear", method=method, balance=0.5).version.digest
    monkeypatch.setattr(LinearStudent, "tilted", None)
    plain = [trained(given, family="linear", method=method, **told).version.digest for told in ({}, {"balance": 0.0})]
    assert plain[0] == plain[1] != raised
    with pytest.raises(TypeError):
        trained(given, family="linear", method=method, balance=0.5)


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UserError, match=r"--balance is .*; 0 \(every answer as frequent as it is\) to 1"):
        Recipe(balance=share).check()


def test_advice_is_what_comes_of_taking_it(monkeypatch):
    classes = np.array([0] * 90 + [1] * 10)
    found = np.full((100, 2), [0.9, 0.1])
    found[90:] = [0.6, 0.4]
    weights = answer_weights(classes, 2, 0.5)
    after = tilt(found, weights).argmax(axis=1)
    assert macro_f1(after, classes, 2) == 1.0 and macro_f1(found.argmax(axis=1), classes, 2) < 0.5
    told = advice(found, classes)
    assert "from 47.4% to 100.0% out of fold (accuracy: from 90.0% to 100.0%)" in told
    monkeypatch.setattr(balance, "WORTH_TELLING", 0.6)
    assert advice(found, classes) is None


def test_a_tuned_encoder_weighs_each_row_s_loss():
    logits, classes = torch.randn(5, 3, generator=torch.manual_seed(0)), torch.tensor([0, 1, 2, -1, 1])
    plain = functional.cross_entropy(logits, classes, ignore_index=-1, label_smoothing=0.1)
    assert torch.equal(_cross_entropy(logits, classes, 0.1, None), plain)
    assert torch.allclose(_cross_entropy(logits, classes, 0.1, np.ones(3, np.float32)), plain)
    logs = functional.log_softmax(logits, dim=-1)
    each = [-(0.9 * logs[row, own] + 0.1 * logs[row].mean()) for row, own in ((0, 0), (1, 1), (2, 2), (4, 1))]
    weighed = (0.5 * each[0] + 2.0 * each[1] + 1.0 * each[2] + 2.0 * each[3]) / 4
    assert torch.allclose(_cross_entropy(logits, classes, 0.1, np.array([0.5, 2.0, 1.0], np.float32)), weighed)


def test_a_tuned_encoder_leans_less_to_what_is_frequent(tmp_path):
    base = write_tiny_base(tmp_path / "base")
    texts = [f"{'lost ' * (number % 4)}card {number % 7}" for number in range(40)]
    classes = (np.arange(40) % 10 == 0).astype(np.int64)
    leans, paths = [], set()
    for share in (0.0, 1.0):
        settings = Settings(epochs=4, batch=10, head_rate=0.3, scale=0.01)  # the bias alone tells
        student = EncoderStudent(None, base, settings=settings, checkpoints=tmp_path, balance=share).fresh()
        student.stop_ = np.arange(0)
        found, checkpoint = student._tuned(student.prepare(texts), np.arange(40), classes, 2)
        leans.append(found.bias[0] - found.bias[1])
        paths.add(checkpoint._path)
    assert abs(leans[1]) + 0.5 < leans[0] and len(paths) == 2
