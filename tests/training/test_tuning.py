"""Tuning itself: the network's numbers, what a kill leaves, and what is refused."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from insource.backends.encoder import EncoderEngine
from insource.errors import DataError, MissingExtra, TrainingFailed
from insource.store.artifacts import ArtifactStore
from insource.training.base_models import WEIGHTS_FILE
from insource.training.compression.prune_heads import prune_heads
from insource.training.encoder_weights import Weights, read_shape
from insource.training.students.conformance import check_student
from insource.training.students.encoder import EncoderStudent, Teaching, sweep
from insource.training.tiny_encoder import write_tiny_base
from insource.training.trunks import TrunkRoom
from insource.training.tuning import loop, needs
from insource.training.tuning.batches import Tokenised
from insource.training.tuning.checkpoint import Checkpoint
from insource.training.tuning.loop import Lesson, Tuning
from insource.training.tuning.network import Network
from insource.training.tuning.settings import Settings

TEXTS = [f"{'lost ' * (number % 5)}{word} card" for number in range(8) for word in ("lost", "where", "stolen?")]
CLASSES = np.array([0, 1, 2] * 8, np.int64)
QUICK = Settings(epochs=3, batch=8, rate=1e-3)


def silent(_):
    return lambda done, total: None


@pytest.fixture
def room(tmp_path):
    return TrunkRoom(tmp_path / "home", ArtifactStore(tmp_path / "home"), silent)


@pytest.fixture
def base(tmp_path):
    return write_tiny_base(tmp_path / "base", layers=3)


def network(base):
    weights, shape = Weights.read(base.folder / WEIGHTS_FILE), read_shape(base.folder)
    return Network(weights, shape, pooling=base.pooling, max_tokens=base.max_tokens, dropout=0.1).eval()


def embedded(base, texts=TEXTS):
    tokens = EncoderStudent(None, base).prepare(texts).tokens
    with torch.inference_mode():
        return network(base)(tokens.batch(np.arange(len(texts)))).numpy()


def tuned(base, checkpoint=None, lesson=None, settings=QUICK, progress=None):
    tokens = EncoderStudent(None, base).prepare(TEXTS).tokens
    lesson = lesson or Lesson(tokens, CLASSES, 3, np.arange(18), np.arange(18, 24))
    tuning = Tuning(Weights.read(base.folder / WEIGHTS_FILE), read_shape(base.folder), "mean", 24, settings)
    return tuning.run(lesson, Checkpoint(checkpoint), progress)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("pruned", [False, True])
def test_the_network_gives_what_the_graph_gives(tmp_path, room, base, pooling, pruned):
    if pruned:
        base = prune_heads(base, tmp_path / "pruned", 0.25, [(2, 5, 6, 3)])
    base = replace(base, pooling=pooling, blocks=1)
    trunk = room.get(room.build(base, "fp32"))
    assert trunk.dimension == 32
    np.testing.assert_allclose(embedded(base), trunk.embed(TEXTS), atol=2e-5)


def test_a_text_gets_the_same_whatever_stands_beside_it(base):
    together = embedded(base, TEXTS)
    alone = np.concatenate([embedded(base, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_what_was_tuned_is_what_is_kept(base, room):
    found = tuned(base)
    digest, own = room.keep(base, found.tensors, "tiny", max_position_embeddings=24, type_vocab_size=1)
    again = Weights.read(own.folder / WEIGHTS_FILE).used()
    assert again.keys() == found.tensors.keys()
    assert all(np.array_equal(again[name], found.tensors[name]) for name in again)
    assert room.kept(digest) == own
    before = Weights.read(base.folder / WEIGHTS_FILE).used()
    name = "encoder.layer.0.output.dense.weight"
    assert not np.array_equal(before[name], again[name])
    words = "embeddings.word_embeddings.weight"
    assert np.array_equal(before[words], again[words])


def test_it_is_a_sound_student(base, room):
    made = []

    def make():
        made.append(EncoderStudent(room, base, settings=replace(QUICK, epochs=2), precision="fp32"))
        return made[-1]

    def opened(folder):
        fitted = next(each for each in made if hasattr(each, "trunk_"))
        return EncoderEngine.load(folder, room.get(fitted.trunk_))

    check_student(make, TEXTS, CLASSES, open_engine=opened)


def test_it_learns(base, room):
    student = EncoderStudent(room, base, settings=Settings(epochs=40, batch=8, rate=2e-3), precision="fp32")
    prepared = student.prepare(TEXTS)
    student.fit(prepared, np.arange(24), CLASSES, 3)
    right = student.probabilities(prepared, np.arange(24)).argmax(axis=1) == CLASSES
    assert right.mean() > 0.9


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 4, 8])
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_numbers(base, tmp_path, at):
    expected = tuned(base)
    path, seen = tmp_path / "checkpoint.safetensors", []

    def kill(done, total):
        seen.append(done)
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        tuned(base, path, progress=kill)
    assert path.exists() == (at > 3)
    first = []
    found = tuned(base, path, progress=lambda done, total: first.append(done))
    assert first[0] == (at - 1) // 3 * 3 + 1 and first[-1] == 9
    assert found.epochs == expected.epochs and found.kept == expected.kept
    assert all(np.array_equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)
    assert np.array_equal(found.weights, expected.weights)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"\x80\x04." + data, lambda data: b""])
def test_a_checkpoint_that_cannot_be_read_is_begun_anew(base, tmp_path, damage):
    path = tmp_path / "checkpoint.safetensors"
    expected = tuned(base, path)
    path.write_bytes(damage(path.read_bytes()))
    found = tuned(base, path)
    assert found.epochs == expected.epochs


def test_a_checkpoint_is_of_one_lesson_alone(base, tmp_path, room):
    student = EncoderStudent(room, base, settings=QUICK, precision="fp32", checkpoints=tmp_path / "kept")
    prepared = student.prepare(TEXTS)
    one = Lesson(prepared.tokens, CLASSES, 3, np.arange(24), np.arange(0))
    other = Lesson(prepared.tokens, CLASSES[::-1].copy(), 3, np.arange(24), np.arange(0))
    assert student._checkpoint(one) == student._checkpoint(one) != student._checkpoint(other)
    student.fit(prepared, np.arange(24), CLASSES, 3)
    assert list((tmp_path / "kept").iterdir()) == []


def test_the_checkpoint_stays_until_what_came_of_it_is_kept(tmp_path, base, room, monkeypatch):
    student = EncoderStudent(room, base, settings=QUICK, precision="fp32", checkpoints=tmp_path / "kept")
    prepared = student.prepare(TEXTS)
    expected = student.fresh().fit(prepared, np.arange(24), CLASSES, 3).encoder_

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(student, "_serve", killed)
        with pytest.raises(Killed):
            student.fit(prepared, np.arange(24), CLASSES, 3)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    monkeypatch.setattr(Tuning, "_epoch", killed)
    assert student.fit(prepared, np.arange(24), CLASSES, 3).encoder_ == expected
    assert list((tmp_path / "kept").iterdir()) == []


def test_checkpoints_that_nobody_went_on_from_are_removed(tmp_path):
    for name, day in (("old", 8), ("new", 6)):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
        os.utime(tmp_path / f"{name}.safetensors", (1e9 - day * 86_400, 1e9 - day * 86_400))
    sweep(tmp_path, now=1e9)
    assert [path.stem for path in tmp_path.iterdir()] == ["new"]
    sweep(tmp_path / "nowhere")


def test_a_loss_that_is_no_number_ends_it(base):
    with pytest.raises(TrainingFailed, match="The loss is nan at batch 1 of epoch 1"):
        broken = Lesson(
            EncoderStudent(None, base).prepare(TEXTS).tokens, CLASSES, 3, np.arange(18), np.arange(18, 24),
            soft=np.full((24, 3), np.nan, np.float32),
        )  # fmt: skip
        tuned(base, lesson=broken)


def test_the_guard_against_a_loss_that_is_no_number_is_what_ends_it(base, monkeypatch):
    monkeypatch.setattr(loop.math, "isfinite", lambda _: True)
    broken = Lesson(
        EncoderStudent(None, base).prepare(TEXTS).tokens, CLASSES, 3, np.arange(18), np.arange(18, 24),
        soft=np.full((24, 3), np.nan, np.float32),
    )  # fmt: skip
    assert not np.isfinite(tuned(base, lesson=broken).weights).all()


def test_without_torch_the_command_that_installs_it_is_told(base, room, monkeypatch):
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    student = EncoderStudent(room, base, settings=QUICK)
    with pytest.raises(MissingExtra, match=r"pip install 'insource\[train\]'"):
        student.fit(student.prepare(TEXTS), np.arange(24), CLASSES, 3)


def test_too_little_memory_is_told_before_it_starts(base, room, monkeypatch):
    monkeypatch.setattr(needs, "free_bytes", lambda: 500_000_000)
    student = EncoderStudent(room, base, settings=QUICK)
    with pytest.raises(DataError, match=r"needs about 0\.6 GB of memory and 0\.5 GB are free"):
        student.fit(student.prepare(TEXTS), np.arange(24), CLASSES, 3)


def test_free_memory_is_told_on_this_machine():
    found = needs.free_bytes()
    assert found is None or 10**7 < found < 10**14


def test_rows_without_a_reference_are_learned_from_the_teacher(base, room):
    soft = np.full((24, 3), 0.02, np.float32)
    soft[np.arange(24), CLASSES] = 0.96
    settings = Settings(epochs=40, batch=8, rate=2e-3, taught=1.0, temperature=1.0)
    student = EncoderStudent(room, base, settings=settings, precision="fp32", teaching=Teaching(soft))
    prepared = student.prepare(TEXTS)
    known = CLASSES.copy()
    known[6:] = -1
    student.fit(prepared, np.arange(24), known, 3)
    said = student.probabilities(prepared, np.arange(6, 24)).argmax(axis=1)
    assert (said == CLASSES[6:]).mean() > 0.9


def test_an_epoch_holds_every_row_once_in_batches_of_like_length():
    tokens = Tokenised([range(1 + number % 7) for number in range(1_000)])
    batches = tokens.epoch(np.arange(1_000), 16, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1_000))
    spread = [np.ptp(tokens.lengths[batch]) for batch in batches]
    assert np.mean(spread) < 1.0
    other = tokens.epoch(np.arange(1_000), 16, np.random.default_rng(1))
    assert any(not np.array_equal(one, two) for one, two in zip(batches, other, strict=True))


def test_the_rate_rises_and_falls():
    shares = [Settings().share_at(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and max(shares) == 1.0 and shares[-1] < 0.02
    assert all(late <= early for early, late in zip(shares[10:], shares[11:], strict=False))


@pytest.mark.parametrize(("last", "kept"), [(6, 1), (17, 2), (18, 2)])
def test_the_last_epoch_is_kept_unless_it_is_worse(base, monkeypatch, last, kept):
    rights = iter([np.arange(18) < many for many in (12, 18, last)])
    monkeypatch.setattr(Tuning, "_right", lambda *_: next(rights))
    found = tuned(base)
    assert found.kept == kept and [each.accuracy for each in found.epochs] == [12 / 18, 1.0, last / 18]
