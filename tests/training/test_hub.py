"""Base models by hub id: from caches that are here, fetched from a double of a hub, and everything that goes wrong."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from safetensors.numpy import load_file

from insource.errors import DataError, FetchError, UserError
from insource.training import hub_fetch
from insource.training.base_models import base_model
from insource.training.https import Web
from insource.training.hub import HubId, held, hub_id, hub_model
from insource.training.tiny_encoder import write_tiny_base
from tests.training.hub_double import COMMIT, HubDouble, serve

NAMES = ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    base = write_tiny_base(tmp_path_factory.mktemp("hub"))
    pooling = json.dumps({"pooling_mode_cls_token": True}).encode()
    return {name: (base.folder / name).read_bytes() for name in NAMES} | {"1_Pooling/config.json": pooling}


@pytest.fixture
def hub(files, monkeypatch, tmp_path):
    """A hub on this machine, the only one that is asked; and no cache of the hub's own."""
    double = HubDouble(dict(files) | {"pytorch_model.bin": b"\x80\x04.", "README.md": b"hello"})
    server = serve(double)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield double
    double.go_on.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def fetched(text, cache):
    """The model of an id, without loading it."""
    wanted = hub_id(text)
    assert wanted
    return hub_model(wanted, cache=cache)


def loadable(cache):
    """What of a cache could be taken for a model."""
    return list(cache.rglob("snapshots/*")) + list(cache.rglob("refs/*"))


def test_a_model_is_fetched_once_and_its_name_tells_the_commit(hub, cache, files):
    told = []
    model = base_model("some/model", cache=cache, progress=lambda done, total: told.append((done, total)))
    assert (model.name, model.licence, model.pooling) == (f"some/model@{COMMIT}", "mit", "cls")
    assert model.digest == hashlib.sha256(files["model.safetensors"]).hexdigest()
    size = sum(len(data) for data in files.values())
    assert told[-1] == (size, size) and told == sorted(told)
    assert not [path for path in hub.paths() if ".bin" in path or "README" in path]
    asked = len(hub.asked)
    assert base_model("some/model", cache=cache) == model and len(hub.asked) == asked
    assert fetched(f"some/model@{COMMIT}", cache).folder == model.folder and len(hub.asked) == asked


def test_a_revision_is_asked_for_by_its_name(hub, cache):
    assert str(fetched("some/model@refs/pr/1", cache)) == f"some/model@{COMMIT}"
    assert hub.paths()[0] == "/api/models/some/model/revision/refs%2Fpr%2F1?blobs=true"


@pytest.fixture
def place(files, tmp_path):
    """The model's folder in the hub's own cache."""
    room = tmp_path / "hf" / "hub" / "models--some--model"
    place = room / "snapshots" / COMMIT
    for name, data in files.items():
        blob = room / "blobs" / hashlib.sha256(data).hexdigest()
        for path in (blob, place / name):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        (place / name).symlink_to(blob)
    (room / "refs").mkdir()
    (room / "refs" / "main").write_text(COMMIT)
    return place


def test_what_the_hub_s_own_cache_holds_is_used_without_a_network(hub, cache, files, place):
    model = fetched("some/model", cache)
    assert str(model) == f"some/model@{COMMIT}" and model.folder == place and not hub.asked
    # broken on purpose: a blob that is not what its name says is not used, and is left to whoever wrote it
    (place / "model.safetensors").resolve().write_bytes(files["model.safetensors"][:-1] + b"x")
    assert fetched("some/model", cache).folder.is_relative_to(cache) and hub.asked
    assert place.is_dir()


def noted(files):
    return json.dumps({"licence": "free", "sha256": {name: hashlib.sha256(files[name]).hexdigest() for name in NAMES}})


def test_a_model_s_own_note_neither_vouches_for_it_nor_has_it_removed(hub, cache, files, place):
    """A repository may hold a file of that name: in the hub's own cache it is the model's, whatever it says."""
    (place / "hub.json").write_text(noted(files | {"tokenizer.json": b"another"}))
    model = fetched("some/model", cache)
    assert (model.folder, model.licence) == (place, None) and not hub.asked
    changed = files["model.safetensors"][:-1] + b"x"
    (place / "model.safetensors").resolve().write_bytes(changed)
    (place / "hub.json").write_text(noted(files | {"model.safetensors": changed}))
    assert fetched("some/model", cache).folder.is_relative_to(cache) and hub.asked
    assert (place / "model.safetensors").read_bytes() == changed


