"""Files that are replaced as a whole or not at all."""

import errno
import stat

import pytest

from insource.errors import StoreError, StoreFull
from insource.store.sync import make_folder, replacing


def test_the_file_appears_when_all_went_well(tmp_path):
    path = tmp_path / "folder" / "rows"
    with replacing(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one" and stat.S_IMODE(path.stat().st_mode) == 0o600
    with replacing(path) as file:
        file.write(b"two")
    assert path.read_bytes() == b"two" and [each.name for each in path.parent.iterdir()] == ["rows"]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoreFull),
        (OSError(errno.EFBIG, "File too large"), StoreFull),
        (OSError(errno.EIO, "Input/output error"), StoreError),
        (ZeroDivisionError(), ZeroDivisionError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_was_there_stays_when_something_fails(tmp_path, raised, kind):
    path = tmp_path / "rows"
    path.write_bytes(b"before")
    with pytest.raises(kind) as caught, replacing(path) as file:
        file.write(b"half")
        raise raised
    assert type(caught.value) is kind
    assert path.read_bytes() == b"before" and [each.name for each in tmp_path.iterdir()] == ["rows"]


def test_a_folder_is_made_with_those_above_it_and_for_this_user_only(tmp_path):
    """That their names are synced is tried by cutting the power (reliability, R2)."""
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        make_folder(tmp_path / "file" / "b")
