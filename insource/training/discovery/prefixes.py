"""Which token sequences begin alike: the frequent prefixes of a sample, and the branches that look like templates.

It knows lists of tokens; read backwards, the same code finds what texts end with.
Source: frequent prefixes are those of FT-tree (Zhang et al., IWQoS 2017) and SLCT (Vaarandi, IPOM 2003), here with the
share of rows that stay frequent further on, instead of a fixed depth, to tell a template from the data in its slots.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

ENTRY = 4
"""So many tokens that most rows go on sharing make a template, where nothing fixed stands around them yet."""

INSIDE = 8
"""So many where fixed text stands around them: data may repeat a phrase, but seldom one of eight words."""

KEEP = 0.9
COVER = 0.95
FEWEST_SHARE = 0.02
MANY = 0.01

Tokens = Sequence[Sequence[str]]


def branches(rows: Tokens, support: int, *, enclosed: bool) -> list[list[int]]:
    """Return the groups of rows that begin alike as the rows of a template do; a row is in one group at most.

    `enclosed` says that fixed text stands around the rows already: then the rows are split where nearly all of them go
    on in a few ways (two templates that begin alike), or where a long phrase sets some apart.
    """
    often = max(support, int(MANY * len(rows)))
    if sum(length >= 2 for length in _frequent(rows, often, 2)) >= COVER * len(rows):
        ways = [group for group in _children(rows, range(len(rows)), 0).values() if len(group) >= often]
        if len(ways) > 1:
            return ways
    fewest = max(support, int(FEWEST_SHARE * len(rows))) if enclosed else support
    need = INSIDE if enclosed else ENTRY
    shared = _frequent(rows, fewest, None)
    found: list[list[int]] = []
    waiting: list[tuple[list[int], int]] = [(list(range(len(rows))), 0)]
    while waiting:
        inside, depth = waiting.pop()
        for group in _children(rows, inside, depth).values():
            if len(group) < fewest:
                continue
            kept = sum(shared[row] >= depth + need for row in group)
            if kept >= KEEP * len(group) and len(group) < len(rows):
                found.append(group)
            elif kept >= fewest:
                waiting.append((group, depth + 1))
    return found


def _children(rows: Tokens, inside: Sequence[int], depth: int) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row in inside:
        if len(rows[row]) > depth:
            groups[rows[row][depth]].append(row)
    return groups


def _frequent(rows: Tokens, support: int, deepest: int | None) -> list[int]:
    """Return for each row how many of its first tokens begin at least `support` rows, counted up to `deepest`."""
    lengths = [0] * len(rows)
    open_ = [list(range(len(rows)))]
    depth = 0
    while open_ and (deepest is None or depth < deepest):
        further: list[list[int]] = []
        for group in open_:
            for child in _children(rows, group, depth).values():
                if len(child) >= support:
                    further.append(child)
                    for row in child:
                        lengths[row] = depth + 1
        open_, depth = further, depth + 1
    return lengths
