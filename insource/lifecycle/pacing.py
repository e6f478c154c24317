"""Spending a budget of upstream calls evenly over a stream, on the requests with the lowest scores.

It knows scores and counts; not what the requests are.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque

WINDOW = 500


class Pacer:
    """Says of each unsure request whether it goes up: at most `calls` times in `requests` requests to come.

    A request goes up where its score lies in the lowest share, of the last 500 unsure scores, that the calls left can
    pay for if as many of the requests left are unsure as were so far. `requests` counts down with every `passed`. A
    selection that knows better than the score says with `passed` how sure the answer is that is decided next.
    """

    def __init__(self, calls: int, requests: int) -> None:
        self.calls, self._requests = calls, max(requests, 1)
        self._seen = self._unsure = 0
        self._turn = 0.0
        self._sure: float | None = None
        self._scores: deque[float] = deque()
        self._sorted: list[float] = []

    def passed(self, requests: int = 1, *, sure: float | None = None) -> None:
        """Note that so many requests have gone by, whatever became of them; `sure` stands for the last one's score."""
        self._seen += requests
        self._sure = sure

    def __call__(self, score: float) -> bool:
        """Return whether the request with this score goes up, and count it where it does.

        One whose score is not a number goes up as long as there are calls.
        """
        score = score if self._sure is None else self._sure
        self._unsure += 1
        self._note(score)
        if self.calls <= 0:
            return False
        left = max(self._requests - self._seen, 1)
        unsure_left = max(left * self._unsure / max(self._seen, self._unsure), 1.0)
        if not math.isnan(score) and not self._lies_in(min(1.0, self.calls / unsure_left), score):
            return False
        self.calls -= 1
        return True

    def _note(self, score: float) -> None:
        if math.isnan(score):
            return
        self._scores.append(score)
        insort(self._sorted, score)
        if len(self._scores) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._scores.popleft())]

    def _lies_in(self, share: float, score: float) -> bool:
        """Say whether a score of the window lies in its lowest share; of equals as many do as belong there, in turn."""
        first, past = bisect_left(self._sorted, score), bisect_right(self._sorted, score)
        inside = (share * len(self._sorted) - first) / (past - first)
        if 0.0 < inside < 1.0:
            self._turn += inside
            inside = math.floor(self._turn)
            self._turn -= inside
        return inside >= 1.0
