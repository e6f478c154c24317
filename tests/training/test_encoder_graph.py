"""The graph against a plain numpy BERT, its bytes, and the base models it refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from insource.backends.onnx import Trunk
from insource.errors import DataError
from insource.training.base_models import from_folder
from insource.training.encoder_graph import build_trunk, read_layers
from insource.training.encoder_weights import quantise
from insource.training.tiny_encoder import HIDDEN, write_tiny_base

TEXTS = ["where is my card?", "lost", "", "a, b. c!", "the card is lost and nobody is asking where 1234567890"]


def reference(folder: Path, ids: tuple[int, ...], heads: int = 4, pooling: str = "mean") -> np.ndarray:
    """BERT (Devlin et al. 2019) in float64 and as few lines as it takes; then the blocks, each of length 1."""
    tensors = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}

    def dense(name, x):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def split(x):
        return x.reshape(len(ids), heads, -1).transpose(1, 0, 2)

    x = tensors["embeddings.word_embeddings.weight"][list(ids)]
    x = x + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + tensors["embeddings.token_type_embeddings.weight"][0])
    layer, means = 0, []
    while f"encoder.layer.{layer}.output.dense.weight" in tensors:
        name = f"encoder.layer.{layer}"
        query, key, value = (split(dense(f"{name}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        logits = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(f"{name}.attention.output.LayerNorm", x + dense(f"{name}.attention.output.dense", context))
        wide = dense(f"{name}.intermediate.dense", x)
        active = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(f"{name}.output.LayerNorm", x + dense(f"{name}.output.dense", active))
        layer += 1
        means.append(x.mean(0))
    blocks = [means[number - 1] for number in read_layers(layer)]
    blocks[-1] = x.mean(0) if pooling == "mean" else x[0]
    return np.concatenate([block / np.linalg.norm(block) for block in blocks])


@pytest.mark.parametrize(("layers", "read"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (6, (2, 4, 6)), (12, (4, 8, 12))])
def test_an_encoder_is_read_after_each_third_of_its_layers(tmp_path, layers, read):
    assert read_layers(layers) == read
    if layers <= 3:
        base = write_tiny_base(tmp_path / "base", layers=layers)
        build_trunk(base, tmp_path / "trunk", "fp32")
        trunk = Trunk.load(tmp_path / "trunk")
        expected = reference(base.folder, trunk.tokens("lost card").ids)
        np.testing.assert_allclose(trunk.embed_one("lost card"), expected, atol=1e-5)
        assert trunk.blocks == len(read) and np.array_equal(
            trunk.sentence_one("lost card"), trunk.embed_one("lost card")[-HIDDEN:]
        )


@pytest.mark.parametrize("text", TEXTS)
def test_the_graph_equals_a_plain_bert(tmp_path, text):
    base = write_tiny_base(tmp_path / "base")
    build_trunk(base, tmp_path / "trunk", "fp32")
    trunk = Trunk.load(tmp_path / "trunk")
    expected = reference(base.folder, trunk.tokens(text).ids)
    np.testing.assert_allclose(trunk.embed_one(text), expected, atol=1e-5)


def test_the_comparison_notices_one_wrong_weight(tmp_path):
    base = write_tiny_base(tmp_path / "base")
    build_trunk(base, tmp_path / "trunk", "fp32")
    tensors = load_file(base.folder / "model.safetensors")
    tensors["encoder.layer.1.attention.self.key.weight"][3, 5] += 0.5
    save_file(tensors, base.folder / "model.safetensors")
    trunk = Trunk.load(tmp_path / "trunk")
    expected = reference(base.folder, trunk.tokens("where is my card?").ids)
    assert np.abs(trunk.embed_one("where is my card?") - expected).max() > 1e-5


def test_the_first_token_can_be_the_embedding(tmp_path):
    folder = write_tiny_base(tmp_path / "base").folder
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    build_trunk(from_folder(folder), tmp_path / "trunk", "fp32")
    trunk = Trunk.load(tmp_path / "trunk")
    expected = reference(folder, trunk.tokens("lost card").ids, pooling="cls")
    np.testing.assert_allclose(trunk.embed_one("lost card"), expected, atol=1e-5)


def test_int8_stays_near_fp32_and_is_smaller(tmp_path):
    base = write_tiny_base(tmp_path / "base")
    vectors = {}
    for precision in ("fp32", "int8"):
        build_trunk(base, tmp_path / precision, precision)
        vectors[precision] = Trunk.load(tmp_path / precision).embed(TEXTS)
    cosine = (vectors["fp32"] * vectors["int8"]).reshape(len(TEXTS), -1, HIDDEN).sum(2)
    assert cosine.min() > 0.99
    assert (vectors["fp32"] != vectors["int8"]).any()
    sizes = {name: (tmp_path / name / "model.onnx").stat().st_size for name in vectors}
    assert sizes["int8"] < sizes["fp32"]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_same_base_gives_the_same_bytes(tmp_path, precision):
    base = write_tiny_base(tmp_path / "base")
    build_trunk(base, tmp_path / "one", precision)
    build_trunk(base, tmp_path / "two", precision)
    other = write_tiny_base(tmp_path / "other-base", seed=1)
    build_trunk(other, tmp_path / "other", precision)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["model.onnx", "tokenizer.json", "trunk.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "model.onnx").read_bytes() != (tmp_path / "other" / "model.onnx").read_bytes()


def test_progress_ends_at_the_last_step(tmp_path):
    seen = []
    build_trunk(
        write_tiny_base(tmp_path / "base"), tmp_path / "trunk", "int8", lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_another_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="int2"):
        build_trunk(write_tiny_base(tmp_path / "base"), tmp_path / "trunk", "int2")


def test_weights_under_a_bert_prefix_are_the_same_encoder(tmp_path):
    plain, prefixed = write_tiny_base(tmp_path / "plain"), write_tiny_base(tmp_path / "prefixed")
    tensors = load_file(prefixed.folder / "model.safetensors")
    save_file({f"bert.{name}": value for name, value in tensors.items()}, prefixed.folder / "model.safetensors")
    build_trunk(plain, tmp_path / "one", "fp32")
    build_trunk(prefixed, tmp_path / "two", "fp32")
    assert (tmp_path / "one" / "model.onnx").read_bytes() == (tmp_path / "two" / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mpnet"}, "'mpnet'; one of bert, roberta, xlm-roberta, camembert, distilbert can be built"),
        ({"model_type": ["bert"]}, "one of bert"),
        ({"model_type": "roberta", "pad_token_id": "one"}, "pad_token_id = 'one'"),
        ({"hidden_act": "gelu_new"}, "gelu_new"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"hidden_size": "wide"}, "cannot be read"),
        ({"num_attention_heads": 5}, "5 heads"),
        ({"hidden_size": 64}, r"has shape"),
        ({"num_hidden_layers": 3}, "layer.2.*is missing"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_refused(tmp_path, change, message):
    base = write_tiny_base(tmp_path / "base")
    config = json.loads((base.folder / "config.json").read_text())
    (base.folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(DataError, match=message):
        build_trunk(base, tmp_path / "trunk", "int8")


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, b'{"a":'])
def test_weights_that_are_no_safetensors_are_refused(tmp_path, damage):
    base = write_tiny_base(tmp_path / "base")
    (base.folder / "model.safetensors").write_bytes(damage)
    with pytest.raises(DataError, match="safetensors"):
        build_trunk(base, tmp_path / "trunk", "int8")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    base = write_tiny_base(tmp_path / "base")
    tensors = load_file(base.folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.bias"][0] = np.nan
    save_file(tensors, base.folder / "model.safetensors")
    with pytest.raises(DataError, match="not finite"):
        build_trunk(base, tmp_path / "trunk", "int8")


def test_quantised_columns_keep_half_a_step_and_cannot_saturate():
    matrix = np.random.default_rng(0).normal(0, 1, (HIDDEN, 7)).astype(np.float32)
    matrix[:, 3] = 0
    result = quantise(matrix, axis=1, limit=64)
    assert result.scale.shape == (7,)
    assert np.abs(result.values * result.scale - matrix).max() <= result.scale.max() / 2 + 1e-6
    assert 2 * 255 * int(np.abs(result.values).max()) <= np.iinfo(np.int16).max
    assert not result.values[:, 3].any()
