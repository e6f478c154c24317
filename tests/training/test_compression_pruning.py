"""Taking parts out of an encoder: what stays is what it was, what goes is what costs least, texts still read."""

import json

import numpy as np
import pytest

from insource.backends.onnx import Reader, Trunk
from insource.errors import DataError, UserError
from insource.training.compression.checkpoint import Checkpoint
from insource.training.compression.forward import Sample, active, dense, gram, normed
from insource.training.compression.prune_heads import prune_heads, without
from insource.training.compression.prune_layers import kept_layers, prune_layers
from insource.training.compression.prune_vocabulary import nearest, prune_vocabulary
from insource.training.compression.prune_width import prune_width
from insource.training.compression.repair import Surgeon, refit
from insource.training.encoder_graph import build_trunk
from insource.training.encoder_weights import read_shape
from insource.training.tiny_encoder import HIDDEN, write_tiny_base

TEXTS = ["where is my card?", "lost", "a, b. c!", "the card is lost and nobody is asking", "who has 4 cards or 5?"]


@pytest.fixture
def base(tmp_path):
    return write_tiny_base(tmp_path / "base", layers=3)


def ids_of(base, texts=TEXTS):
    reader = Reader(base.folder / "tokenizer.json", base.max_tokens)
    return [reader.tokens(text).ids for text in texts]


def embed(base, folder, texts=TEXTS):
    build_trunk(base, folder, "fp32")
    return Trunk.load(folder).embed(texts)


def change(base, name, edit):
    """Write the base with an edit of its checkpoint beside it."""
    checkpoint = Checkpoint.read(base)
    edit(checkpoint)
    return checkpoint.write(base.folder.parent / name)


def test_numpy_gives_what_the_graph_gives(base, tmp_path):
    checkpoint = Checkpoint.read(base)
    for text, ids in zip(TEXTS, ids_of(base), strict=True):
        sample = Sample([ids])
        hidden = sample.embedded(checkpoint)
        for number in range(3):
            layer = checkpoint.layer(number)
            summed = hidden + dense(sample.context(layer, hidden, 8), layer, "attention.output.dense")
            middle = normed(summed, layer, "attention.output.LayerNorm", 1e-12)
            narrow = middle + dense(active(layer, middle), layer, "output.dense")
            hidden = normed(narrow, layer, "output.LayerNorm", 1e-12)
        mean = hidden.mean(axis=0)
        np.testing.assert_allclose(
            embed(base, tmp_path / "trunk", [text])[0, -HIDDEN:], mean / np.linalg.norm(mean), atol=1e-5
        )


def test_texts_of_several_lengths_do_not_mix(base):
    checkpoint, layer = Checkpoint.read(base), Checkpoint.read(base).layer(0)
    together, alone = Sample(ids_of(base)), [Sample([ids]) for ids in sorted(ids_of(base), key=len)]
    apart = [one.context(layer, one.embedded(checkpoint), 8) for one in alone]
    np.testing.assert_allclose(
        together.context(layer, together.embedded(checkpoint), 8), np.concatenate(apart), atol=1e-5
    )


def test_layers_that_stay_are_what_they_were(base, tmp_path):
    whole = embed(base, tmp_path / "whole").reshape(len(TEXTS), 3, HIDDEN)
    two = embed(prune_layers(base, tmp_path / "two", (0, 1)), tmp_path / "first").reshape(len(TEXTS), 2, HIDDEN)
    np.testing.assert_array_equal(whole[:, :2], two)
    other = embed(prune_layers(base, tmp_path / "other", (0, 2)), tmp_path / "skipped").reshape(len(TEXTS), 2, HIDDEN)
    np.testing.assert_array_equal(whole[:, 0], other[:, 0])
    assert np.abs(whole[:, 2] - other[:, 1]).max() > 0.01


def test_a_layer_before_a_gap_gives_what_came_out_behind_it(base, tmp_path):
    whole = embed(base, tmp_path / "whole")[:, -HIDDEN:]
    far = []
    for name, keep, ids in (("bridged", (0,), ids_of(base)), ("plain", (0,), None)):
        less = embed(prune_layers(base, tmp_path / name, keep, ids), tmp_path / f"{name} trunk")
        far.append(np.abs(less - whole).mean())
    assert far[0] < 0.4 * far[1]


@pytest.mark.parametrize(
    ("count", "layers", "kept"),
    [(1, 6, [0]), (2, 6, [0, 5]), (3, 6, [0, 3, 5]), (4, 6, [0, 2, 4, 5]), (6, 6, [0, 1, 2, 3, 4, 5]), (1, 1, [0])],
)
def test_the_first_layer_stays_then_the_last_then_others_between(count, layers, kept):
    assert kept_layers(count, layers) == kept


