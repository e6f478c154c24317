"""A tuned encoder made smaller: its head follows the source's, and only rows that it never saw certify it."""

import numpy as np
import pytest

from insource.risk.scores import Scorer
from insource.store import held_out
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.base_models import from_folder
from insource.training.compression.checkpoint import Checkpoint
from insource.training.compression.compress import Limits, compress
from insource.training.compression.matched import match
from insource.training.compression.smaller import How
from insource.training.develop import Developed
from insource.training.families import Material
from insource.training.recipe import Recipe
from insource.training.run import Workshop, make_version
from insource.training.snapshot import inputs_of, take_snapshot
from insource.training.split_rows import split_rows
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.trunks import TrunkRoom
from insource.training.tuned import NOTHING_CERTIFIED
from insource.types import Task

from .conftest import NOON


@pytest.fixture
def shop(home, say):
    artifacts = ArtifactStore(home)
    with Registry.open(home) as registry:
        yield Workshop(home, registry, artifacts, TrunkRoom(home, artifacts, say), say, lambda: NOON)


@pytest.fixture
def source(examples, tiny_base, shop):
    """A version of family encoder as tuning leaves it, but for the tuning itself, which takes torch."""
    task, recipe = Task("triage", target_risk=0.3), Recipe("encoder", "strict", base=str(tiny_base))
    snapshot = take_snapshot(examples(120), inputs_of(task))
    snapshot.save(shop.home)
    split, base = split_rows(snapshot, recipe, 120, 0), from_folder(tiny_base)
    tensors = {name: 1.01 * tensor for name, tensor in Checkpoint.read(base).tensors.items()}
    encoder, own = shop.room.keep(base, tensors, "tuned")
    trunk = shop.room.build(own, "fp32", encoder)
    student = EncoderFrozenStudent(shop.room.get(trunk), shop.room.embedder(trunk))
    classes = snapshot.classes[split.learn]
    student.fit(student.prepare(snapshot.texts), split.learn, classes, len(snapshot.answers))
    scorer = Scorer.fit(np.full((2, 3), 1 / 3), np.array([True, False]))
    known = np.eye(3)[classes], np.ones(len(classes)), np.zeros(len(classes), np.bool_)
    made = Developed("encoder", student, scorer, *known, float("nan"), NOTHING_CERTIFIED, trunk, "fp32")
    material = Material(snapshot.texts, lambda: shop.room, shop.say, str(tiny_base))
    return make_version(material, snapshot, split, task, recipe, shop, develop=lambda: made).version


def test_a_tuned_version_is_certified_on_rows_set_aside(source, shop):
    how = How(width=0.5, vocabulary=True, quantise="int8")
    found = compress(source, how, Task("triage"), shop, joules=float, limits=Limits(most_loss=1.0))
    version = found.trained.version
    assert (version.family, version.calibration.method) == ("encoder", "strict")
    assert version.calibration.rows == source.calibration.rows > 0
    assert version.lineage["rows"] == source.lineage["rows"]
    assert found.beside.result.size_bytes < 0.6 * found.beside.source.size_bytes
    texts = [found.trained.snapshot.texts[0]]
    assert held_out.recall(shop.home, version.digest, texts) == held_out.recall(shop.home, source.digest, texts)


def test_its_head_says_what_the_source_s_says(source, shop):
    """Nothing but the head's fit could make another precision of the same encoder disagree."""
    how = How(quantise="int8-static")
    found = compress(source, how, Task("triage"), shop, joules=float, limits=Limits(1.0, least_agreement=0.9))
    assert found.beside.agreement >= 0.9 and found.trained.figures.why.startswith("the head of triage@1")


def test_the_match_of_a_head_is_that_head_where_nothing_changed():
    random = np.random.default_rng(0)
    embeddings = random.normal(0, 1, (300, 8)).astype(np.float32)
    weights, bias = random.normal(0, 1, (8, 3)), random.normal(0, 1, 3)
    found, added = match(embeddings, (embeddings @ weights + bias).astype(np.float32))
    np.testing.assert_allclose(found, weights, atol=0.02)
    np.testing.assert_allclose(added, bias, atol=0.02)
