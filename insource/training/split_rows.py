"""Which rows of a snapshot teach, certify and test: whole groups of them, the same way for the same recipe.

It knows groups and a recipe; not texts or answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from insource.training.recipe import Recipe
from insource.training.snapshot import Snapshot
from insource.training.splits import folds, places
from insource.training.students.contract import Rows

TEST_SHARE = 0.15
STRICT_FOLDS = (6, 7, 8, 9)
TUNED_FOLDS = (8, 9)
"""The folds set aside to certify on: fewer for a tuned encoder, which gains more from each row."""


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers: `learn` for fitting, `calibrate` set aside (strict only), `test` for the figures.

    `also` and `older` are rows to learn from that may neither certify nor test; `older` only where that helps.
    """

    learn: Rows
    calibrate: Rows
    test: Rows
    also: Rows
    older: Rows


def split_rows(snapshot: Snapshot, recipe: Recipe, examples: int, also: int) -> Split:
    """Split by group: test rows first, then, for `strict`, a part for calibration.

    The first `examples` that were given are evidence, so many after them teach `also`, the others are older.
    """
    everything, given = np.arange(len(snapshot)), np.array(snapshot.kept)
    evidence = given < examples
    if recipe.method == "none":
        return Split(everything, everything[:0], everything[:0], everything[:0], everything[:0])
    where = places(snapshot.groups, recipe.seed)
    rest, test = everything[evidence & (where >= TEST_SHARE)], everything[evidence & (where < TEST_SHARE)]
    teaches = ~evidence & ~np.isin(snapshot.groups, snapshot.groups[evidence])
    recent = given < examples + also
    more = everything[teaches & recent], everything[teaches & ~recent]
    if recipe.method == "cross-fit":
        return Split(rest, rest[:0], test, *more)
    kept = TUNED_FOLDS if recipe.family == "encoder" else STRICT_FOLDS
    aside = np.isin(folds(snapshot.groups[rest], recipe.seed), kept)
    return Split(rest[~aside], rest[aside], test, *more)
