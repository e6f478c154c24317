"""Spending a budget of upstream calls evenly over a stream, on the requests with the lowest scores.

It knows scores and counts; not what the requests are.
"""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW = 500


class Pacer:
    """Says of each unsure request whether it goes up: at most `calls` times in `requests` requests to come.

    A request goes up where its score lies in the lowest share, of the last 500 unsure scores, that the calls left can
    pay for if as many of the requests left are unsure as were so far. `requests` counts down with every `passed`.
    """

    def __init__(self, calls: int, requests: int) -> None:
        self.calls, self._requests = calls, max(requests, 1)
        self._seen = self._unsure = 0
        self._scores: deque[float] = deque(maxlen=WINDOW)

    def passed(self, requests: int = 1) -> None:
        """Note that so many requests have gone by, whatever became of them."""
        self._seen += requests

    def __call__(self, score: float) -> bool:
        """Return whether the request with this score goes up, and count it where it does."""
        self._unsure += 1
        self._scores.append(score)
        if self.calls <= 0:
            return False
        left = max(self._requests - self._seen, 1)
        unsure_left = max(left * self._unsure / max(self._seen, self._unsure), 1.0)
        share = min(1.0, self.calls / unsure_left)
        if score > float(np.quantile(self._scores, share)):
            return False
        self.calls -= 1
        return True