@pytest.mark.parametrize("note", [None, "{", "{}", '{"sha256": {"config.json": "0"}}'])
def test_a_copy_of_ours_without_a_whole_note_is_no_copy(hub, cache, note):
    path = fetched("some/model", cache).folder / "hub.json"
    wanted, kept = HubId("some/model"), path.read_text()
    path.unlink() if note is None else path.write_text(note)
    assert held(cache / "hub", wanted, ours=True) is None
    path.write_text(kept)
    assert held(cache / "hub", wanted, ours=True).licence == "mit"


def test_a_copy_that_was_changed_is_fetched_again(hub, cache, files):
    folder = fetched("some/model", cache).folder
    (folder / "tokenizer.json").write_bytes(files["tokenizer.json"] + b" ")
    assert held(cache / "hub", HubId("some/model"), ours=True) is None
    assert (folder / "tokenizer.json").is_file()  # removed only by what puts another in its place
    asked = len(hub.asked)
    model = fetched("some/model", cache)
    assert len(hub.asked) > asked and (model.folder / "tokenizer.json").read_bytes() == files["tokenizer.json"]


def test_offline_it_says_what_to_do(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FetchError, match=r"HF_HUB_OFFLINE forbids.*download config.json.*--base FOLDER"):
        fetched("some/model", cache)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"cannot be fetched.*download config.json.*--base FOLDER"):
        fetched("some/model", cache)
    assert not hub.asked and not loadable(cache)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_unknown_or_closed_model_is_the_person_s_to_put_right(hub, cache, status):
    hub.status = status
    with pytest.raises(UserError, match=f"answered {status} for some/model: there is no such model or revision"):
        fetched("some/model", cache)
    with pytest.raises(UserError, match="answered 401 for no/body"):
        fetched("no/body", cache)
    assert not loadable(cache)


@pytest.mark.parametrize(
    ("gone", "more", "said"),
    [
        ("model.safetensors", {}, r"weights as pytorch_model.bin, which can run code.*@REVISION"),
        ("model.safetensors", {"model.safetensors.index.json": b"{}"}, "in several pieces"),
        ("tokenizer.json", {}, "lacks tokenizer.json"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_a_file_is_fetched(hub, cache, gone, more, said):
    del hub.files[gone]
    hub.files |= more
    with pytest.raises(UserError, match=said):
        fetched("some/model", cache)
    assert len(hub.asked) == 1 and not loadable(cache)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_is_too_large_is_not_begun(hub, cache, name):
    most = hub_fetch.LARGEST.get(name, hub_fetch.LARGEST_TEXT)
    hub.told[name] = {"size": most + 1}
    with pytest.raises(UserError, match=f"a {name} of {most + 1:,} bytes, and at most {most:,} are taken"):
        fetched("some/model", cache)
    assert len(hub.asked) == 1


def test_more_bytes_than_told_are_not_kept(hub, cache):
    hub.told["model.safetensors"] = {"size": 100}
    with pytest.raises(FetchError, match="more than the 100 bytes"):
        fetched("some/model", cache)
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"told": {"model.safetensors": {"lfs": {"sha256": "0" * 64}}}},
        {"linked": "0" * 64},
        {"told": {"config.json": {"blobId": "0" * 40}}},
    ],
)
def test_a_file_with_another_digest_than_told_is_refused(hub, cache, wrong):
    for name, value in wrong.items():
        setattr(hub, name, value)
    with pytest.raises(FetchError, match=r"has the digest \w+; expected .*0{40}"):
        fetched("some/model", cache)
    assert not loadable(cache)


def test_a_file_without_a_digest_is_refused(hub, cache):
    hub.told["config.json"] = {"blobId": None}
    with pytest.raises(FetchError, match=r"told no digest of config.json"):
        fetched("some/model", cache)


@pytest.mark.parametrize(
    "answer", [{"sha": "main"}, {"sha": None}, {"siblings": None}, {"siblings": [1, {"rfilename": []}]}]
)
def test_a_strange_answer_is_refused(hub, cache, answer):
    hub.answer = answer
    with pytest.raises((FetchError, UserError)):
        fetched("some/model", cache)
    assert len(hub.asked) == 1


