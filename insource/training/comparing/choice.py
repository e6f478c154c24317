"""The front, the price of the next point on it, which contender is recommended, and what would change that.

Pure functions of measured contenders; they know nothing of training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from insource.training.comparing.contender import Contender
from insource.training.precision import SIGNIFICANT, is_worse
from insource.types import Require

ONE_SIDED = 1.645
"""The normal quantile of 1 - SIGNIFICANT."""
FEWEST_DIFFERING = 5
"""Rows on which two differ, all one way, that are significant at 0.05."""
assert SIGNIFICANT == 0.05
MICRO = Decimal("1E-6")
WORTH = 0.95
"""What a compression may take at most of its source's p50 or of its size, in either of them: what differs by less saves
nothing that another run would see again."""


@dataclass(frozen=True, slots=True)
class Step:
    """From one contender of the front to the next more accurate one: what one more point of accuracy costs.

    `money` is per million requests, `milliseconds` of p50; less than nothing is a saving. `within_noise`: the test rows
    do not show that `after` is more accurate.
    """

    before: str
    after: str
    points: float
    money: Decimal
    milliseconds: float
    megabytes: float
    within_noise: bool


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Which contender to take and why; `met` is false where none meets what the task requires."""

    contender: Contender
    why: str
    met: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Under the condition in words, `name` would be recommended instead; None where it only would be known better."""

    condition: str
    name: str | None
    told: str


def dominates(one: Contender, other: Contender) -> bool:
    """Whether one is no worse in accuracy, cost, p50 and share sent up, and better in one of them."""
    return one.figures != other.figures and all(
        mine <= theirs for mine, theirs in zip(one.figures, other.figures, strict=True)
    )


def saves(compression: Contender, source: Contender) -> bool:
    """Whether a compression is quicker or smaller than what it was made of, by WORTH, or the test rows show it better.

    One that is not would stand beside its source by the noise of a measurement alone.
    """
    quicker = compression.latency_ms[0] <= WORTH * source.latency_ms[0]
    smaller = compression.size_bytes <= WORTH * source.size_bytes
    return quicker or smaller or is_worse(source.right, compression.right)


def front_of(contenders: Sequence[Contender]) -> list[Contender]:
    """Return those that no other dominates (Pareto), in their order; no compression that saves nothing is one."""
    sources = {each.version.name: each for each in contenders}
    made_of = [sources.get(each.version.lineage.get("compressed_from", "")) for each in contenders]
    worth = [each for each, source in zip(contenders, made_of, strict=True) if source is None or saves(each, source)]
    return [one for one in worth if not any(dominates(other, one) for other in worth)]


def steps_of(front: Sequence[Contender]) -> list[Step]:
    """Return the way up the front, from the least accurate to the most; of equals the cheapest counts."""
    cheapest: dict[float, Contender] = {}
    for each in sorted(front, key=_price):
        cheapest.setdefault(each.accuracy, each)
    way = [cheapest[accuracy] for accuracy in sorted(cheapest)]
    return [_step(before, after) for before, after in zip(way, way[1:], strict=False)]


def recommend(contenders: Sequence[Contender], require: Require) -> Recommendation:
    """Return the choice among measured contenders, of which there is at least one.

    Of those that meet `require` (of all, where none does) the front; of it, all whose accuracy the test rows do not
    tell from the best one's, and of these all whose share of accepted rows they do not tell from the largest; the
    cheapest of those, then the quickest, both in the front's own digits, then the most accurate, then the smallest.
    "Tell": an exact one-sided sign test on the rows where two differ, at 0.05 (McNemar, Psychometrika 1947), as in
    `training.precision`. To prefer the simplest within noise of the best is the rule of one standard error (Breiman,
    Friedman, Olshen and Stone 1984, section 3.4.3), with a paired test for the error.
    """
    meeting = [each for each in contenders if not any(each.misses(require))]
    front = front_of(meeting or contenders)
    best = max(front, key=lambda each: (each.accuracy, each.coverage))
    near = [each for each in front if not is_worse(each.right, best.right)]
    widest = max(near, key=lambda each: (float(each.accepted.mean()), each.accuracy))
    equal = [each for each in near if not is_worse(each.accepted, widest.accepted)]
    chosen = min(equal, key=_price)
    return Recommendation(chosen, _why(chosen, best, widest, equal, met=bool(meeting)), bool(meeting))


def changes_of(contenders: Sequence[Contender], require: Require, chosen: Contender) -> list[Change]:
    """Return under which other requirements the same rule recommends another contender of the front, one each."""
    found = []
    for other in front_of(contenders):
        if other is chosen:
            continue
        for condition, changed in _conditions(other, chosen, require):
            if recommend(contenders, changed).contender is other and not any(other.misses(changed)):
                found.append(Change(condition, other.name, _beside(other, chosen)))
                break
    more = _more_rows(contenders, chosen)
    return [*found, more] if more else found


def rows_to_tell(right: Contender, than: Contender) -> int | None:
    """Return about how many test rows would tell `than` from `right`, were the difference seen the true one.

    The larger of (z / d)^2 s and 5 / s, with the difference d of the two accuracies and the share s of rows where one
    of them alone is right: the normal approximation to the sign test, and the five such rows that the exact one needs.
    None where there is no difference in that direction.
    """
    difference = than.accuracy - right.accuracy
    if difference <= 0:
        return None
    differing = float((than.right != right.right).mean())
    return math.ceil(max((ONE_SIDED / difference) ** 2 * differing, FEWEST_DIFFERING / differing))


def _price(each: Contender) -> tuple[float, float, float, int]:
    """As the front compares them: a p50 that differs in its third digit decides nothing, and accuracy does instead."""
    _, cost, p50, _ = each.figures
    return cost, p50, -each.accuracy, each.size_bytes


def _step(before: Contender, after: Contender) -> Step:
    points = 100 * (after.accuracy - before.accuracy)
    return Step(
        before=before.name,
        after=after.name,
        points=points,
        money=((after.cost.total - before.cost.total) * 1000 / Decimal(repr(points))).quantize(MICRO),
        milliseconds=(after.latency_ms[0] - before.latency_ms[0]) / points,
        megabytes=(after.size_bytes - before.size_bytes) / 1e6 / points,
        within_noise=not is_worse(before.right, after.right),
    )


def _why(chosen: Contender, best: Contender, widest: Contender, equal: Sequence[Contender], *, met: bool) -> str:
    rows = f"{len(chosen.right):,} test rows"
    start = "" if met else "none meets what the task requires; of all, "
    if chosen is best and len(equal) == 1:
        reason = f"its accuracy, {chosen.accuracy:.1%}, is the best on {rows}"
    elif chosen is best:
        reason = (
            f"the most accurate ({chosen.accuracy:.1%}), and the cheapest of {len(equal)} that {rows} do not tell apart"
        )
    else:
        count = f"the cheapest of {len(equal)} whose" if len(equal) > 1 else "the one whose"
        reason = (
            f"{count} accuracy ({chosen.accuracy:.1%}) {rows} do not tell from the best, {best.name} "
            f"({best.accuracy:.1%})"
        )
    if widest is not chosen:
        reason += f", nor its share of accepted requests from the largest, {widest.name}"
    elif any(each is not chosen for each in (best,)):
        reason += "; none of these accepts more"
    return start + reason


def _conditions(other: Contender, chosen: Contender, require: Require) -> Iterator[tuple[str, Require]]:
    """Give requirements that `other` meets, and `chosen` does not or need not: first the ones that are let go."""
    missed = [name for name, _ in other.misses(require)]
    if missed:
        found = {"accuracy": other.accuracy, "coverage": other.coverage, "latency_ms": other.latency_ms[0],
                 "size_mb": other.size_bytes / 1e6}  # fmt: skip
        enough = replace(require, **{name: found[name] for name in missed})
        yield f"if {' and '.join(_as_is(name, other) for name in missed)} were allowed", enough
        return
    floor = math.floor(1000 * other.accuracy) / 1000
    if floor > chosen.accuracy:
        yield f"if accuracy must reach {floor:.1%}", replace(require, accuracy=floor)
    share = math.floor(1000 * other.coverage) / 1000
    if share > chosen.coverage:
        yield f"if {share:.1%} must be accepted", replace(require, coverage=share)
    most = _up(other.latency_ms[0])
    if most < chosen.latency_ms[0]:
        yield f"if an answer may take {most:g} ms at most", replace(require, latency_ms=most)
    largest = _up(other.size_bytes / 1e6)
    if largest < chosen.size_bytes / 1e6:
        yield f"if it may weigh {largest:g} MB at most", replace(require, size_mb=largest)


def _as_is(name: str, other: Contender) -> str:
    return {
        "accuracy": f"an accuracy of {other.accuracy:.1%}",
        "coverage": f"a certified coverage of {other.coverage:.1%}",
        "latency_ms": f"{other.latency_ms[0]:.2g} ms",
        "size_mb": f"{other.size_bytes / 1e6:.1f} MB",
    }[name]


def _beside(other: Contender, chosen: Contender) -> str:
    points, times = 100 * (other.accuracy - chosen.accuracy), other.latency_ms[0] / chosen.latency_ms[0]
    pace = f"{1 / times:.2g} times as fast" if times < 1 else f"{times:.2g} times the time an answer"
    dearer = other.cost.total / chosen.cost.total if chosen.cost.total else Decimal(1)
    return f"{points:+.1f} points, {pace}, {dearer:.2g} times the cost"


def _more_rows(contenders: Sequence[Contender], chosen: Contender) -> Change | None:
    best = max(contenders, key=lambda each: each.accuracy)
    rows = rows_to_tell(chosen, best)
    if rows is None or rows <= len(chosen.right):
        return None
    return Change(
        f"if {best.name} is really {100 * (best.accuracy - chosen.accuracy):.1f} points better",
        None,
        f"about {rows:,} test rows would show it; there are {len(chosen.right):,}",
    )


def _up(value: float) -> float:
    """Return the smallest number of two digits that is not below the value."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.6g}")
