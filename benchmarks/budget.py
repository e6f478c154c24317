"""`--budget`: accuracy against gold for a share of upstream calls, insource's selection against three others.

Every replay of one order has the same student, warm-up, schedule, pacer and number of calls, and another selection.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.budgeted import Entropy, Margin, Random, Spent, spend
from benchmarks.figure import Figure
from benchmarks.ordered import Asked, alone, kept, prepare
from insource.training.crossfit import cores
from insource.training.encoder_graph import BUILDER

SETS = ("twitter_financial_news", "trec_questions", "tweeteval_offensive")
SHARES = (0.1, 0.2, 0.4)
ORDERS = 5
MOST = 8_000
"""Of larger sets so many requests, drawn once."""
FAMILY = "encoder-frozen"
OWN = "insource"
OTHERS = {"random": Random, "entropy": Entropy, "margin": Margin}
SAME_CALLS = 0.01


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Replay each set in several orders."""
    orders, most = (2, 1_500) if quick else (ORDERS, MOST)
    figures = []
    for name in SETS[:1] if quick else SETS:
        asked = _asked(data, home, name, most)
        asked.material.encoder(), asked.material.linear()  # embedded and counted before the processes begin
        cells = [(seed, share, each) for share in SHARES for seed in range(orders) for each in (OWN, *OTHERS)]
        with ProcessPoolExecutor(cores(), initializer=alone) as pool:
            spent = dict(zip(cells, pool.map(partial(_spent, data, home, name, most), cells), strict=True))
        for share in SHARES:
            runs = [{each: spent[seed, share, each] for each in (OWN, *OTHERS)} for seed in range(orders)]
            figures += figures_of(name, share, runs)
    return figures


def _spent(data: Path, home: Path, name: str, most: int, cell: tuple[int, float, str]) -> Spent:
    seed, share, each = cell
    path = home / "budget" / f"{name}-{most}-{BUILDER}-{share}-{seed}-{each}.json"
    select = None if each == OWN else OTHERS[each](seed)
    return kept(path, Spent, lambda: spend(_asked(data, home, name, most), seed, share, select, FAMILY))


@cache
def _asked(data: Path, home: Path, name: str, most: int) -> Asked:
    return prepare(data, home, name, most)


def figures_of(name: str, share: float, orders: list[dict[str, Spent]]) -> list[Figure]:
    """Return accuracy and calls, and the paired differences from each other selection."""
    accuracy = {each: np.array([100 * order[each].accuracy for order in orders]) for each in (OWN, *OTHERS)}
    calls = [[spent.calls for spent in order.values()] for order in orders]
    apart = max(max(each) / min(each) - 1 for each in calls)
    title = f"{name}, {share:.0%} of calls"
    figures = [
        Figure(f"{title}: accuracy of {OWN}", f"{_told(accuracy[OWN])} %"),
        Figure(f"{title}: calls apart", f"{apart:.2%}", f"<= {SAME_CALLS:.0%}", apart <= SAME_CALLS),
    ]
    for other in OTHERS:
        gain = accuracy[OWN] - accuracy[other]
        seen = f"{_told(gain, sign=True)} points ({other}: {_told(accuracy[other])} %)"
        figures.append(Figure(f"{title}: above {other}", seen, "> 0", bool(gain.mean() > 0)))
    return figures


def _told(values: np.ndarray, *, sign: bool = False) -> str:
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():{'+' if sign else ''}.2f} ± {error:.2f}"
