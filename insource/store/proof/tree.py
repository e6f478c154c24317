"""The Merkle tree of RFC 6962, section 2.1: hashes, the frontier that grows, proofs and their checks.

It knows bytes and numbers; it does not know what a leaf says or where hashes are kept. SHA-256, 32 bytes each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

Subtree = Callable[[int, int], bytes]
"""From (level, index) to the root of the complete subtree over leaves index * 2**level to (index + 1) * 2**level."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf's bytes."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two hashes."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """What is needed to append: the size, and the roots of the complete subtrees that make it up, largest first."""

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def extended(self, hashes: Sequence[bytes]) -> Frontier:
        """Return the frontier after the leaves with these hashes; this one stays as it is."""
        roots, size, sha256 = list(self.roots), self.size, hashlib.sha256
        for new in hashes:
            carry = size
            while carry & 1:
                new = sha256(b"\1" + roots.pop() + new).digest()
                carry >>= 1
            roots.append(new)
            size += 1
        return Frontier(size, tuple(roots))

    def root(self) -> bytes:
        """Return the root of the tree of this size."""
        if not self.roots:
            return EMPTY
        found = self.roots[-1]
        for left in self.roots[-2::-1]:
            found = node_hash(left, found)
        return found

    @classmethod
    def at(cls, size: int, subtree: Subtree) -> Frontier:
        """Return the frontier of the first `size` leaves from stored hashes."""
        roots, start = [], 0
        for level in range(size.bit_length() - 1, -1, -1):
            if size >> level & 1:
                roots.append(subtree(level, start >> level))
                start += 1 << level
        return cls(size, tuple(roots))


def range_root(start: int, stop: int, subtree: Subtree) -> bytes:
    """Return the root over leaves `start` to `stop` of a tree; `start` is where RFC 6962 splits, so subtrees fit."""
    size = stop - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, start >> level)
    split = start + _split(size)
    return node_hash(range_root(start, split, subtree), range_root(split, stop, subtree))


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1), lowest hash first.

    Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path, start, stop = [], 0, size
    while stop - start > 1:
        split = start + _split(stop - start)
        if index < split:
            path.append(range_root(split, stop, subtree))
            stop = split
        else:
            path.append(range_root(start, split, subtree))
            start = split
    return path[::-1]


def consistency_proof(first: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the tree of `size` leaves extends that of `first` (RFC 6962, 2.1.2).

    Empty for `first` 0 and `first` equal to `size`. Raises ValueError where `first` is not within the tree.
    """
    if not 0 <= first <= size:
        raise ValueError(f"a tree of {size} leaves holds no tree of {first}")
    if first in (0, size):
        return []
    path, start, stop, whole = [], 0, size, True
    while stop != first:
        split = start + _split(stop - start)
        if first <= split:
            path.append(range_root(split, stop, subtree))
            stop = split
        else:
            path.append(range_root(start, split, subtree))
            start, whole = split, False
    if not whole:
        path.append(range_root(start, stop, subtree))
    return path[::-1]


def proves_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Say whether `path` leads from the leaf's hash to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    found, node, last = leaf, index, size - 1
    for each in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(each, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, each)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def proves_consistency(first: int, size: int, path: Sequence[bytes], old: bytes, new: bytes) -> bool:
    """Say whether `path` shows that the tree of `size` with root `new` extends that of `first` with root `old`.

    After RFC 9162, 2.1.4.2. Every tree extends the empty one, whose root must be EMPTY.
    """
    if first in (0, size):
        return not path and old == (EMPTY if first == 0 else new)
    if not 0 < first < size or not path:
        return False
    rest = list(path)
    if first & (first - 1) == 0:
        rest.insert(0, old)
    node, last = first - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    of_old = of_new = rest[0]
    for each in rest[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            of_old, of_new = node_hash(each, of_old), node_hash(each, of_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            of_new = node_hash(of_new, each)
        node, last = node >> 1, last >> 1
    return last == 0 and of_old == old and of_new == new


def around(first: int, stop: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the hashes left and right of leaves `first` to `stop`, in the order in which `root_around` takes them."""
    found: list[bytes] = []

    def visit(low: int, high: int) -> None:
        if high <= first or low >= stop:
            found.append(range_root(low, high, subtree))
        elif high - low > 1:
            split = low + _split(high - low)
            visit(low, split)
            visit(split, high)

    visit(0, size)
    return found


def root_around(first: int, leaves: Sequence[bytes], size: int, sides: Sequence[bytes]) -> bytes:
    """Return the root of a tree of `size` from the hashes of its leaves from `first` on, and what `around` gave."""
    given, stop = iter(sides), first + len(leaves)

    def over(low: int, high: int) -> bytes:
        if high <= first or low >= stop:
            return next(given)
        if high - low == 1:
            return leaves[low - first]
        split = low + _split(high - low)
        return node_hash(over(low, split), over(split, high))

    return over(0, size)


def _split(size: int) -> int:
    """Return the largest power of two below `size` (2 or more)."""
    return 1 << (size - 1).bit_length() - 1
