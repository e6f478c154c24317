"""Drift of the score among requests that were given the same answer, each answer by itself.

A kind of request that a specialist never learned is mostly taken for one or two of the answers it knows: among those
it is a large part, where among all requests it is a small one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from insource.risk.drift_scores import Cuts, ScoreDrift, ScoreFigures, numbers_of

FEWEST = 50
REST = -1


@dataclass(frozen=True, slots=True)
class CutsByAnswer:
    """A window of scores for each answer that has 50 rows of it; `rest` is of all others together, if they have 50."""

    answers: Mapping[int, Cuts]
    rest: Cuts | None

    @classmethod
    def of(cls, scores: Any, answers: Any) -> Self:
        """Cut a window of scores float (n,) by their answers int (n,)."""
        values, places = numbers_of(scores), np.asarray(answers)
        if places.shape != values.shape:
            raise ValueError(f"{values.size} scores and {places.shape} answers; expected one of each for every row.")
        names, counts = np.unique(places, return_counts=True)
        own = [int(name) for name in names[counts >= FEWEST]]
        rest = values[~np.isin(places, own)]
        return cls(
            {name: Cuts.of(values[places == name]) for name in own}, Cuts.of(rest) if rest.size >= FEWEST else None
        )

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        named = {str(name): cuts.to_state() for name, cuts in self.answers.items()}
        return {"answers": named, "rest": None if self.rest is None else self.rest.to_state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what `to_state` gave."""
        rest = state["rest"]
        return cls(
            {int(name): Cuts.from_state(cuts) for name, cuts in state["answers"].items()},
            None if rest is None else Cuts.from_state(rest),
        )


@dataclass(frozen=True, slots=True)
class AnswerScoreFigures:
    """`answer` is the one whose scores moved most, None for all that share a window; `figures` are of its rows.

    `rows` counts those of every answer; `alarmed_at` is a number of that answer's own.
    """

    rows: int
    alarmed_at: int | None
    answer: int | None
    figures: ScoreFigures


class ScoreDriftByAnswer:
    """One `ScoreDrift` for each answer, on its own rows: a label-conditional (Mondrian) conformal martingale.

    Each has the whole run length: their rows are parts of the stream, so that their false alarms among H requests add
    up to H / average_run_length, however many answers there are.
    Source: Vovk, Gammerman and Shafer (2005), "Algorithmic learning in a random world", section 4.5 (Mondrian).
    """

    __slots__ = ("_drifts",)

    def __init__(self, cuts: CutsByAnswer, *, average_run_length: float) -> None:
        named = {**cuts.answers, **({} if cuts.rest is None else {REST: cuts.rest})}
        if not named:
            raise ValueError(f"no answer has a window; expected {FEWEST} rows of one, or of all together.")
        self._drifts = {name: ScoreDrift(each, average_run_length=average_run_length) for name, each in named.items()}

    def update(self, scores: Any, answers: Any) -> bool:
        """Take one request or many, in order: the score and the number of the answer. Say whether any has alarmed."""
        values, places = numbers_of(scores), np.atleast_1d(np.asarray(answers))
        if places.shape != values.shape:
            raise ValueError(f"{values.size} scores and {places.size} answers; expected one of each for every row.")
        groups = np.where(np.isin(places, list(self._drifts)), places, REST)
        for name in np.unique(groups).tolist():
            if name in self._drifts:
                self._drifts[name].update(values[groups == name])
        return self.alarmed_at is not None

    @property
    def alarmed_at(self) -> int | None:
        """After how many of its own rows the first of them alarmed; None where none has."""
        return next((each.alarmed_at for each in self._drifts.values() if each.alarmed_at is not None), None)

    def renew(self) -> None:
        """Begin anew where it alarmed."""
        for each in self._drifts.values():
            if each.alarmed_at is not None:
                each.renew()

    def figures(self) -> AnswerScoreFigures:
        """Return where it stands."""
        every = {name: each.figures() for name, each in self._drifts.items()}
        most = max(every, key=lambda name: (every[name].alarmed_at is not None, every[name].log_evidence))
        rows = sum(each.rows for each in every.values())
        return AnswerScoreFigures(rows, self.alarmed_at, None if most == REST else most, every[most])

    def to_state(self) -> dict[str, Any]:
        """Return what to store, as JSON."""
        return {str(name): each.to_state() for name, each in self._drifts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` gave, over the same cuts."""
        for name, each in self._drifts.items():
            each.restore(state[str(name)])
