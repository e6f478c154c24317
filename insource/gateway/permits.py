"""Permits: how many requests are served at once; the next is refused at once instead of queued.

It knows numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from insource.errors import Overloaded


class Permits:
    """A bound on the requests served at once; `watch` is told how many are."""

    def __init__(self, limit: int, watch: Callable[[int], None] = lambda _: None) -> None:
        self._limit = limit
        self._watch = watch
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a permit; raise Overloaded where none is free."""
        if self.taken >= self._limit:
            raise Overloaded(f"{self.taken} requests are being served; at most {self._limit} are taken at once.")
        self.taken += 1
        self._watch(self.taken)
        try:
            yield
        finally:
            self.taken -= 1
            self._watch(self.taken)
