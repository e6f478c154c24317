"""What a stream is compared with to find drift: a window of a version's own rows, cut down to a few numbers.

It is kept with the version, as JSON; it knows numbers of answers, not their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from insource.risk.drift_by_answer import FEWEST, CutsByAnswer
from insource.risk.drift_scores import Cuts

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A window of rows as the version serves them; None: not watched.

    `scores` and `distances` (of embeddings) of every request, `by_answer` the scores by the answer given; `answers`
    counts the answers given, `escalated` the references of the escalated requests, the last number of either being
    those outside the set; `disagreeing` counts the escalated whose reference is the specialist's answer, and the
    others. The rows must be scored by the version as it serves: scores out of fold lie lower than those
    of the refitted student, and the difference is found. 1,000 rows are plenty, 300 a start.
    """

    scores: Cuts | None = None
    by_answer: CutsByAnswer | None = None
    distances: Cuts | None = None
    answers: Counts | None = None
    escalated: Counts | None = None
    disagreeing: Counts | None = None

    @classmethod
    def of(
        cls,
        n_answers: int,
        *,
        scores: Any = None,
        distances: Any = None,
        answers: Any = None,
        escalated: Any = None,
        escalated_wrong: Any = None,
    ) -> Self:
        """Make one from a window's rows; answers and references by number, -1 for one outside the set.

        `scores`, `distances` and `answers` are of all rows, `escalated` and `escalated_wrong` of the escalated ones:
        the reference, and whether the answer differed from it.
        """
        both = scores is not None and answers is not None and np.size(scores) >= FEWEST
        return cls(
            None if scores is None else Cuts.of(scores),
            CutsByAnswer.of(scores, answers) if both else None,
            None if distances is None else Cuts.of(distances),
            _counted(answers, n_answers),
            _counted(escalated, n_answers),
            None if escalated_wrong is None else _counted(np.asarray(escalated_wrong, dtype=np.bool_), 2),
        )

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {
            **{name: None if (cuts := getattr(self, name)) is None else cuts.to_state() for name in _CUT},
            **{name: None if (counts := getattr(self, name)) is None else list(counts) for name in _COUNTED},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what `to_state` gave."""
        read: dict[str, Any] = {name: kind.from_state(state[name]) for name, kind in _CUT.items() if state[name]}
        read |= {name: tuple(state[name]) for name in _COUNTED if state[name]}
        return cls(**read)


_CUT: Mapping[str, type[Cuts] | type[CutsByAnswer]] = {"scores": Cuts, "by_answer": CutsByAnswer, "distances": Cuts}
_COUNTED = ("answers", "escalated", "disagreeing")


def _counted(numbers: Any, n_answers: int) -> Counts | None:
    """Return how often each number occurs, -1 last; None where there are no rows."""
    if numbers is None or np.size(numbers) == 0:
        return None
    places = np.asarray(numbers, dtype=np.intp)
    if not -1 <= places.min() <= places.max() < n_answers:
        raise ValueError(f"answers are not all from -1 to {n_answers - 1}; expected places in the set.")
    return tuple(np.bincount(np.where(places < 0, n_answers, places), minlength=n_answers + 1).tolist())