@pytest.mark.parametrize("keep", [(), (3,), (1, 0), (0, 0), (-1, 0)])
def test_layers_that_are_not_there_cannot_stay(base, tmp_path, keep):
    with pytest.raises(UserError, match="some of 0 to 2"):
        prune_layers(base, tmp_path / "left", keep)


def test_a_layer_without_heads_is_one_whose_heads_are_not_heard(base, tmp_path):
    def silence(checkpoint):
        checkpoint.tensors["encoder.layer.1.attention.output.dense.weight"][:, 8:24] = 0

    def cut(checkpoint):
        checkpoint.put_layer(1, without(checkpoint.layer(1), [1, 2], 8))
        checkpoint.config["pruned_heads"] = {"1": [1, 2]}

    silent, less = change(base, "silent", silence), change(base, "less", cut)
    assert read_shape(less.folder).kept_heads == (4, 2, 4)
    np.testing.assert_allclose(embed(less, tmp_path / "a"), embed(silent, tmp_path / "b"), atol=1e-5)
    for precision, least in (("int8", 0.98), ("int4", 0.8)):
        build_trunk(less, tmp_path / precision, precision)
        near = (Trunk.load(tmp_path / precision).embed(TEXTS) * embed(silent, tmp_path / "b")).sum(1) / 3
        assert near.min() > least


def test_a_head_that_is_not_heard_goes_first_and_costs_nothing(base, tmp_path):
    def silence(checkpoint):
        for layer, head in ((0, 3), (2, 0), (2, 2)):
            checkpoint.tensors[f"encoder.layer.{layer}.attention.output.dense.weight"][:, 8 * head : 8 * head + 8] = 0

    silent = change(base, "silent", silence)
    less = prune_heads(silent, tmp_path / "less", 0.25, ids_of(base))
    assert json.loads((less.folder / "config.json").read_text())["pruned_heads"] == {"0": [3], "2": [0, 2]}
    np.testing.assert_allclose(embed(less, tmp_path / "a"), embed(silent, tmp_path / "b"), atol=1e-3)


def test_heads_go_on_being_counted_as_in_the_whole_encoder(base, tmp_path):
    once = prune_heads(base, tmp_path / "once", 0.25, ids_of(base))
    twice = prune_heads(once, tmp_path / "twice", 0.3, ids_of(base))
    first, second = (json.loads((each.folder / "config.json").read_text())["pruned_heads"] for each in (once, twice))
    assert sum(map(len, first.values())) == 3 and sum(map(len, second.values())) == 6
    assert all(set(heads) <= set(second[layer]) < {0, 1, 2, 3} for layer, heads in first.items())
    less = prune_layers(twice, tmp_path / "layers", (1, 2))
    assert read_shape(less.folder).kept_heads == read_shape(twice.folder).kept_heads[1:]
    assert np.isfinite(embed(less, tmp_path / "trunk")).all()


def test_every_layer_keeps_a_head(base, tmp_path):
    less = prune_heads(base, tmp_path / "less", 0.99, ids_of(base))
    assert read_shape(less.folder).kept_heads == (1, 1, 1)


@pytest.mark.parametrize("gone", [{"0": [0, 1, 2, 3]}, {"0": [4]}, {"3": [0]}, {"x": [0]}])
def test_heads_that_cannot_be_gone_are_refused(base, gone):
    config = json.loads((base.folder / "config.json").read_text())
    (base.folder / "config.json").write_text(json.dumps({**config, "pruned_heads": gone}))
    with pytest.raises(DataError, match="cannot be read"):
        read_shape(base.folder)


def test_neurons_that_say_what_others_say_go_for_nothing(base, tmp_path):
    def repeat(checkpoint):
        for number in range(3):
            layer = checkpoint.layer(number)
            for name in ("intermediate.dense.weight", "intermediate.dense.bias"):
                layer[name][32:] = layer[name][:32]
            checkpoint.put_layer(number, layer)

    doubled = change(base, "doubled", repeat)
    half = prune_width(doubled, tmp_path / "half", 0.5, ids_of(base))
    assert json.loads((half.folder / "config.json").read_text())["intermediate_size"] == 32
    assert np.abs(embed(half, tmp_path / "a") - embed(doubled, tmp_path / "b")).mean() < 0.005


@pytest.mark.parametrize(("share", "left"), [(0.01, 32), (0.5, 32), (0.99, 32)])
def test_the_width_left_is_a_multiple_of_32_and_less_than_it_was(base, tmp_path, share, left):
    less = prune_width(base, tmp_path / "less", share, ids_of(base))
    assert json.loads((less.folder / "config.json").read_text())["intermediate_size"] == left