def test_a_body_that_breaks_off_goes_on_from_there(hub, cache, files):
    hub.cut, hub.cuts = {"model.safetensors": 1000}, 1
    assert (fetched("some/model", cache).folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert ("bytes=1000-") in [wanted for _, _, wanted in hub.asked]


def test_a_body_that_always_breaks_off_is_given_up(hub, cache):
    hub.cut = {"model.safetensors": 10}
    with pytest.raises(FetchError, match=r"model.safetensors\S* cannot be fetched \(the connection was closed\)"):
        fetched("some/model", cache)
    assert not loadable(cache)


def test_large_files_from_another_host_come_without_the_token(hub, cache, files, monkeypatch):
    other = HubDouble(dict(files))
    server = serve(other)
    hub.elsewhere = f"http://localhost:{server.server_port}"
    monkeypatch.setenv("HF_TOKEN", "secret")
    try:
        assert fetched("some/model", cache).licence == "mit"
    finally:
        server.shutdown()
        server.server_close()
    assert {key for _, key, _ in hub.asked} == {"Bearer secret"}
    assert other.asked == [("/large/model.safetensors?sign=a%2Fb", None, None)]


@pytest.mark.parametrize(("token", "sent"), [(" secret\n", "Bearer secret"), ("\t\n", None)])
def test_a_token_is_taken_without_the_space_around_it(hub, cache, monkeypatch, token, sent):
    monkeypatch.setenv("HF_TOKEN", token)
    fetched("some/model", cache)
    assert {key for _, key, _ in hub.asked} == {sent}


@pytest.mark.parametrize("token", ["se\r\nx-more: cret", "s\xe9cret", "se\x7fcret"])
def test_a_token_that_is_no_line_of_ascii_is_refused_and_not_shown(hub, cache, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=r"HF_TOKEN has \d+ characters, .* such as hf_\.\.\. was expected") as told:
        fetched("some/model", cache)
    assert "cret" not in str(told.value) and not hub.asked


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        ("http://example.org", "is not an address"),
        ("ftp://x", "is not an address"),
        ("https://u:p@x", "is not an addr"),
    ],
)
def test_a_redirect_off_the_encrypted_way_is_not_followed(hub, cache, elsewhere, said):
    hub.elsewhere = elsewhere
    with pytest.raises(FetchError, match=said):
        fetched("some/model", cache)


def test_an_encrypted_hub_may_not_lead_to_an_open_one():
    assert Web("https://hub")._plain is False
    with pytest.raises(FetchError, match="https://HOST"):
        Web("http://hub")


def test_redirects_in_a_circle_end(hub, cache, monkeypatch):
    hub.elsewhere = os.environ["HF_ENDPOINT"] + f"/some/model/resolve/{COMMIT}/model.safetensors?x="
    with pytest.raises(FetchError, match="leads on and on: .* redirects"):
        fetched("some/model", cache)


def test_a_hostile_model_is_refused_in_a_child(hub, cache, files):
    tokenizer = json.loads(files["tokenizer.json"])
    tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    hub.files["tokenizer.json"] = json.dumps(tokenizer).encode()
    with pytest.raises(DataError, match="is not used: .*pre_tokenizer"):
        base_model("some/model", cache=cache)


def test_what_a_kill_leaves_is_never_loaded_and_is_gone_on_from(hub, cache, files):
    hub.stall = {"/large/model.safetensors": 40_000}
    code = "from pathlib import Path; from insource.training.hub import HubId, hub_model\n"
    code += f"hub_model(HubId('some/model'), cache=Path({str(cache)!r}))"
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert hub.stalled.wait(60)
        grown = cache / "hub" / "models--some--model" / "partial" / COMMIT / "model.safetensors"
        tick = threading.Event()
        while child.poll() is None and not (grown.is_file() and grown.stat().st_size):
            tick.wait(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert held(cache / "hub", HubId("some/model")) is None and not loadable(cache)
    assert 0 < grown.stat().st_size < len(files["model.safetensors"])
    left = grown.stat().st_size
    hub.go_on.set()
    assert load_file(fetched("some/model", cache).folder / "model.safetensors")
    assert f"bytes={left}-" in [wanted for _, _, wanted in hub.asked]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a/b", HubId("a/b")), ("intfloat/e5-small@refs/pr/3", HubId("intfloat/e5-small", "refs/pr/3")),
        ("a/b.c-d_e@v1.0", HubId("a/b.c-d_e", "v1.0")), ("a", None), ("./a/b", None), ("a/b/c", None), ("-a/b", None),
        ("a/b\n", None), ("a/b@", None), ("a/b@x/../y", None), ("a/", None), ("a/b.", None), ("é/b", None),
    ],
)  # fmt: skip
def test_what_a_hub_id_is(text, found):
    assert hub_id(text) == found
    assert found is None or re.fullmatch(r"models--[\w.-]+", found.room)
