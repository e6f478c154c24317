"""The trunk: the same numbers alone and in a list, explicit truncation, odd texts, damaged folders."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insource.backends.onnx import Trunk, Trunks, default_threads
from insource.errors import ArtifactDamaged
from insource.training.encoder_graph import build_trunk
from insource.training.tiny_encoder import write_tiny_base

TEXTS = ["where is my card?", "", "lost", "x" * 500, "a b c", "Where?", "\x00\x01", "lost card " * 30, "é ü 漢字"]


@pytest.fixture(scope="module", params=["int8", "fp32"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    build_trunk(write_tiny_base(place / "base"), place / "trunk", request.param)
    return place / "trunk"


@pytest.fixture(scope="module")
def trunk(folder):
    return Trunk.load(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_equals_the_text_alone(trunk, threads):
    texts = TEXTS * 12
    rows = trunk.embed(texts, threads=threads)
    assert rows.dtype == np.float32 and rows.shape == (len(texts), trunk.dimension)
    for text, row in zip(texts, rows, strict=True):
        assert (row == trunk.embed_one(text)).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(), max_size=6))
def test_any_texts_have_blocks_of_length_one_that_do_not_depend_on_neighbours(trunk, texts):
    rows = trunk.embed(texts)
    blocks = rows.reshape(len(texts), trunk.blocks, trunk.sentence_dimension)
    np.testing.assert_allclose(np.linalg.norm(blocks, axis=2), 1, atol=1e-5)
    assert all((row == trunk.embed_one(text)).all() for text, row in zip(texts, rows, strict=True))


def test_different_texts_have_different_vectors(trunk):
    assert not np.allclose(trunk.embed_one("lost card"), trunk.embed_one("where"))


def test_no_texts_give_no_rows(trunk):
    assert trunk.embed([]).shape == (0, trunk.dimension)


def test_progress_counts_up_to_all(trunk):
    seen = []
    trunk.embed(TEXTS * 10, threads=2, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (90, 90)


def test_a_failing_text_ends_the_list(trunk):
    with pytest.raises(TypeError):
        trunk.embed(["lost", None, "card"])


def test_a_long_text_is_cut_and_says_so(trunk):
    short, long = trunk.tokens("lost card"), trunk.tokens("lost card " * 40)
    assert not short.truncated and len(short.ids) == 4
    assert long.truncated and len(long.ids) == trunk.info.max_tokens
    assert long.ids[-1] == short.ids[-1], "the closing mark stays"
    assert (trunk.embed_one("lost card " * 40) == trunk.embed_one("lost card " * 40 + "where")).all()


def test_a_text_that_just_fits_is_not_cut(trunk):
    room = trunk.info.max_tokens - 2
    assert not trunk.tokens("lost " * room).truncated
    assert trunk.tokens("lost " * (room + 1)).truncated


def test_the_padding_and_the_limit_of_the_tokenizer_file_do_not_count(folder, trunk):
    stated = json.loads((folder / "tokenizer.json").read_text())
    assert stated["padding"]["strategy"] == {"Fixed": 8} and stated["truncation"]["max_length"] == 8
    assert len(trunk.tokens("lost").ids) == 3
    assert len(trunk.tokens("lost " * 12).ids) == 14


def test_ten_megabytes_are_read_only_at_their_start(trunk):
    limit = trunk.info.max_tokens * 20
    text = "a" * limit + " lost" * 2_000_000
    assert trunk.tokens(text).ids == trunk.tokens("a" * limit).ids
    assert trunk.tokens(text).truncated
    assert np.isfinite(trunk.embed_one(text)).all()


def test_a_lone_surrogate_is_read_as_a_question_mark(trunk):
    assert trunk.tokens("lost \ud800").ids == trunk.tokens("lost ?").ids


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "trunk.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "noise", "half"])
def test_a_damaged_file_is_refused(copy, name, damage):
    path = copy / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "noise": b"\xff\x00" * 99, "half": content[: len(content) // 2]}[damage])
    with pytest.raises(ArtifactDamaged, match="expected model.onnx, tokenizer.json and trunk.json"):
        Trunk.load(copy)


@pytest.mark.parametrize(
    "change",
    [{"dimension": 33}, {"dimension": "32"}, {"max_tokens": 2}, {"max_tokens": 4000}, {"max_tokens": 2.5}, {"more": 1}],
)
def test_a_trunk_json_that_does_not_fit_the_model_is_refused(copy, change):
    info = json.loads((copy / "trunk.json").read_text())
    (copy / "trunk.json").write_text(json.dumps({**info, **change}))
    with pytest.raises(ArtifactDamaged):
        Trunk.load(copy)


def test_a_tokenizer_with_more_words_than_the_model_is_refused(copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["extra"] = len(tokenizer["model"]["vocab"])
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ArtifactDamaged):
        Trunk.load(copy)


def test_a_model_with_data_outside_its_file_is_refused(copy):
    model = onnx.load(copy / "model.onnx")
    onnx.save(model, copy / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (copy / "weights.bin").is_file()
    with pytest.raises(ArtifactDamaged, match="another file"):
        Trunk.load(copy)


def test_trunks_of_one_digest_are_loaded_once(folder):
    opened = []

    def open_artifact(digest):
        opened.append(digest)
        return folder

    trunks = Trunks(open_artifact)
    assert trunks.get("one") is trunks.get("one")
    assert trunks.get("two") is not trunks.get("one")
    assert opened == ["one", "two"]


def test_a_trunk_that_failed_is_tried_again(folder, tmp_path):
    places = [tmp_path / "nothing", folder]
    trunks = Trunks(lambda digest: places.pop(0))
    with pytest.raises(ArtifactDamaged):
        trunks.get("one")
    assert (trunks.get("one").dimension, trunks.get("one").sentence_dimension) == (64, 32)


def test_no_more_than_two_threads_by_default():
    assert default_threads() in (1, 2)


def test_importing_the_file_loads_no_runtime():
    code = "import sys, insource.backends.onnx; print(sorted({'onnx', 'onnxruntime', 'tokenizers'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_two_texts_in_one_run_would_get_other_numbers(tmp_path):
    """Why every text has a run of its own: int8 rounds activations by the largest value of the whole run."""
    build_trunk(write_tiny_base(tmp_path / "base"), tmp_path / "trunk", "int8")
    trunk = Trunk.load(tmp_path / "trunk")
    texts = ["lost card", "where card"]
    together = trunk._session.run(None, {"input_ids": np.array([trunk.tokens(text).ids for text in texts], np.int32)})[
        0
    ]
    assert not all((row == trunk.embed_one(text)).all() for text, row in zip(texts, together, strict=True))
