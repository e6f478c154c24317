"""Texts as the miner reads them: words and signs with numbers masked, and what texts begin and end with alike.

It knows texts only; which of them belong together is the miner's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from os.path import commonprefix

READ_CHARACTERS = 3_000
"""So much of a text's beginning, and of its end, is looked at in one pass."""

MOST_TOKENS = 256
STRAY_WORDS = 4

_SPACELESS = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_LETTERS = rf"[^\W{_SPACELESS}]+"
PIECE = rf"{_LETTERS}|[^\s]"
"""A word, a sign, or a letter of a script that sets no blanks between words (Thai, Lao, Japanese, Chinese)."""

_TOKEN = re.compile(rf"[a-z][a-z0-9+.-]*://\S+|@\w+|{PIECE}", re.IGNORECASE)
_MASKED = re.compile(r"\d|://")
_WORD = re.compile(rf"{_LETTERS}|[{_SPACELESS}]")
_LETTER = re.compile(_LETTERS)
_LAST_WORD = re.compile(rf"{_LETTERS}\Z")
_FIRST_WORD = re.compile(rf"\A{_LETTERS}")


def tokens_of(text: str, *, from_end: bool = False) -> list[str]:
    """Return the first words and signs of a text, or the last in reverse.

    A word with a digit in it, or an address, reads "0", and a word or sign that follows itself stands once: dates,
    counts, links and rows of names are data, not wordings. Masking them is Drain's preprocessing (He et al.,
    ICWS 2017).
    """
    if from_end:
        found = _TOKEN.findall(text[max(len(text) - READ_CHARACTERS, 0) :])[::-1]
    else:
        found = _TOKEN.findall(text[:READ_CHARACTERS])
    masked = ["0" if _MASKED.search(token) else token for token in found[:MOST_TOKENS]]
    return [token for token, before in zip(masked, [None, *masked], strict=False) if token != before]


def words_in(texts: Iterable[str]) -> int:
    """Return how many words stand in all the texts."""
    return sum(len(_WORD.findall(text)) for text in texts)


def ends_alike(texts: Sequence[str]) -> tuple[str, str]:
    """Return what all texts begin with and what they then still end with; neither cuts a word in two.

    At least one character of the shortest text is left between the two; of equal texts the end is empty.
    """
    head = _common(texts)
    if any(len(text) > len(head) and _LETTER.match(text[len(head)]) for text in texts):
        head = _LAST_WORD.sub("", head)
    shortest = min(map(len, texts))
    if len(head) >= shortest:
        return head[: max(shortest - 1, 0)], ""
    tail = _common([text[len(head) + 1 :][::-1] for text in texts])[::-1]
    if any(len(text) > len(tail) and _LETTER.match(text[-len(tail) - 1]) for text in texts):
        tail = _FIRST_WORD.sub("", tail)
    return head, tail


def without_strays(texts: Sequence[str]) -> list[int]:
    """Return the texts, by number, that share four words or more of beginning or end but for at most 2 % of them.

    Nothing where no text stands aside. In order of the alphabet strays lie at either end, so the texts one in a hundred
    from both ends tell what the others share.
    """
    aside = len(texts) // 100
    head, tail = ends_alike(texts)
    for turned, known in ((texts, head), ([text[::-1] for text in texts], tail)):
        ordered = sorted(text[:READ_CHARACTERS] for text in turned)
        most = commonprefix((ordered[aside], ordered[-1 - aside]))
        if aside and words_in((most,)) >= words_in((known,)) + STRAY_WORDS:
            part = [number for number, text in enumerate(turned) if text.startswith(most)]
            if len(part) < len(texts):
                return part
    return []


def _common(texts: Sequence[str]) -> str:
    return commonprefix((min(texts), max(texts)))
