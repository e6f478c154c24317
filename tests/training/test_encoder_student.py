import numpy as np
import pytest

from insource.backends.encoder import EncoderEngine
from insource.store.artifacts import ArtifactStore
from insource.training.students.conformance import check_student
from insource.training.students.encoder import EncoderStudent
from insource.training.tiny_encoder import write_tiny_base
from insource.training.trunks import TrunkRoom
from insource.training.tuning.settings import Settings

TEXTS = [f"{word} card {number}" for number in range(8) for word in ("lost", "where", "stolen?")]
CLASSES = np.array([0, 1, 2] * 8)
QUICK = Settings(epochs=2, batch=8)


def _silent(_):
    return lambda done, total: None


@pytest.fixture
def room(tmp_path):
    return TrunkRoom(tmp_path / "home", ArtifactStore(tmp_path / "home"), _silent)


@pytest.fixture
def base(tmp_path):
    return write_tiny_base(tmp_path / "base")


def test_it_is_a_sound_student(room, base):
    made = []

    def make():
        made.append(EncoderStudent(room, base, settings=QUICK, precision="fp32"))
        return made[-1]

    def opened(folder):
        fitted = next(each for each in made if hasattr(each, "trunk_"))
        return EncoderEngine.load(folder, room.get(fitted.trunk_))

    check_student(make, TEXTS, CLASSES, open_engine=opened)
