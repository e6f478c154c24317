"""Permits: how many requests are served at once; the next is refused at once instead of queued.

It knows numbers only.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from insource.errors import Overloaded


class Permits:
    """A bound on the requests served at once; `watch` is told how many are. Use as a context manager, for each one."""

    def __init__(self, limit: int, watch: Callable[[int], None] = lambda _: None) -> None:
        self.limit = limit
        self._watch = watch
        self.taken = 0

    def check(self) -> None:
        """Raise Overloaded where none is free."""
        if self.taken >= self.limit:
            raise Overloaded(f"{self.taken} requests are being served; at most {self.limit} are taken at once.")

    def __enter__(self) -> None:
        """Take a permit; raise Overloaded where none is free."""
        self.check()
        self.taken += 1
        self._watch(self.taken)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.taken -= 1
        self._watch(self.taken)
