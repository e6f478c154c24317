"""Which of many keys a text begins with, in a number of lookups that does not depend on how many keys there are.

It knows texts only. The method is the binary search on prefix lengths of Waldvogel, Varghese, Turner and Plattner
(Scalable High Speed IP Routing Lookups, SIGCOMM 1997): hashed prefixes lead the search towards longer keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Prefixes(Generic[_Value]):
    """Values by key, to be found by any text that begins with the key."""

    def __init__(self, values: Mapping[str, _Value]) -> None:
        self._values = dict(values)
        self._lengths = sorted({len(key) for key in values})
        signs = {sign for key in values for sign in self._signs(key)}
        self._nearest: dict[str, str | None] = {}  # by sign: the longest key that it begins with
        self._shorter: dict[str, str | None] = {}  # by key: the next shorter key that it begins with
        above: list[str] = []
        for text in sorted(signs | set(values)):
            while above and not text.startswith(above[-1]):
                above.pop()
            nearest = above[-1] if above else None
            if text in self._values:
                self._shorter[text] = nearest
                above.append(text)
                nearest = text
            self._nearest[text] = nearest

    def __len__(self) -> int:
        return len(self._values)

    def of(self, text: str) -> Iterator[_Value]:
        """Give the values of all keys that the text begins with, those of longer keys first.

        Costs a lookup for each halving of the number of different lengths that keys have: at most 11 where no key is
        longer than 1,000 characters; then one step for each value.
        """
        lengths, nearest, size = self._lengths, self._nearest, len(text)
        low, high = 0, len(lengths)
        found: str | None = None
        while low < high:
            middle = (low + high) // 2
            length = lengths[middle]
            begins = text[:length]
            if length <= size and begins in nearest:
                low, found = middle + 1, nearest[begins]
            else:
                high = middle
        while found is not None:
            yield self._values[found]
            found = self._shorter[found]

    def _signs(self, key: str) -> Iterator[str]:
        """The beginnings of a key at which the search has to turn towards longer ones to arrive at it."""
        low, high = 0, len(self._lengths)
        while low < high:
            middle = (low + high) // 2
            length = self._lengths[middle]
            if length <= len(key):
                yield key[:length]
                low = middle + 1
            else:
                high = middle
