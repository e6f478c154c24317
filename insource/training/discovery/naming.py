"""Names for proposals, made of what sets their instructions apart; a person may well choose better ones.

It knows texts and names only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from math import log

WORDS = 2
_WORD = re.compile(r"[a-z][a-z0-9]{2,19}")
_NAME = re.compile(r"[^a-z0-9._-]+")
_DULL = frozenset(
    "the and for with that this you are was not all any can has have its our your from into one only say says answer "
    "answers answering reply replies respond response return returns give given text texts below above following "
    "please read tell whether which what who how does just word words exactly single use using must should will "
    "assistant helpful json yes output input here them they their there than then between other about either".split()
)


def names(instructions: Sequence[str], given: Sequence[str | None], taken: Collection[str] = ()) -> list[str]:
    """Return a name for each proposal, none of them twice or in `taken`.

    A task that requests name keeps its name. Else the two words of the instruction that few other instructions have
    (tf-idf), in their order; "task" where there are none.
    """
    words = [_WORD.findall(_plain(text)) for text in instructions]
    known = Counter(word for found in words for word in set(found))
    used = set(taken) - {name for name in given if name}
    chosen = []
    for found, name in zip(words, given, strict=True):
        wanted = _NAME.sub("-", _plain(name or _distinctive(found, known, len(words)))).strip("._-")[:60] or "task"
        number = 1
        while (free := wanted if number == 1 else f"{wanted}-{number}") in used:
            number += 1
        used.add(free)
        chosen.append(free)
    return chosen


def _distinctive(words: Sequence[str], known: Counter[str], of: int) -> str:
    counts = Counter(word for word in words if word not in _DULL)
    weight = {word: (1 + log(count)) * log((1 + of) / known[word]) for word, count in counts.items()}
    best = sorted(weight, key=lambda word: (-weight[word], words.index(word)))[:WORDS]
    return "-".join(sorted(best, key=words.index))


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text[:2_000]).casefold()
    return "".join(letter for letter in folded if not unicodedata.combining(letter))
