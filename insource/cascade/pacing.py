"""Spending a budget of upstream calls evenly, over a stream or a day, on the requests with the lowest scores.

It knows scores, counts and moments; not what the requests are.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from datetime import datetime, timedelta

WINDOW = 500
DAY = timedelta(days=1)
LEAST_SECONDS = 600.0
"""How long requests are counted before their rate is believed; until then it is taken for lower than it may be."""


class Window:
    """The last 500 scores, and whether one of them lies in their lowest share."""

    def __init__(self) -> None:
        self._turn = 0.0
        self._scores: deque[float] = deque()
        self._sorted: list[float] = []

    def note(self, score: float) -> None:
        """Take a score in; one that is not a number has no place among them."""
        if math.isnan(score):
            return
        self._scores.append(score)
        insort(self._sorted, score)
        if len(self._scores) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._scores.popleft())]

    def lies_in(self, share: float, score: float) -> bool:
        """Say whether a score noted lies in their lowest share; of equals as many do as belong there, in turn."""
        first, past = bisect_left(self._sorted, score), bisect_right(self._sorted, score)
        inside = (share * len(self._sorted) - first) / (past - first)
        if 0.0 < inside < 1.0:
            self._turn += inside
            inside = math.floor(self._turn)
            self._turn -= inside
        return inside >= 1.0


class Pacer:
    """Says of each unsure request whether it goes up: at most `calls` times in `requests` requests to come.

    A request goes up where its score lies in the lowest share, of the last 500 unsure scores, that the calls left can
    pay for if as many of the requests left are unsure as were so far. `requests` counts down with every `passed`. A
    selection that knows better than the score says with `passed` how sure the answer is that is decided next.
    """

    def __init__(self, calls: int, requests: int) -> None:
        self.calls, self._requests = calls, max(requests, 1)
        self._seen = self._unsure = 0
        self._sure: float | None = None
        self._window = Window()

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
        self._window.note(score)
        if self.calls <= 0:
            return False
        left = max(self._requests - self._seen, 1)
        unsure_left = max(left * self._unsure / max(self._seen, self._unsure), 1.0)
        if not math.isnan(score) and not self._window.lies_in(min(1.0, self.calls / unsure_left), score):
            return False
        self.calls -= 1
        return True


class DayPacer:
    """Says of each request whether it is picked: about `limit` times from midnight to midnight (UTC).

    One is picked where its score lies in the lowest share, of the last 500, that what is `left` today can pay for if
    the rest of the day brings as many as the last 24 hours or so did; the `workers` see as many each. It paces and
    promises nothing: who counts for all workers says with `told` how many are left.
    """

    def __init__(self, limit: int, workers: int = 1) -> None:
        self._limit = self.left = limit
        self._workers = workers
        self._day = self._began = self._last = datetime.min
        self._seen = 0.0
        self._window = Window()

    def __call__(self, score: float, now: datetime) -> bool:
        """Return whether the request with this score, a number, is picked, and count it where it is."""
        self._turn_to(now)
        self._window.note(score)
        self._seen = self._seen * math.exp((self._last - now) / DAY) + 1.0
        self._last = now
        if self.left <= 0:
            return False
        expected = self._rate(now) * (self._day + DAY - now).total_seconds() * self._workers
        if not self._window.lies_in(min(1.0, self.left / max(expected, 1.0)), score):
            return False
        self.left -= 1
        return True

    def told(self, left: int, now: datetime) -> None:
        """Take over how many are left, of all workers, on the day of `now`."""
        self._turn_to(now)
        self.left = left

    def _turn_to(self, now: datetime) -> None:
        """Begin with the first request, and anew with each day."""
        if self._day == datetime.min:
            self._began = self._last = now
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if midnight != self._day:
            self._day, self.left = midnight, self._limit

    def _rate(self, now: datetime) -> float:
        """Return requests a second, those of a day ago counting for less (by 1/e)."""
        span = DAY.total_seconds() * -math.expm1((self._began - now) / DAY)
        return self._seen / max(span, LEAST_SECONDS)
