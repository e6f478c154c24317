"""Model files before any native parser: what is taken, what is refused and why."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.backends import model_files
from insource.backends.arrays import write_arrays
from insource.backends.model_child import try_in_child
from insource.backends.model_files import (
    check_arrays,
    check_tokenizer,
    read_arrays,
    read_onnx,
    read_plain,
    read_tokenizer,
)
from insource.backends.onnx_bytes import check_onnx
from insource.backends.refused_file import RefusedFile
from insource.training.base_models import from_folder
from insource.training.encoder_graph import build_trunk


@pytest.fixture
def arrays(tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.zeros(0, np.int8)}, {"n": "1"})
    return path


@pytest.fixture
def trunk(tiny_base, tmp_path):
    build_trunk(from_folder(tiny_base), tmp_path / "trunk", "fp32")
    return tmp_path / "trunk"


def test_arrays_come_back_however_they_lay_in_memory(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = {"turned": rows.T, "every other": rows[:, ::2], "number": np.array(3.0)}
    write_arrays(tmp_path / "a.safetensors", given)
    found = read_arrays(tmp_path / "a.safetensors")
    assert all(np.array_equal(found[name], given[name]) and found[name].shape == given[name].shape for name in given)


def test_arrays_come_back_as_written(arrays):
    found = read_arrays(arrays)
    assert found["x"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["y"].shape == (0,)


def test_what_we_build_passes_in_both_precisions(tiny_base, trunk, tmp_path):
    build_trunk(from_folder(tiny_base), tmp_path / "int8", "int8")
    for folder in (trunk, tmp_path / "int8"):
        assert read_onnx(folder / "model.onnx") == (folder / "model.onnx").read_bytes()
        assert json.loads(read_tokenizer(folder / "tokenizer.json"))


@pytest.mark.parametrize("way", ["symlink_to", "hardlink_to"])
def test_links_are_refused_unless_a_person_named_the_folder(arrays, tmp_path, way):
    link = tmp_path / "link"
    getattr(link, way)(arrays)
    with pytest.raises(RefusedFile, match="link"):
        read_arrays(link)
    assert read_arrays(link, links=True).keys() == {"x", "y"}


def test_folders_missing_files_and_long_files_are_refused(arrays, tmp_path):
    with pytest.raises(RefusedFile, match="not a plain file"):
        read_plain(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "none", 10)
    with pytest.raises(RefusedFile, match="at most 10 were expected"):
        read_plain(arrays, 10)


@pytest.mark.parametrize("low", [0x80, ord("(")])
def test_arrays_whose_length_looks_like_a_pickle_are_read(tmp_path, low):
    """Once in some thousand models a header's length and the last byte of the last array are those of a pickle."""
    path = tmp_path / "a.safetensors"
    for padding in range(600):
        write_arrays(path, {"x": np.frombuffer(b"....", np.int8)}, {"n": "1" * padding})
        data = path.read_bytes()
        if data[0] == low and data[1] <= 5:
            break
    assert data[0] == low and data[-1:] == b"."
    assert read_arrays(path)["x"].tobytes() == b"...."


def test_a_pickle_is_refused_whatever_it_is_called(tmp_path):
    path = tmp_path / "model.safetensors"
    made = "import pickle, sys; sys.stdout.buffer.write(pickle.dumps({'a': 1}, int(sys.argv[1])))"
    for protocol in range(6):
        path.write_bytes(subprocess.run([sys.executable, "-c", made, str(protocol)], capture_output=True).stdout)
        with pytest.raises(RefusedFile, match="pickle"):
            read_arrays(path)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_are_checked_or_refused_and_nothing_else(data):
    for check in (check_arrays, check_onnx, check_tokenizer):
        with pytest.raises(RefusedFile):
            check(data)


@settings(max_examples=100)
@given(st.data())
def test_a_checked_header_is_one_that_safetensors_takes_as_well(data):
    from safetensors.numpy import load, save

    whole = save({"a": np.arange(4, dtype=np.float32), "b": np.zeros((2, 2), np.int8)})
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] = data.draw(st.integers(0, 255))
    try:
        check_arrays(bytes(changed))
    except RefusedFile:
        return
    assert len(load(bytes(changed))) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told["x"].update(data_offsets=[0, 20]), "does not fill"),
        (lambda told: told["x"].update(shape=[True, 6]), "whole numbers"),
        (lambda told: told["x"].update(dtype="O"), "has the type"),
        (lambda told: told.pop("x"), "ends? at|starts at"),
    ],
)
def test_a_false_header_is_refused_with_its_reason(arrays, change, said):
    data = arrays.read_bytes()
    length = int.from_bytes(data[:8], "little")
    told = json.loads(data[8 : 8 + length])
    change(told)
    header = json.dumps(told).encode()
    with pytest.raises(RefusedFile, match=said):
        check_arrays(len(header).to_bytes(8, "little") + header + data[8 + length :])


def test_control_without_the_check_of_a_reference_the_file_would_be_read(trunk):
    """The same bytes pass once the tensor no longer refers to another file: it is the reference that is refused."""
    import onnx

    model = onnx.load_model_from_string((trunk / "model.onnx").read_bytes())
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    with pytest.raises(RefusedFile, match="another file"):
        check_onnx(model.SerializeToString())
    del model.graph.initializer[0].external_data[:]
    check_onnx(model.SerializeToString())


def test_a_good_model_passes_the_child_and_a_bad_one_does_not(tiny_base, tmp_path):
    try_in_child("base", tiny_base)
    copy = tmp_path / "base"
    shutil.copytree(tiny_base, copy)
    (copy / "tokenizer.json").write_text('{"model": {"type": "Python"}}')
    with pytest.raises(RefusedFile, match="its model is not one of"):
        try_in_child("base", copy)


def test_a_child_that_takes_too_long_or_too_much_is_ended(tiny_base, tmp_path):
    with pytest.raises(RefusedFile, match=r"not loaded within 0.001 s"):
        try_in_child("base", tiny_base, seconds=0.001)
    copy = tmp_path / "base"
    shutil.copytree(tiny_base, copy)
    size = 700_000_000
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (copy / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)  # takes no room on the disk
    with pytest.raises(RefusedFile, match="memory"):
        try_in_child("base", copy, declared=1_000)


def test_a_missing_base_is_refused_by_the_child_too(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RefusedFile):
        try_in_child("base", tmp_path)


def test_importing_the_checks_loads_no_parser():
    code = "import sys, insource.backends.model_files; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"onnxruntime", "tokenizers", "safetensors"}.isdisjoint(done.stdout.split())
    assert model_files.LARGEST_ONNX < 2**31
