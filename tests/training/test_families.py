"""Material is made once and when it is first asked for; what was embedded is served from memory."""

import numpy as np
import pytest

from insource.errors import UserError
from insource.store.artifacts import ArtifactStore
from insource.training.families import CHOICES, Known, Material, check_family
from insource.training.trunks import TrunkRoom


def test_an_unknown_family_is_refused_with_the_known_ones():
    assert [check_family(name) for name in CHOICES] == list(CHOICES)
    with pytest.raises(
        UserError, match="--family is 'svm'; one of auto, linear, static, two-tier, encoder-frozen was expected"
    ):
        check_family("svm")


def test_the_linear_family_opens_no_trunk(say):
    material = Material(["a b", "c d"], lambda: pytest.fail("a trunk was asked for"), say, "nowhere")
    _, first = material.linear()
    _, second = material.of("linear")
    assert first is second and material.trunk_digest is None


def test_an_encoder_is_built_once_in_the_precision_chosen(home, tiny_base, say):
    asked = []

    def choose(student):
        asked.append(student)
        return "fp32"

    room = TrunkRoom(home, ArtifactStore(home), say)
    material = Material(["my card", "refund"], lambda: room, say, str(tiny_base), choose)
    student, embeddings = material.encoder()
    again, same = material.of("two-tier")[0].encoder, material.of("two-tier")[1].embeddings
    assert len(asked) == 1 and same is embeddings and again.trunk is student.trunk
    assert room.get(material.trunk_digest).info.precision == "fp32"


def test_an_encoder_is_told_the_labels_whose_words_it_may_learn_from(home, tiny_base, say):
    room = TrunkRoom(home, ArtifactStore(home), say)
    material = Material(["my card", "refund"], lambda: room, say, str(tiny_base))
    assert material.encoder(("a", "b"))[0].labels == ("a", "b")
    assert material.of("encoder-frozen", ("a", "b"))[0].labels == ("a", "b")
    assert material.of("two-tier", ("a", "b"))[0].encoder.labels == ("a", "b")


def test_known_texts_are_looked_up_and_others_embedded(tiny_trunk):
    class Counting:
        dimension = tiny_trunk.dimension
        asked = 0

        def embed_one(self, text):
            self.asked += 1
            return tiny_trunk.embed_one(text)

    counting = Counting()
    texts = ["my card", "refund", "my card"]
    known = Known(counting, texts, tiny_trunk.embed(texts))
    assert np.array_equal(known.embed([*texts, "new"]), tiny_trunk.embed([*texts, "new"]))
    assert counting.asked == 1 and known.dimension == tiny_trunk.dimension
    assert known.embed([]).shape == (0, tiny_trunk.dimension)
