import subprocess
from pathlib import Path

from insource.training.outcome import CHECKOUT, commit


def git(folder: Path, *arguments: str) -> str:
    told = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
    return subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout(tmp_path):
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head
    git(tmp_path, "pack-refs", "--all")
    assert commit(tmp_path) == head
    git(tmp_path, "checkout", "-q", "--detach")
    assert commit(tmp_path) == head


def test_our_own_is_known_where_there_is_one():
    assert (commit() is not None) == (CHECKOUT / ".git" / "HEAD").is_file()
