"""The template miner: fixed texts with slots between them, found in prompts where instruction and data are one text.

It knows texts only. Groups are split by what they begin with, by what they end with, and by long phrases within, until
nothing sets the rows of a group apart; then the fixed texts are what all of its rows share, in their order.
docs/decisions/0011-own-template-miner.md says why no miner from the package index does this.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from insource.inputs import slots_of
from insource.training.discovery.prefixes import branches
from insource.training.discovery.tokens import PIECE, ends_alike, tokens_of, without_strays, words_in

FEWEST_WORDS = 3
PHRASE = 8
PHRASE_SHARE = 0.05
SAMPLE = 8_000
PHRASE_SAMPLE = 500
KEPT = 4_000
MEMBERS = 60
INNER_CHARACTERS = 5
INNER_READ = 2_000
DEEPEST = 12

_PIECE = re.compile(rf"\n*(?:{PIECE})")

Literals = tuple[str, ...]
_Item = TypeVar("_Item")


def mine(texts: Sequence[str], support: int) -> list[Literals]:
    """Return the templates that at least `support` of the texts follow, the most specific first.

    A template is its fixed texts: before, between and after its slots; the first and the last may be empty. At most
    8,000 of the texts, evenly spaced, are looked at.
    """
    sample = [_shortened(text, number) for number, text in enumerate(_evenly(texts, SAMPLE))]
    fewest = max(min(support, 10), support * len(sample) // max(len(texts), 1))
    found = {literals for group in _groups(sample, fewest) if (literals := fixed_texts(group)) is not None}
    return sorted(found, key=lambda literals: (-sum(map(len, literals)), literals))


def fixed_texts(texts: Sequence[str], fewest_words: int = FEWEST_WORDS) -> Literals | None:
    """Return the fixed texts that all the texts share, None where they are too little to know a request by."""
    head, tail = ends_alike(texts)
    inner = _shared_inside([text[len(head) : len(text) - len(tail)] for text in _evenly(texts, MEMBERS)], 0)
    literals = (head, *inner, tail)
    if slots_of(texts[0], literals) is None or sum(slots_of(text, literals) is None for text in texts) > 0:
        literals = (head, tail)
    return literals if words_in(literals) >= fewest_words else None


def _groups(texts: Sequence[str], support: int) -> Iterator[list[str]]:
    """Give the groups of texts that nothing sets apart any more, those of fewer than `support` texts left out."""
    waiting: list[tuple[list[str], int]] = [(list(texts), 0)]
    while waiting:
        group, depth = waiting.pop()
        if len(group) < support:
            continue
        parts = _split(group, support) if depth < DEEPEST else []
        if not parts:
            yield group
            continue
        taken = {number for part in parts for number in part}
        waiting += [([group[number] for number in part], depth + 1) for part in parts]
        waiting.append(([text for number, text in enumerate(group) if number not in taken], depth + 1))


def _split(group: Sequence[str], support: int) -> list[list[int]]:
    """Return parts of a group that differ from the rest in what is fixed, by number; nothing where none does."""
    part = without_strays(group)
    if part:
        return [part]
    head, tail = ends_alike(group)
    enclosed = words_in((head, tail)) >= FEWEST_WORDS
    rest = [text[len(head) : len(text) - len(tail)] for text in group]
    parts = branches([tokens_of(text) for text in rest], support, enclosed=enclosed)
    parts = parts or branches([tokens_of(text, from_end=True) for text in rest], support, enclosed=enclosed)
    return parts or _by_phrase(rest, support, enclosed)


def _by_phrase(texts: Sequence[str], support: int, enclosed: bool) -> list[list[int]]:
    """Return the texts, by number, that hold the phrase of eight words which the most but not all of them hold.

    A phrase does not run across what all the texts share.
    """
    shared = _shared_inside(_evenly(texts, MEMBERS), 0)
    rows = [[tokens_of(piece) for piece in _pieces(text, shared)] for text in texts]
    sample = _evenly(rows, PHRASE_SAMPLE if enclosed else 4 * PHRASE_SAMPLE)
    seen = Counter(phrase for row in sample for phrase in {each for piece in row for each in _windows(piece)})
    share = support / len(texts)
    fewest = max(share, PHRASE_SHARE if enclosed or shared else 0.0) * len(sample)
    usual = [(count, phrase) for phrase, count in seen.items() if max(fewest, 5) <= count < len(sample)]
    if not usual:
        return []
    phrase = max(usual)[1]
    part = [number for number, row in enumerate(rows) if any(phrase in _windows(piece) for piece in row)]
    return [part] if support <= len(part) < len(texts) else []


def _shortened(text: str, number: int) -> str:
    """Return a long text's first and last 4,000 characters, and between them what no other text has."""
    if len(text) <= 2 * KEPT:
        return text
    return f"{text[:KEPT]}\0{number}\0{text[-KEPT:]}"


def _pieces(text: str, shared: Sequence[str]) -> list[str]:
    pieces = []
    for fixed in shared:
        before, _, text = text.partition(fixed)
        pieces.append(before)
    return [*pieces, text]


def _windows(row: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(row[place : place + PHRASE]) for place in range(len(row) - PHRASE + 1)]


def _evenly(items: Sequence[_Item], most: int) -> list[_Item]:
    """Return at most so many items, evenly spaced."""
    step = max(len(items) / most, 1.0)
    return [items[int(place * step)] for place in range(min(len(items), most))]


def _shared_inside(texts: Sequence[str], depth: int) -> list[str]:
    """Return the fixed texts inside, longest first and then on both sides of it, in their order.

    Source: Ratcliff and Metzener's gestalt pattern matching (Dr. Dobb's Journal, 1988), here over many texts at once.
    """
    longest = _longest_shared(texts) if depth < DEEPEST else ""
    if not longest:
        return []
    sides = [text.partition(longest) for text in texts]
    left, right = [side[0] for side in sides], [side[2] for side in sides]
    return [*_shared_inside(left, depth + 1), longest, *_shared_inside(right, depth + 1)]


def _longest_shared(texts: Sequence[str]) -> str:
    """Return the longest text of two tokens or more that stands in all texts, with room on both sides; else ""."""
    base = min(texts, key=len)
    places = _token_ends(base)
    best = ""
    for number, (start, _) in enumerate(places):
        reach = len(best)
        for _, end in places[number + 1 :]:
            if end - start <= reach:
                continue
            piece = base[start:end]
            if not all(text.find(piece, 1, len(text) - 1) >= 0 for text in texts):
                break
            best, reach = piece, end - start
    return best if len(best) >= INNER_CHARACTERS and words_in((best,)) else ""


def _token_ends(text: str) -> list[tuple[int, int]]:
    """Return where the first tokens of a text begin and end; a line's end belongs to the token after it."""
    return [match.span() for match in _PIECE.finditer(text[:INNER_READ])]
