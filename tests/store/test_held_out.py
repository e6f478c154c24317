import shutil

import pytest

from insource.errors import ArtifactDamaged, DataError
from insource.store import held_out
from insource.store.content_keys import ContentKeys
from insource.store.held_out import forget, keep, recall

DIGEST = "a" * 64
TEXTS = ["where is my card", "refund me", "what is this"]


@pytest.fixture
def home(tmp_path):
    keep(tmp_path / "home", DIGEST, TEXTS, ["card", "refund", "other"], [0.9, 0.8, 0.1])
    return tmp_path / "home"


def names(home):
    with ContentKeys.open(home) as keys:
        return [keys.pseudonym(text).encode() for text in TEXTS]


def on_disk(home):
    return b"".join(path.read_bytes() for path in (home / held_out.FOLDER).iterdir())


def test_what_was_kept_is_recalled_by_its_text_and_nothing_of_it_is_read_from_the_file(home):
    assert recall(home, DIGEST, [TEXTS[1], "another"]) == [("refund", 0.8), None]
    assert recall(home, "0" * 64, TEXTS[:1]) == [None]
    assert not any(word in on_disk(home) for word in (*names(home), b"refund", b"card"))


def test_what_is_forgotten_is_gone_here_and_its_name_in_every_copy(home, tmp_path):
    shutil.copytree(home, tmp_path / "copied")
    assert forget(home, ["never seen"]) == forget(home, []) == 0
    assert recall(tmp_path / "copied", DIGEST, TEXTS[:1]) == [("card", 0.9)]
    assert forget(home, TEXTS[:1]) == 1
    assert recall(home, DIGEST, TEXTS) == [None, ("refund", 0.8), ("other", 0.1)]
    shutil.copy(home / "content_keys.db", tmp_path / "copied")  # a copy of before, with the keys of now
    with pytest.raises(DataError, match="Train the specialist again"):
        recall(tmp_path / "copied", DIGEST, TEXTS)


def test_a_file_that_is_kept_anew_leaves_no_key_behind(home):
    def keys():
        with ContentKeys.open(home) as opened:
            return opened._connection.execute("SELECT count(*) FROM keys").get

    assert keys() == 1
    keep(home, DIGEST, TEXTS[:1], ["other"], [0.5])
    assert keys() == 1 and recall(home, DIGEST, TEXTS[:2]) == [("other", 0.5), None]


@pytest.mark.parametrize("damage", [lambda data: data[:-9] + b'AAAAAA=="}', lambda data: data[:9], lambda data: b"{}"])
def test_an_altered_file_is_refused(home, damage):
    (path,) = (home / held_out.FOLDER).iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactDamaged):
        recall(home, DIGEST, TEXTS)


def test_files_of_earlier_versions_are_recalled_and_forgotten(home):
    rows = [f'["{held_out._digest(text)}","card",0.5]\n' for text in TEXTS]
    (home / held_out.FOLDER / f"{'b' * 64}.jsonl").write_text("".join(rows))
    assert recall(home, "b" * 64, TEXTS) == [("card", 0.5)] * 3
    assert forget(home, TEXTS[:1]) == 2
    assert recall(home, "b" * 64, TEXTS[:2]) == [None, ("card", 0.5)]


def test_a_file_that_cannot_be_read_goes_as_a_whole_and_keeps_nobody_from_being_forgotten(tmp_path):
    held_out.keep(tmp_path, "a" * 64, ["one", "two"], ["x", "y"], [0.5, 0.5])
    held_out.keep(tmp_path, "b" * 64, ["one", "two"], ["x", "y"], [0.5, 0.5])
    damaged = tmp_path / held_out.FOLDER / f"{'a' * 64}.sealed"
    damaged.write_text("{")
    assert held_out.forget(tmp_path, ["one"]) == 1
    assert not damaged.exists()
    assert held_out.recall(tmp_path, "b" * 64, ["one", "two"]) == [None, ("y", 0.5)]


def test_so_does_one_of_an_earlier_version(tmp_path):
    held_out.keep(tmp_path, "b" * 64, ["one", "two"], ["x", "y"], [0.5, 0.5])
    damaged = tmp_path / held_out.FOLDER / f"{'a' * 64}.jsonl"
    damaged.write_text("{")
    with pytest.raises(ArtifactDamaged, match="not as it was written"):
        recall(tmp_path, "a" * 64, ["one"])
    assert held_out.forget(tmp_path, ["one"]) == 1
    assert not damaged.exists()