def test_what_stays_is_fitted_to_what_was_there(base, tmp_path):
    """Cut without fitting, the same neurons are further from the whole."""
    whole, ids = embed(base, tmp_path / "whole"), ids_of(base)
    half = prune_width(base, tmp_path / "half", 0.5, ids)

    def plain(checkpoint):
        cut = Checkpoint.read(half)
        for number in range(3):
            layer, before = cut.layer(number), checkpoint.layer(number)
            kept = [int(np.flatnonzero((before["intermediate.dense.weight"] == row).all(1))[0])
                    for row in layer["intermediate.dense.weight"]]  # fmt: skip
            weight = np.zeros_like(before["output.dense.weight"])
            weight[:, kept] = before["output.dense.weight"][:, kept]
            checkpoint.put_layer(number, before | {"output.dense.weight": weight})

    unfitted = change(base, "unfitted", plain)
    near, far = embed(half, tmp_path / "a"), embed(unfitted, tmp_path / "b")
    assert np.abs(near - whole).mean() < 0.7 * np.abs(far - whole).mean()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_is_a_share(base, tmp_path, share):
    for prune in (prune_heads, prune_width):
        with pytest.raises(UserError, match="more than 0 and less than 1"):
            prune(base, tmp_path / "less", share, ids_of(base))


def test_the_cheapest_group_costs_what_least_squares_say():
    random = np.random.default_rng(0)
    mixed = np.eye(12) + 0.2 * random.normal(0, 1, (12, 12))
    inputs, weights = random.normal(0, 1, (500, 12)) @ mixed, random.normal(0, 1, (12, 5))
    losses = []
    for group in range(4):
        kept = np.setdiff1d(np.arange(12), np.arange(3 * group, 3 * group + 3))
        left = inputs @ weights - inputs[:, kept] @ np.linalg.lstsq(inputs[:, kept], inputs @ weights, rcond=None)[0]
        losses.append(float((left**2).sum(1).mean()))
    surgeon = Surgeon(gram(inputs), weights, 3)
    (taken,), cost = surgeon.take_cheapest()
    assert taken == int(np.argmin(losses)) and cost == pytest.approx(min(losses), rel=0.2)
    assert surgeon.left.tolist() == [group for group in range(4) if group != taken]


def test_a_refit_finds_what_made_the_target_and_keeps_to_the_weights_where_it_knows_little():
    random = np.random.default_rng(0)
    inputs, weights = random.normal(0, 1, (5_000, 6)), random.normal(0, 1, (3, 6))
    near, bias = refit(inputs, inputs @ weights.T + 7.0, weights + 0.5)
    np.testing.assert_allclose(near, weights, atol=0.1)
    np.testing.assert_allclose(bias, 7.0, atol=0.1)
    kept, _ = refit(inputs[:1], inputs[:1] @ weights.T, weights + 0.5)
    np.testing.assert_allclose(kept, weights + 0.5, atol=1e-6)


def test_texts_that_were_seen_read_as_before_and_others_as_the_nearest_words(base, tmp_path):
    def alike(checkpoint):
        words = json.loads(checkpoint.tokenizer)["model"]["vocab"]
        table = checkpoint.tensors["embeddings.word_embeddings.weight"]
        table[words["where"]] = 2 * table[words["lost"]] - table.mean(axis=0)

    base, seen = change(base, "alike", alike), ["lost card", "b.c"]
    less = prune_vocabulary(base, tmp_path / "less", ids_of(base, seen))
    reader = Reader(less.folder / "tokenizer.json", 24)
    rows = json.loads((less.folder / "config.json").read_text())["vocab_size"]
    assert reader.words == rows == 5 + len(["lost", "card", "b", ".", "c"])
    np.testing.assert_array_equal(embed(less, tmp_path / "a", seen), embed(base, tmp_path / "b", seen))
    assert reader.tokens("where card").ids == reader.tokens("lost card").ids != reader.tokens("card card").ids
    assert [len(ids) for ids in ids_of(less)] == [len(ids) for ids in ids_of(base)]


def test_a_word_is_its_own_nearest_and_others_have_one():
    table = np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)
    kept = np.array([3, 10, 20, 30])
    places = nearest(table - table[kept].mean(axis=0), kept)
    assert places[kept].tolist() == [0, 1, 2, 3] and places.shape == (50,) and set(places) == {0, 1, 2, 3}
    assert nearest(np.eye(4, dtype=np.float32) + 9, np.array([2])).tolist() == [0, 0, 0, 0]


def test_a_tokenizer_of_another_kind_is_refused(base, tmp_path):
    tokenizer = json.loads((base.folder / "tokenizer.json").read_text())
    tokenizer["model"]["type"] = "Unigram"
    (base.folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DataError, match="'Unigram'; only a WordPiece"):
        prune_vocabulary(base, tmp_path / "less", [])
