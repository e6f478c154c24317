"""The tree against published numbers, and against the second implementation by random trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.governance.verifier import verify_ledger as second
from insource.store.proof.tiles import Hashes
from insource.store.proof.tree import (
    EMPTY,
    Frontier,
    around,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    proves_consistency,
    proves_inclusion,
)

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (leaf, size): path, from the tests of certificate-transparency
    (0, 8): ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
             "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
             "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"],
    (5, 8): ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
             "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
             "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
             "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
             "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"],
}  # fmt: skip
CONSISTENCY = {
    (1, 1): [],
    (1, 8): ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
             "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
             "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"],
    (6, 8): ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
             "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
             "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"],
    (2, 5): ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
             "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"],
}  # fmt: skip
PUBLISHED = [leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES]


def subtree_of(leaves):
    return Hashes(None, lambda start, stop: list(leaves[start:stop]), len(leaves)).subtree


def hexes(path):
    return [each.hex() for each in path]


def test_the_published_roots():
    assert EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" == Frontier().root().hex()
    for size, root in enumerate(ROOTS, 1):
        assert Frontier().extended(PUBLISHED[:size]).root().hex() == root
        assert Frontier.at(size, subtree_of(PUBLISHED)).root().hex() == root


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_published_inclusion_proofs(index, size):
    path = inclusion_proof(index, size, subtree_of(PUBLISHED))
    assert hexes(path) == INCLUSION[index, size]
    assert proves_inclusion(PUBLISHED[index], index, size, path, bytes.fromhex(ROOTS[size - 1]))
    assert second.root_by_path(PUBLISHED[index], index, size, path).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("first", "size"), CONSISTENCY)
def test_the_published_consistency_proofs(first, size):
    path = consistency_proof(first, size, subtree_of(PUBLISHED))
    assert hexes(path) == CONSISTENCY[first, size]
    old, new = bytes.fromhex(ROOTS[first - 1]), bytes.fromhex(ROOTS[size - 1])
    assert proves_consistency(first, size, path, old, new)
    second.check_consistency(first, old, size, new, path)


@st.composite
def trees(draw):
    """A tree's size, a leaf in it, and two earlier sizes in order."""
    size = draw(st.integers(1, 700))
    low, high = sorted((draw(st.integers(1, size)), draw(st.integers(1, size))))
    return size, draw(st.integers(0, size - 1)), low, high


MANY = [leaf_hash(b"%d" % number) for number in range(700)]


@given(trees())
def test_both_implementations_agree_on_every_tree(tree):
    size, index, low, high = tree
    subtree, root = subtree_of(MANY[:size]), Frontier().extended(MANY[:size]).root()
    grown = second.Growing()
    for each in MANY[:size]:
        grown.add(each)
    assert grown.root() == root
    path = inclusion_proof(index, size, subtree)
    assert proves_inclusion(MANY[index], index, size, path, root)
    assert second.root_by_path(MANY[index], index, size, path) == root
    old = Frontier.at(low, subtree).root()
    between = consistency_proof(low, size, subtree)
    assert proves_consistency(low, size, between, old, root)
    second.check_consistency(low, old, size, root, between)
    sides = around(low - 1, high, size, subtree)
    assert second.root_around(low - 1, MANY[low - 1 : high], size, sides) == root


@given(trees(), st.data())
def test_no_checker_takes_a_proof_that_was_changed(tree, data):
    size, index, low, _ = tree
    subtree, root = subtree_of(MANY[:size]), Frontier().extended(MANY[:size]).root()
    path, between = inclusion_proof(index, size, subtree), consistency_proof(low, size, subtree)
    wrong = leaf_hash(b"wrong")
    changed = [[wrong, *path], path[:-1], [*path, wrong]] if path else [[wrong]]
    for each in changed:
        assert not proves_inclusion(MANY[index], index, size, each, root)
        with pytest.raises(second.Wrong):
            assert second.root_by_path(MANY[index], index, size, each) != root
            raise second.Wrong
    assert not proves_inclusion(wrong, index, size, path, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda at: at != index)) if size > 1 else 1
    assert not proves_inclusion(MANY[index], other, size, path, root)
    old = Frontier.at(low, subtree).root()
    for each, of_old in ((between, wrong), ([*between, wrong], old), (between[:-1] if between else [wrong], old)):
        assert not proves_consistency(low, size, each, of_old, root)
        with pytest.raises(second.Wrong):
            second.check_consistency(low, of_old, size, root, each)


def test_what_is_not_in_the_tree_cannot_be_proved():
    for index, size in ((8, 8), (-1, 8), (0, 0)):
        with pytest.raises(ValueError, match="is not in a tree of"):
            inclusion_proof(index, size, subtree_of(PUBLISHED))
        assert not proves_inclusion(PUBLISHED[0], index, size, [], PUBLISHED[0])
    with pytest.raises(ValueError, match="holds no tree of 9"):
        consistency_proof(9, 8, subtree_of(PUBLISHED))
    assert proves_consistency(0, 8, [], EMPTY, bytes.fromhex(ROOTS[7]))
    assert not proves_consistency(0, 8, [], PUBLISHED[0], bytes.fromhex(ROOTS[7]))
    with pytest.raises(ValueError, match="leaf 8 is not in a tree of 8"):
        subtree_of(PUBLISHED)(0, 8)
