"""Trunks are built once a home and repaired where they are damaged; embeddings are kept."""

import json
import threading

import numpy as np
import pytest

from insource.errors import ArtifactDamaged, UserError
from insource.store.artifacts import ArtifactStore
from insource.training.tiny_encoder import write_tiny_base
from insource.training.trunks import TrunkRoom


@pytest.fixture
def room(home, say):
    return TrunkRoom(home, ArtifactStore(home), say)


def test_a_trunk_is_built_once(room, home, tiny_base, say):
    digest = room.ensure(str(tiny_base), "int8")
    built = (home / "artifacts" / digest / "model.onnx").stat().st_mtime_ns
    assert TrunkRoom(home, ArtifactStore(home), say).ensure(str(tiny_base), "int8") == digest
    assert (home / "artifacts" / digest / "model.onnx").stat().st_mtime_ns == built
    assert room.ensure(str(tiny_base), "fp32") != digest


def test_other_weights_in_the_same_folder_make_another_trunk(room, tmp_path):
    write_tiny_base(tmp_path / "base", seed=1)
    first = room.ensure(str(tmp_path / "base"), "int8")
    write_tiny_base(tmp_path / "base", seed=2)
    assert room.ensure(str(tmp_path / "base"), "int8") != first


def edit(path, **changed):
    path.parent.mkdir(exist_ok=True)
    told = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(told | changed))


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("config.json", {"layer_norm_eps": 1e-3}),
        ("tokenizer.json", {"normalizer": None}),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}),
        ("sentence_bert_config.json", {"max_seq_length": 16}),
        ("base.json", {"pooling": "cls"}),
    ],
)
def test_another_file_in_the_same_folder_makes_another_trunk(room, tmp_path, file, changed):
    base = tmp_path / "base"
    write_tiny_base(base)
    first = room.ensure(str(base), "fp32")
    edit(base / file, **changed)
    second = room.ensure(str(base), "fp32")
    assert first != second == room.ensure(str(base), "fp32")


def test_a_damaged_trunk_is_built_again_and_never_loaded(room, home, tiny_base):
    digest = room.ensure(str(tiny_base), "int8")
    path = home / "artifacts" / digest / "model.onnx"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactDamaged, match="does not match its digest"):
        room.get(digest)
    assert room.ensure(str(tiny_base), "int8") == digest
    assert room.get(digest).embed_one("my card").shape == (room.get(digest).dimension,)


def test_embeddings_are_kept_and_a_damaged_file_is_made_again(room, home, tiny_base):
    digest = room.ensure(str(tiny_base), "int8")
    embed = room.embedder(digest)
    first = embed(["my card", "refund"], None)
    (kept,) = (home / "cache" / "embeddings").iterdir()
    for damage in (b"", b"no numpy", np.save.__doc__.encode()):
        kept.write_bytes(damage)
        assert np.array_equal(embed(["my card", "refund"], None), first)
    np.save(kept, first[:1])
    assert np.array_equal(embed(["my card", "refund"], None), first)
    assert np.array_equal(np.load(kept), first)


def test_several_runs_may_embed_the_same_texts_at_once(room, home, tiny_base):
    embed = room.embedder(room.ensure(str(tiny_base), "int8"))
    failures, start = [], threading.Barrier(6)

    def run():
        start.wait()
        try:
            embed(["my card", "refund"] * 50, None)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [path.suffix for path in (home / "cache" / "embeddings").iterdir()] == [".npy"]


def test_a_base_that_is_neither_known_nor_a_folder(room):
    expected = "'nobody knows' is neither a folder nor one of all-MiniLM-L6-v2, nor a hub id such as ORG/NAME"
    with pytest.raises(UserError, match=expected):
        room.ensure("nobody knows")
