"""Word and character n-grams of a text, in one function that training and serving share.

It knows neither vocabulary nor weights: it turns text into two lists of n-grams and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

VERSION = 1
"""Raised whenever `ngrams` would give another result; a stored model names the one it was trained with."""

CHARACTER_ORDERS = (2, 3, 4, 5)

_WORDS = re.compile(r"\w+|[^\w\s]")


def ngrams(text: str) -> tuple[list[str], list[str]]:
    """Return the word n-grams (orders 1 and 2) and the character n-grams (orders 2 to 5) of a text, with repeats.

    The text is lower-cased. Punctuation counts as a word; a word bigram has a space between its words. Character
    n-grams run over the text with white space collapsed to single blanks and one blank at either end.
    """
    lowered = text.lower()
    words = _WORDS.findall(lowered)
    words += [f"{first} {second}" for first, second in zip(words, words[1:], strict=False)]
    line = f" {' '.join(lowered.split())} "
    characters: list[str] = []
    grams: Iterable[str] = line
    for order in CHARACTER_ORDERS:  # adding a character to each n-gram is quicker than cutting all of them anew
        grams = [gram + last for gram, last in zip(grams, line[order - 1 :], strict=False)]
        characters += grams
    return words, characters
