import json
import os
import stat

import pytest

from insource.errors import ArtifactDamaged, StoreError
from insource.store import manifest as manifests
from insource.store.artifacts import ArtifactStore

WEIGHTS = bytes(range(256)) * 40
DAY = 24 * 3600


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "home")


def build(store, weights=WEIGHTS, **manifest):
    with store.draft() as folder:
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / "answers.json").write_text('["card", "loan"]')
        return store.commit(folder, {"kind": "linear", "classes": 2, **manifest})


@pytest.fixture
def digest(store):
    return build(store)


@pytest.fixture
def folder(store, digest):
    return store.folder / digest


def test_what_is_committed_can_be_opened(store, digest):
    artifact = store.open(digest)
    assert artifact.digest == digest == artifact.folder.name
    assert (artifact.folder / "weights.safetensors").read_bytes() == WEIGHTS
    assert (artifact.manifest["format"], artifact.manifest["kind"], artifact.manifest["classes"]) == (1, "linear", 2)
    assert artifact.manifest["files"]["answers.json"]["bytes"] == 16
    assert artifact.size_bytes == len(WEIGHTS) + 16


def test_the_digest_is_that_of_the_manifest_and_the_manifest_has_the_files(folder, digest):
    data = (folder / "manifest.json").read_bytes()
    assert manifests.digest_of(data) == digest
    assert set(json.loads(data)["files"]) == {"weights.safetensors", "answers.json"}


def test_equal_content_has_an_equal_digest_whatever_the_order_of_keys(store, digest):
    assert build(store) == digest
    assert build(store, b=1, a={"d": 1, "c": 2}) == build(store, a={"c": 2, "d": 1}, b=1) != digest
    assert build(store, weights=WEIGHTS + b"\0") != digest
    assert list((store.folder / ".drafts").iterdir()) == []


def test_files_and_folders_are_private(tmp_path):
    before = os.umask(0)
    try:
        store = ArtifactStore(tmp_path / "home")
        folder = store.folder / build(store)
    finally:
        os.umask(before)
    mode = lambda path: stat.S_IMODE(path.stat().st_mode)  # noqa: E731
    assert {mode(path) for path in (tmp_path / "home", store.folder, store.folder / ".drafts", folder)} == {0o700}
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_every_flipped_byte_is_found(store, digest, folder):
    for name in ("weights.safetensors", "answers.json", "manifest.json"):
        whole = (folder / name).read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            broken = bytearray(whole)
            broken[position] ^= 1
            (folder / name).write_bytes(broken)
            with pytest.raises(ArtifactDamaged, match=rf"{name} does not match its digest: expected .*found .*Train"):
                store.open(digest)
        (folder / name).write_bytes(whole)
        assert store.open(digest)  # the control: put right, it opens


def test_the_message_names_both_digests_and_sizes(store, digest, folder):
    (folder / "answers.json").write_bytes(b"")
    expected = manifests.digest_of(b'["card", "loan"]')
    with pytest.raises(ArtifactDamaged, match=rf"expected {expected} \(16 bytes\), found e3b0c44298.* \(0 bytes\)"):
        store.open(digest)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""])
def test_a_file_of_another_length_is_found(store, digest, folder, change):
    (folder / "weights.safetensors").write_bytes(change(WEIGHTS))
    with pytest.raises(ArtifactDamaged, match="weights.safetensors does not match"):
        store.open(digest)


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_a_missing_file_is_found(store, digest, folder, name):
    (folder / name).unlink()
    with pytest.raises(ArtifactDamaged, match=f"{name} cannot be opened"):
        store.open(digest)


@pytest.mark.parametrize("extra", ["sitecustomize.py", ".hidden", "a folder"])
def test_what_the_manifest_does_not_list_is_refused(store, digest, folder, extra):
    (folder / extra).mkdir() if extra == "a folder" else (folder / extra).write_text("print('run me')")
    with pytest.raises(ArtifactDamaged, match=f"holds '{extra}', which its manifest does not list"):
        store.open(digest)


def test_a_link_is_refused_even_to_the_right_bytes(store, digest, folder, tmp_path):
    (folder / "weights.safetensors").rename(tmp_path / "elsewhere")
    (folder / "weights.safetensors").symlink_to(tmp_path / "elsewhere")
    assert (folder / "weights.safetensors").read_bytes() == WEIGHTS
    with pytest.raises(ArtifactDamaged, match="no link, was expected"):
        store.open(digest)


