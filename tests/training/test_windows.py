"""Long texts: windows are read only where the task's texts need them, and serving sees what training saw."""

import numpy as np
import pytest

from insource.backends.specialist import open_specialist
from insource.store.artifacts import ArtifactStore
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.trunks import TrunkRoom
from insource.training.windows import MOST, choose_windows


class Spaced:
    """A trunk of which a window holds ten characters."""

    def windows(self, text, most):
        return [(0,)] * min(max(1, -(-len(text) // 10)), most)


@pytest.mark.parametrize(
    ("lengths", "most", "told"),
    [
        ([10] * 100, 1, ""),
        ([10] * 96 + [25] * 4, 1, "4.0% of the texts are longer than the encoder's one window, and cut off"),
        ([10] * 94 + [25] * 6, 3, "6.0% of the texts are longer than a window, so up to 3 are read"),
        ([10] * 50 + [25] * 48 + [45] * 2, 3,
         "50.0% of the texts are longer than a window, so up to 3 are read; 2.0% are longer still, and cut off"),
        ([500] * 20, MOST, "100.0% of the texts are longer than a window, so up to 8 are read; 100.0% are"),
        ([35], 4, "100.0% of the texts are longer than a window, so up to 4 are read"),
    ],
)  # fmt: skip
def test_as_many_as_most_texts_need(lengths, most, told):
    found = choose_windows(["x" * length for length in lengths], Spaced())
    assert found.most == most and str(found).startswith(told) and bool(told) == bool(str(found))


def test_a_trunk_with_windows_is_another_artifact_that_is_made_once(home, tiny_base, say):
    store = ArtifactStore(home)
    room = TrunkRoom(home, store, say)
    digest = room.ensure(str(tiny_base), "int8")
    wide = room.windowed(digest, 3)
    assert room.windowed(digest, 1) == digest != wide == room.windowed(digest, 3)
    assert (room.get(wide).info.windows, room.get(digest).info.windows) == (3, 1)
    first, second = store.open(digest).manifest, store.open(wide).manifest
    assert {k: v for k, v in first.items() if k != "files"} == {k: v for k, v in second.items() if k != "files"}


@pytest.fixture
def long_lines(tickets):
    """Tickets whose telling words stand at the end of a page of others."""
    filler = "a b c d e f g h " * 5
    return [{**line, "text": filler + line["text"]} for line in tickets(160, told=0.9, words=6)]


def test_what_stands_at_the_end_of_long_texts_is_learned_and_served(trained, examples, long_lines, home, tiny_base):
    done = trained(examples(lines=long_lines), family="encoder-frozen", base=str(tiny_base), precision="int8")
    assert "100.0% of the texts are longer than a window" in done.figures.why
    assert done.figures.test.accuracy > 0.7
    store, room = ArtifactStore(home), TrunkRoom(home, ArtifactStore(home), lambda title: lambda *done: None)
    artifact = store.open(done.version.digest)
    trunk = room.get(artifact.manifest["trunk"])
    assert trunk.info.windows > 1
    served = open_specialist(artifact.folder, artifact.manifest, name="x", digest=None, trunk=room.get)
    texts = [line["text"] for line in long_lines[:40]]
    assert np.array_equal(served.probabilities(texts), np.stack([served.probabilities([text])[0] for text in texts]))
    right = [served.answers.answers[p.argmax()] == line["gold"]
             for p, line in zip(served.probabilities(texts), long_lines, strict=False)]  # fmt: skip
    assert np.mean(right) > 0.7


def test_control_with_one_window_the_end_is_not_seen(home, say, long_lines, tiny_base):
    room = TrunkRoom(home, ArtifactStore(home), say)
    one = room.ensure(str(tiny_base), "int8")
    answers = np.unique([line["gold"] for line in long_lines], return_inverse=True)[1]
    right = {}
    for digest in (one, room.windowed(one, 4)):
        student = EncoderFrozenStudent(room.get(digest), room.embedder(digest))
        prepared = student.prepare([line["text"] for line in long_lines])
        student.fit(prepared, np.arange(120), answers[:120], 3)
        found = student.probabilities(prepared, np.arange(120, 160)).argmax(axis=1)
        right[digest] = np.mean(found == answers[120:])
    assert right[one] < 0.6 < right[room.windowed(one, 4)]
