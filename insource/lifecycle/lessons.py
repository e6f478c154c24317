"""Lessons: which requests a new version learns from, with which answer, and which of them may certify it.

It knows references as the ledger gives them and reviews as the registry does; it trains nothing. A specialist's own
accepted answer is never a lesson: it is no reference, and nothing here reads it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from insource.answers import AnswerSpace
from insource.types import Example, Message, Outcome, Reason, Request

WINDOW = 10_000
"""The newest lessons that are all taken. Of the older ones as many again are drawn at random, as replay: half and half
once there are more than 20,000 (research/statistics.md, 5(c)), and everything before that."""
RANKS = {"upstream": 0, "review": 1, "gold": 2}
"""What counts when a request has several references: a correction above a review, any person above the teacher."""
ALL_WENT_UP = frozenset({
    Reason.NO_SPECIALIST, Reason.NO_THRESHOLD, Reason.SUSPENDED, Reason.ARTIFACT_DAMAGED
})  # fmt: skip
"""Reasons that hold for every request of a task alike, so that those with a reference are not the hard ones."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One request with the answer taken as right; `unbiased` says that how hard it is had no part in its being here.

    `seal` has the ids of the keys under which its text is kept.
    """

    seq: int
    request_id: str
    time: datetime
    text: str
    answer: str
    source: str
    unbiased: bool
    seal: tuple[bytes, ...] | None = None

    @property
    def gold(self) -> bool:
        """Whether a person gave the answer."""
        return self.source != "upstream"

    def example(self, messages: str = "last_user") -> Example:
        """Return it as training reads it; `messages` is the task's setting, under which the text was kept.

        A conversation kept with "all" begins with its first role; as one message of that role it reads as it did.
        """
        role, said = "user", self.text
        if messages == "all":
            role, _, said = self.text.partition(": ")
        request = Request(self.request_id, (Message(role, said),))
        answer, gold = (None, self.answer) if self.gold else (self.answer, None)
        return Example(request, answer, gold, time=self.time, seal=self.seal)


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a version learns from: `evidence` may certify it, `also` only teaches; `older` does if that helps.

    `older` are from before the last suspension. `left_out` counts, by the reason.
    """

    evidence: tuple[Lesson, ...]
    also: tuple[Lesson, ...]
    older: tuple[Lesson, ...]
    left_out: dict[str, int]


def unbiased(decision: Any) -> bool:
    """Say whether a decided request got its reference for no reason of its own: by the coin, or as all did."""
    if decision.outcome is Outcome.KEPT:
        return False  # only those that a person chose to answer have one
    return bool(decision.audited) or (decision.reason in ALL_WENT_UP and decision.tier is None)


def gather(
    references: Iterable[tuple[int, str, datetime, str, str, str, tuple[bytes, ...] | None]],
    reviews: Iterable[Any],
    decided: Callable[[str], Any],
    corrected: Callable[[str], Sequence[Any]] = lambda request_id: (),
) -> list[Lesson]:
    """Return one lesson a request, in the order of the ledger, with its highest reference; the latest of equals.

    `references` as `LedgerReader.references` yields them, `reviews` as answered in the registry, `decided` returns a
    request's row of the ledger (or None), `corrected` what people said of it. Sources that are neither gold nor
    upstream are refused (ValueError): what else there is may be a specialist's own answer.
    """
    found: dict[str, Lesson] = {}

    def keep(lesson: Lesson) -> None:
        before = found.get(lesson.request_id)
        if before is None or (RANKS[lesson.source], lesson.seq) >= (RANKS[before.source], before.seq):
            row = decided(lesson.request_id) if before is None else None
            fair = before.unbiased if before is not None else row is not None and unbiased(row.decision)
            found[lesson.request_id] = replace(lesson, unbiased=fair)

    for seq, request_id, time, text, answer, source, seal in references:
        if source not in ("gold", "upstream"):
            raise ValueError(f"a reference has the source {source!r}; gold or upstream was expected")
        if source == "gold" and (told := list(corrected(request_id))):
            better = [each for each in told if each.source != "review"]
            source = "gold" if better else "review"
            answer = (better or told)[-1].answer
        keep(Lesson(seq, request_id, time, text, answer, source, False, seal))
    for review in reviews:
        if review.text is not None and review.answer is not None and review.request_id not in found:
            row = decided(review.request_id)
            seq, text, answer = 0 if row is None else row.seq, review.text, review.answer
            keep(Lesson(seq, review.request_id, review.time, text, answer, "review", False, review.seal))
    return sorted(found.values(), key=lambda lesson: lesson.seq)


def choose(lessons: Sequence[Lesson], *, evidence_after: int = 0, window: int = WINDOW, seed: int = 0) -> Lessons:
    """Return the newest `window` lessons and as many older ones drawn at random, apart by what they may be used for.

    Only unbiased ones above `evidence_after` are evidence: after a suspension, those since. Evidence keeps its repeats,
    as the traffic has them; of what only teaches, each text comes once with one answer, the newest.
    """
    recent, older = list(lessons[-window:]), list(lessons[:-window])
    drawn = older if len(older) <= window else random.Random(seed).sample(older, window)
    chosen = sorted([*drawn, *recent], key=lambda lesson: lesson.seq)
    evidence = tuple(lesson for lesson in chosen if lesson.unbiased and lesson.seq > evidence_after)
    known = {(lesson.text, lesson.answer) for lesson in evidence}
    also: list[Lesson] = []
    for lesson in reversed(chosen):
        if (lesson.unbiased and lesson.seq > evidence_after) or (lesson.text, lesson.answer) in known:
            continue
        known.add((lesson.text, lesson.answer))
        also.append(lesson)
    left_out = {"not drawn": len(lessons) - len(chosen), "repeated": len(chosen) - len(evidence) - len(also)}
    return Lessons(
        evidence,
        tuple(lesson for lesson in reversed(also) if lesson.seq > evidence_after),
        tuple(lesson for lesson in reversed(also) if lesson.seq <= evidence_after),
        {why: number for why, number in left_out.items() if number},
    )


def outside(lessons: Iterable[Lesson], space: AnswerSpace) -> list[Lesson]:
    """Return the teacher's lessons whose answer lies outside a closed set; a person's may bring a new answer."""
    return [lesson for lesson in lessons if not lesson.gold and space.normalise(lesson.answer) is None]