def test_a_pipe_in_the_place_of_a_file_does_not_block(store, digest, folder):
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    with pytest.raises(ArtifactDamaged, match="is not a plain file"):
        store.open(digest)


def test_an_extra_link_and_a_linked_folder_are_refused(store, digest, folder, tmp_path):
    (folder / "more").symlink_to("/etc")
    with pytest.raises(ArtifactDamaged, match="holds 'more'"):
        store.open(digest)
    (folder / "more").unlink()
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(ArtifactDamaged, match="There is no artifact"):
        store.open(digest)


def forge(store, manifest):
    """Put a manifest into the store under its own true digest, as a hostile author could."""
    data = manifests.encode(manifest) if isinstance(manifest, dict) else manifest
    folder = store.folder / manifests.digest_of(data)
    folder.mkdir()
    (folder / "manifest.json").write_bytes(data)
    return manifests.digest_of(data)


ENTRY = {"sha256": "0" * 64, "bytes": 0}


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "manifest.json", "a\0b"])
def test_names_outside_the_folder_are_refused(store, name):
    digest = forge(store, {"format": 1, "kind": "linear", "files": {name: ENTRY}})
    with pytest.raises(ArtifactDamaged, match="not a plain name"):
        store.open(digest)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"\xff", b"[]", b"{}", {"format": 2, "kind": "linear", "files": {}}, {"format": 1, "kind": 1, "files": {}},
     {"format": 1, "kind": "linear", "files": {"a": {"sha256": "0"}}}],
)  # fmt: skip
def test_what_is_no_manifest_of_this_format_is_refused(store, manifest):
    with pytest.raises(ArtifactDamaged, match="cannot be used"):
        store.open(forge(store, manifest))


@pytest.mark.parametrize("digest", ["", "..", ".drafts", "a" * 63, "A" * 64, "/etc", "0" * 64])
def test_a_digest_that_names_nothing_here(store, digest):
    with pytest.raises(ArtifactDamaged, match="There is no artifact"):
        store.open(digest)


def test_training_the_same_again_repairs_a_damaged_artifact(store, digest, folder):
    (folder / "weights.safetensors").write_bytes(b"")
    assert build(store) == digest
    assert (store.open(digest).folder / "weights.safetensors").read_bytes() == WEIGHTS
    assert list((store.folder / ".drafts").iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "link", "hidden", "manifest"])
def test_a_draft_with_what_cannot_be_part_is_refused(store, kind):
    with pytest.raises(StoreError, match="cannot be part of an artifact"), store.draft() as folder:
        if kind == "folder":
            (folder / "inner").mkdir()
        elif kind == "link":
            (folder / "link").symlink_to("/etc/passwd")
        else:
            (folder / {"hidden": ".x", "manifest": "manifest.json"}[kind]).write_text("{}")
        store.commit(folder, {"kind": "linear"})
    assert [path.name for path in store.folder.iterdir()] == [".drafts"]


def test_a_draft_that_is_not_committed_is_thrown_away(store):
    with pytest.raises(ZeroDivisionError), store.draft() as folder:
        (folder / "half").write_bytes(WEIGHTS)
        _ = 1 / 0
    assert not folder.exists()


def test_a_manifest_without_kind_is_refused(store):
    with store.draft() as folder, pytest.raises(ValueError, match="needs a kind"):
        store.commit(folder, {})


def test_only_drafts_untouched_for_a_day_are_swept(tmp_path):
    store = ArtifactStore(tmp_path)
    now = 1_800_000_000.0
    with store.draft() as stale, store.draft() as fresh, store.draft() as in_use:
        (in_use / "weights").write_bytes(WEIGHTS)
        os.utime(in_use / "weights", (now - 60, now - 60))
        for folder, age in ((stale, DAY + 1), (fresh, DAY - 1), (in_use, 3 * DAY)):
            os.utime(folder, (now - age, now - age))
        ArtifactStore(tmp_path, clock=lambda: now)
        assert (stale.exists(), fresh.exists(), in_use.exists()) == (False, True, True)


def test_a_removed_artifact_is_gone(store, digest, folder):
    store.remove(digest)
    store.remove(digest)
    store.remove("..")
    assert not folder.exists() and store.folder.exists()
    assert list((store.folder / ".drafts").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "artifacts").write_text("in the way")
    with pytest.raises(StoreError, match="artifacts cannot be read or written"):
        ArtifactStore(tmp_path)
