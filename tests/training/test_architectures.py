"""Encoders that are BERT but for names and numbers: the same numbers as transformers gives, and BERT once written."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from insource.backends.onnx import Trunk
from insource.errors import DataError
from insource.training import architectures
from insource.training.architectures import ARCHITECTURES, POSITIONS, as_bert, as_bert_config
from insource.training.base_models import from_folder, write_base
from insource.training.compression.checkpoint import Checkpoint
from insource.training.encoder_graph import build_trunk
from insource.training.encoder_weights import Weights, read_shape
from tests.training.other_architectures import (
    CONFIGS,
    HIDDEN,
    IDS,
    NUMBERS,
    WORDS,
    write_checkpoint,
)
from tests.training.other_architectures import (
    POSITIONS as PLACES,
)

EXPECTED = {kind: np.array(found) for kind, found in json.loads(NUMBERS.read_text()).items()}


def base_of(folder, kind):
    """A checkpoint with a tokenizer whose word number 5 is w5."""
    write_checkpoint(folder, kind)
    words = {f"w{number}": number for number in range(WORDS)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "w3"}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": None, "post_processor": None}))
    return from_folder(folder)


def sentences(base, folder):
    """The base model's own embeddings of IDS, as the serving engine computes them."""
    build_trunk(replace(base, blocks=1), folder, "fp32")
    trunk = Trunk.load(folder)
    return np.array([trunk.embed_one(" ".join(f"w{number}" for number in ids)) for ids in IDS])


def of_length_one(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_graph_gives_what_transformers_gives(tmp_path, kind):
    base = base_of(tmp_path / "base", kind)
    np.testing.assert_allclose(sentences(base, tmp_path / "trunk"), of_length_one(EXPECTED[kind]), atol=1e-5)
    offset = {"roberta": 2, "xlm-roberta": 4, "camembert": 2}.get(kind, 0)
    assert read_shape(base.folder).positions == PLACES - offset


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_network_for_tuning_gives_it_too(tmp_path, kind):
    torch = pytest.importorskip("torch")
    from insource.training.tuning.batches import Batch
    from insource.training.tuning.network import Network

    base = base_of(tmp_path / "base", kind)
    weights = Weights.read(base.folder / "model.safetensors")
    network = Network(weights, read_shape(base.folder), pooling="mean", max_tokens=16, dropout=0.1).eval()
    batch = Batch(np.concatenate(IDS), np.array([len(ids) for ids in IDS]), np.arange(len(IDS)))
    with torch.inference_mode():
        np.testing.assert_allclose(network(batch).numpy(), of_length_one(EXPECTED[kind]), atol=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_the_comparison_notices_names_and_positions_read_as_bert_s(tmp_path, monkeypatch, kind):
    base = base_of(tmp_path / "base", kind)
    monkeypatch.setitem(architectures.ARCHITECTURES, kind, replace(ARCHITECTURES[kind], padded=False, names={}))
    try:
        found = sentences(base, tmp_path / "trunk")
    except DataError as error:
        assert kind == "distilbert" and "is missing" in str(error)
    else:
        assert np.abs(found - of_length_one(EXPECTED[kind])).max() > 1e-2


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_written_is_a_bert_and_gives_the_same(tmp_path, kind):
    base = base_of(tmp_path / "base", kind)
    tensors = Weights.read(base.folder / "model.safetensors").used()
    own = write_base(tmp_path / "own", base, tensors, name="own")
    again = Checkpoint.read(own).write(tmp_path / "again")
    assert json.loads((again.folder / "config.json").read_text())["model_type"] == "bert"
    assert load_file(again.folder / "model.safetensors").keys() == tensors.keys()
    np.testing.assert_allclose(sentences(again, tmp_path / "trunk"), of_length_one(EXPECTED[kind]), atol=1e-5)
    direct = Checkpoint.read(base).write(tmp_path / "direct")
    assert (direct.folder / "config.json").read_bytes() == (again.folder / "config.json").read_bytes()


def test_a_config_of_bert_s_stays_as_it_is():
    assert as_bert_config(CONFIGS["bert"]) == CONFIGS["bert"] | {"model_type": "bert"}
    assert as_bert({POSITIONS: np.ones((5, HIDDEN))}, {})[POSITIONS].shape == (5, HIDDEN)
