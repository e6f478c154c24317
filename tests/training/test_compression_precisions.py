"""The precisions below int8's: near the fp32 graph, as small as they say, and the same bytes each time."""

import numpy as np
import pytest

from insource.backends.onnx import Trunk
from insource.training.compression.checkpoint import Checkpoint
from insource.training.compression.forward import MOST_TOKENS, Sample, activations
from insource.training.encoder_graph import build_trunk
from insource.training.encoder_graph_precision import Graph, Int4
from insource.training.encoder_int4 import Activation, pack, quantise_blocks, quantise_rows
from insource.training.tiny_encoder import HIDDEN, write_tiny_base

TEXTS = ["where is my card?", "lost", "a, b. c!", "the card is lost and nobody is asking where 1234567890"]


@pytest.fixture
def base(tmp_path):
    return write_tiny_base(tmp_path / "base")


@pytest.fixture
def inside(base, tmp_path):
    build_trunk(base, tmp_path / "fp32", "fp32")
    whole = Trunk.load(tmp_path / "fp32")
    return activations(Checkpoint.read(base), Sample([whole.tokens(text).ids for text in TEXTS * 5]))


def cosines(base, folder, precision, inside):
    """The cosines between a precision's blocks and those of fp32; bytes of its model."""
    vectors = []
    for name in ("fp32", precision):
        build_trunk(base, folder / name, name, activations=inside)
        vectors.append(Trunk.load(folder / name).embed(TEXTS).reshape(-1, HIDDEN))
    return (vectors[0] * vectors[1]).sum(1), (folder / precision / "model.onnx").stat().st_size


def test_ranges_that_are_stated_serve_as_well_as_those_found_at_each_run(base, tmp_path, inside):
    static, _ = cosines(base, tmp_path, "int8-static", inside)
    dynamic, _ = cosines(base, tmp_path, "int8", inside)
    assert static.min() > 0.99 and (static != dynamic).any()
    assert static.mean() > dynamic.mean() - 0.005


def test_a_wrong_range_is_noticed(base, tmp_path, inside):
    wrong = {name: Activation(seen.low / 10, seen.high / 10, seen.gram) for name, seen in inside.items()}
    assert cosines(base, tmp_path, "int8-static", wrong)[0].min() < 0.9


def test_stated_ranges_have_to_be_stated(base, tmp_path):
    with pytest.raises(ValueError, match="pass activations"):
        build_trunk(base, tmp_path / "trunk", "int8-static")


def test_four_bits_are_near_and_half_as_large(base, tmp_path, inside):
    near, size = cosines(base, tmp_path, "int4", inside)
    assert near.min() > 0.93
    assert size < (tmp_path / "fp32" / "model.onnx").stat().st_size / 2.5


def test_what_is_seen_inside_makes_four_bits_better(base, tmp_path, inside):
    assert cosines(base, tmp_path, "int4", inside)[0].mean() > cosines(base, tmp_path, "int4", {})[0].mean()


@pytest.mark.parametrize("precision", ["int8-static", "int4"])
def test_the_same_input_gives_the_same_bytes(base, tmp_path, inside, precision):
    for name in ("one", "two"):
        build_trunk(base, tmp_path / name, precision, activations=inside)
    assert (tmp_path / "one" / "model.onnx").read_bytes() == (tmp_path / "two" / "model.onnx").read_bytes()


def test_a_block_of_four_bits_keeps_a_step():
    matrix = np.random.default_rng(0).normal(0, 1, (5, 64)).astype(np.float32)
    matrix[2, :32] = 0
    small = quantise_rows(matrix)
    real = ((small.values.astype(np.float32) - 8) * small.scale[:, :, None]).reshape(5, 64)
    assert small.scale.shape == (5, 2) and small.values.max() <= 15
    assert np.abs(real - matrix).max() <= 2.5 * small.scale.max() and not real[2, :32].any()
    assert np.sqrt(((real - matrix) ** 2).mean()) < 0.12


def test_rounding_with_an_eye_on_the_inputs_costs_the_products_less():
    random = np.random.default_rng(0)
    inputs = random.normal(0, 1, (400, 40)) @ random.normal(0, 1, (40, 40))
    matrix = random.normal(0, 1, (40, 6)).astype(np.float32)

    def error(gram):
        small = quantise_blocks(matrix, gram)
        real = ((small.values.astype(np.float32) - 8) * small.scale[:, :, None]).reshape(6, -1)[:, :40].T
        return float(((inputs @ (real - matrix)) ** 2).mean())

    assert error(inputs.T @ inputs / len(inputs)) < 0.6 * error(None)


def test_two_values_share_a_byte():
    values = np.arange(32, dtype=np.uint8).reshape(1, 1, 32) % 16
    assert pack(values)[0, 0, :2].tolist() == [0x10, 0x32]
    assert pack(values, half=True)[0, 1] == 0x11 and pack(values, half=True).shape == (1, 16)


def test_a_table_that_does_not_fall_into_blocks_stands_in_eight_bits():
    graph = Graph()
    Int4({}).words(graph, "ids", np.ones((3, 24), np.float32))
    (table,) = [each for each in graph.weights if each.name == "words.table"]
    assert tuple(table.dims) == (3, 24)


def test_of_many_texts_some_from_everywhere_are_looked_at():
    sample = Sample([(number,) * 256 for number in range(200)])
    assert len(sample.ids) <= MOST_TOKENS and sample.ids.max() > 190
    assert len(Sample([(1, 2, 3)] * 5).ids) == 15
