"""Tiles: their names, what is written when, and that what is lacking is computed."""

import pytest

from insource.store.proof.tiles import Hashes, TileFolder, TileWriter, tile_path, whole_tiles
from insource.store.proof.tree import Frontier, leaf_hash

LEAVES = [leaf_hash(b"%d" % number) for number in range(70_000)]


def leaves(start, stop):
    return LEAVES[start:stop]


@pytest.mark.parametrize(("level", "number", "width", "path"), [
    (0, 0, 256, "0/000"), (1, 5, 256, "1/005"), (0, 1_234_067, 256, "0/x001/x234/067"), (0, 1_234, 256, "0/x001/234"),
    (2, 273, 17, "2/273.p/17"),
])  # fmt: skip
def test_paths_are_those_of_c2sp(level, number, width, path):
    assert tile_path(level, number, width) == path


def write(folder, parts):
    tiles = TileFolder(folder)
    writer, done = TileWriter(tiles, 0, Hashes(None, leaves, 0)), 0
    for part in parts:
        writer.push(LEAVES[done : done + part])
        writer.partial()
        done += part
    return tiles


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_full_tiles_stay_and_partial_ones_follow(tmp_path):
    write(tmp_path, [100, 100, 100])
    assert names(tmp_path) == ["0/000", "0/001.p/44", "1/000.p/1"]
    assert (tmp_path / "0/000").read_bytes() == b"".join(LEAVES[:256])


def test_three_levels(tmp_path):
    tiles = write(tmp_path, [65_535, 4_465])
    assert list(whole_tiles(70_000))[-1] == (1, 0) and len(list(whole_tiles(70_000))) == 274
    assert all(tiles.whole(*tile) for tile in whole_tiles(70_000))
    root = Frontier().extended(LEAVES).root()
    nothing = Hashes(tiles, lambda start, stop: pytest.fail(f"rows {start} to {stop} were read"), 69_888)
    assert Frontier.at(69_888, nothing.subtree).root() == Frontier().extended(LEAVES[:69_888]).root()
    assert Frontier.at(70_000, Hashes(tiles, leaves, 70_000, 70_000).subtree).root() == root
    assert Frontier.at(70_000, Hashes(None, leaves, 70_000).subtree).root() == root


@pytest.mark.parametrize(("lost", "size"), [("0/003", 1_500), ("1/000", 66_000)])
def test_a_missing_or_half_tile_is_computed_from_below(tmp_path, lost, size):
    tiles = write(tmp_path, [size])
    made = Hashes(tiles, leaves, size)
    path = tmp_path / lost
    whole = path.read_bytes()
    for data in (None, whole[:5_000]):
        path.unlink() if data is None else path.write_bytes(data)
        hashes = Hashes(tiles, leaves, size)
        assert Frontier.at(size, hashes.subtree).root() == Frontier().extended(LEAVES[:size]).root()
        level, number = int(lost[0]), int(lost[2:])
        assert not tiles.whole(level, number) and made.made(level, number) == whole
        path.write_bytes(whole)


def test_a_writer_goes_on_where_another_ended(tmp_path):
    tiles = write(tmp_path / "one", [1_800])
    TileWriter(tiles, 1_800, Hashes(tiles, leaves, 1_800)).push(LEAVES[1_800:2_500])
    write(tmp_path / "other", [2_500])
    one, other = (
        {name: (tmp_path / which / name).read_bytes() for name in names(tmp_path / which) if ".p/" not in name}
        for which in ("one", "other")
    )
    assert len(one) == 9
    assert one == other


def test_control_a_wrong_tile_is_believed_and_gives_another_root(tmp_path):
    tiles = write(tmp_path, [600])
    data = bytearray((tmp_path / "0/001").read_bytes())
    data[5] ^= 1
    (tmp_path / "0/001").write_bytes(data)
    assert Frontier.at(600, Hashes(tiles, leaves, 600).subtree).root() != Frontier().extended(LEAVES[:600]).root()
