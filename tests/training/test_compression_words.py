"""Rows held out are read as new requests are: words that only their own fold uses are read as others."""

import numpy as np
import pytest

from insource.backends.onnx import Trunk
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.compression.held_out_words import ApartMaterial
from insource.training.compression.prune_vocabulary import prune_vocabulary
from insource.training.compression.sample import tokens_of
from insource.training.compression.smaller import How, make_smaller
from insource.training.compression.sources import base_of, find_source
from insource.training.encoder_graph import build_trunk
from insource.training.run import Workshop
from insource.training.splits import folds
from insource.training.trunks import TrunkRoom

from .conftest import NOON, as_examples

ALONE = "the card is going"
"""Only this text uses the piece ##ing."""


@pytest.fixture
def made(trained, tickets, tiny_base, tmp_path, home, say, request):
    """A source with one text that uses a piece of its own, and its material with words taken out.

    Of 80 rows by default, whose answers' words are not learned from; a parameter says how many, and what "refund" is
    called.
    """
    number, refund = getattr(request, "param", (80, "refund"))
    lines = [line | {"answer": line["answer"].replace("refund", refund)} for line in tickets(number)]
    lines.append({"text": ALONE, "answer": "card"})
    version = trained(as_examples(lines), family="encoder-frozen", base=str(tiny_base), precision="fp32").version
    artifacts = ArtifactStore(home)
    with Registry.open(home) as registry:
        shop = Workshop(home, registry, artifacts, TrunkRoom(home, artifacts, say), say, lambda: NOON)
        source = find_source(version, artifacts.open(version.digest), home)
        base, how = base_of(source, shop.room), How(vocabulary=True)
        (tmp_path / "scratch").mkdir()
        smaller = make_smaller(source, base, how, shop, tmp_path / "scratch", lambda digest: None)
        yield source, base, ApartMaterial(source, shop, smaller)


def test_a_row_held_out_reads_as_a_new_request(made, tmp_path):
    source, base, material = made
    texts, learn = source.snapshot.texts, source.split.learn
    row = texts.index(ALONE)
    assert row in learn
    student, prepared = material.encoder()
    changed = np.flatnonzero((prepared.seen != prepared.held_out).any(axis=1))
    assert changed.tolist() == [row]
    placed = folds(source.snapshot.groups[learn], source.recipe.seed)
    others = [texts[i] for i in learn[placed != placed[learn == row]]]
    build_trunk(prune_vocabulary(base, tmp_path / "others", tokens_of(base, others)), tmp_path / "trunk", "fp32")
    as_new = Trunk.load(tmp_path / "trunk").embed_one(ALONE)
    np.testing.assert_allclose(prepared.held_out[row], as_new, atol=1e-6)
    np.testing.assert_array_equal(prepared.seen[row], student.trunk.embed_one(ALONE))


def test_a_student_learns_from_rows_as_they_are_and_answers_for_them_as_new(made):
    source, _, material = made
    student, prepared = material.encoder()
    rows, classes = source.split.learn, source.snapshot.classes
    fitted = student.fit(prepared, rows, classes[rows], len(source.snapshot.answers))
    row = source.snapshot.texts.index(ALONE)
    engine = fitted.engine()
    np.testing.assert_allclose(
        fitted.probabilities(prepared, np.array([row]))[0], engine.of_embedding(prepared.held_out[row]), atol=1e-6
    )
    assert not np.allclose(engine.of_embedding(prepared.held_out[row]), engine.of_embedding(prepared.seen[row]))


@pytest.mark.parametrize(
    ("made", "kept"), [((40, "where_going"), True), ((80, "where_going"), False)], indirect=["made"]
)
def test_the_words_of_answers_that_are_learned_from_stay(made, tmp_path, kept):
    """No text uses the word `where`, and one alone the piece ##ing; few rows learn from both, as of an answer."""
    source, base, material = made
    assert sorted(source.words) == (["card", "transfer", "where going"] if kept else [])
    student, prepared = material.encoder()
    build_trunk(base, tmp_path / "whole", "fp32")
    whole, words = Trunk.load(tmp_path / "whole"), "where going"
    assert np.array_equal(student.trunk.embed_one(words), whole.embed_one(words)) == kept
    row = source.snapshot.texts.index(ALONE)
    assert row in source.split.learn
    assert np.array_equal(prepared.seen[row], prepared.held_out[row]) == kept
