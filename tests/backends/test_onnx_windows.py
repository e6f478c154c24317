"""Texts longer than a trunk's window: read to a stated length, pooled, and as before where one window is enough."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insource.backends.onnx import MOST_WINDOWS, Trunk, TrunkInfo
from insource.errors import ArtifactDamaged
from insource.training.base_models import from_folder
from insource.training.encoder_graph import build_trunk

LOST = "lost " * 60


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory):
    place = tmp_path_factory.mktemp("trunk")
    build_trunk(from_folder(tiny_base), place, "int8")
    return place


def changed(folder, place, **told):
    shutil.copytree(folder, place)
    info = json.loads((place / "trunk.json").read_text())
    (place / "trunk.json").write_text(json.dumps({**info, **told}))
    return place


@pytest.fixture(scope="module")
def one(folder):
    return Trunk.load(folder)


@pytest.fixture(scope="module")
def three(folder, tmp_path_factory):
    return Trunk.load(changed(folder, tmp_path_factory.mktemp("three") / "trunk", windows=3))


def test_a_trunk_of_one_window_says_nothing_of_windows(folder, one):
    """So the digests of trunks from before there were several stand."""
    assert "windows" not in json.loads((folder / "trunk.json").read_text()) and one.info.windows == 1
    (folder / "again.json").write_text(one.info.to_json())
    assert (folder / "again.json").read_bytes() == (folder / "trunk.json").read_bytes()
    assert TrunkInfo.read(folder / "again.json") == one.info


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=18))
def test_what_fits_one_window_has_the_same_embedding_with_several(one, three, text):
    assert len(three.windows(text, 3)) == 1
    assert (one.embed_one(text) == three.embed_one(text)).all()


def test_windows_cover_the_text_and_overlap(three):
    most, shared = three.info.max_tokens, three.info.max_tokens // 8
    windows = three.windows(LOST, 9)
    inner = [ids[1:-1] for ids in windows]
    assert all(ids[0] == windows[0][0] and ids[-1] == windows[0][-1] and len(ids) <= most for ids in windows)
    assert shared > 0 and sum(map(len, inner)) - shared * (len(inner) - 1) == 60
    assert windows[0] == three.tokens(LOST).ids
    assert len(three.windows(LOST, 2)) == 2 == len(three.windows(LOST * 1_000, 2))


def test_the_embedding_is_the_weighed_mean_of_the_windows_with_blocks_of_length_one(one, three):
    text = "lost card " * 13 + "where is my refund"
    windows = three.windows(text, 3)
    assert len(windows) == 2 and len(windows[0]) > len(windows[1])
    mean = sum(len(ids) * one._run(ids) for ids in windows).reshape(three.blocks, -1)
    wanted = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(three.embed_one(text).reshape(three.blocks, -1), wanted, atol=1e-6)
    assert three.embed_one(text).dtype == np.float32


def test_the_end_of_a_long_text_counts_up_to_the_last_window(one, three):
    ends = ["lost " * 30 + end for end in ("card", "refund")]
    assert (one.embed_one(ends[0]) == one.embed_one(ends[1])).all()
    assert not (three.embed_one(ends[0]) == three.embed_one(ends[1])).all()
    beyond = ["lost " * 90 + end for end in ("card", "refund")]
    assert (three.embed_one(beyond[0]) == three.embed_one(beyond[1])).all()


def test_a_row_equals_the_text_alone(three):
    texts = ["", LOST, "where is my card?", "lost card " * 30, "é ü 漢字" * 30] * 8
    assert all((row == three.embed_one(text)).all() for text, row in zip(texts, three.embed(texts), strict=True))


@pytest.mark.parametrize("windows", [0, -1, MOST_WINDOWS + 1, 2.0, True, None])
def test_a_number_of_windows_that_is_none_is_refused(folder, tmp_path, windows):
    with pytest.raises(ArtifactDamaged, match="windows is"):
        Trunk.load(changed(folder, tmp_path / "trunk", windows=windows))
