"""Trying to make the best frozen encoder smaller, unless something else already leaves that nothing to win."""

from __future__ import annotations

from collections.abc import Sequence

from insource.training.comparing.base_families import cross_fit_of_heads
from insource.training.comparing.bench import Bench, Made
from insource.training.comparing.candidates import FP32, INT8
from insource.training.compression.compress import Limits, compress
from insource.training.compression.smaller import How
from insource.training.outcome import Trained
from insource.training.precision import is_worse

TIMES = {"int8-static": (1.0, 12.0), "int4": (1.6, 14.0), "vocabulary": (1.5, 8.0)}
"""By how: the time of embedding a text against int8, and the seconds that making it takes."""
ANY_LOSS = Limits(most_loss=1.0)
"""What is lost is shown beside what is won; only what is better in nothing is refused."""
WITHOUT_ENCODER = ("linear", "static")


def try_compressed(bench: Bench, name: str, how: How) -> None:
    """Compress the more accurate of the frozen encoders that were made."""
    sources = [each for each in map(bench.found, (INT8, FP32)) if each]
    if not sources or bench.speeds is None:
        bench.pass_over(name, "left out", "no frozen encoder was made that could be made smaller")
        return
    source = max(sources, key=lambda each: float(each.right.mean()))
    ahead = ahead_of(source, bench.made)
    if ahead is not None:
        told = f"{ahead.name} runs no encoder, is as accurate as {source.name} but for noise, and accepts as much"
        bench.pass_over(name, "dropped", told)
        return
    times, making = TIMES[how.quantise or "vocabulary"]
    expected = len(bench.snapshot) * bench.speeds.embed * times + making + cross_fit_of_heads(bench)
    bench.attempt(name, expected, lambda: _compress(bench, name, source, how), source.core_seconds)


def ahead_of(source: Made, made: Sequence[Made]) -> Made | None:
    """Return what leaves a compression of `source` nothing to win: not less accurate, accepting no less, far cheaper.

    Far cheaper is what runs no encoder at all. That is known of a family; timings of different minutes would not do.
    """
    for each in made:
        worse = is_worse(each.right, source.right) or is_worse(each.accepted, source.accepted)
        if not worse and each.trained.version.family in WITHOUT_ENCODER:
            return each
    return None


def _compress(bench: Bench, name: str, source: Made, how: How) -> Trained:
    return compress(
        source.trained.version, how, bench.task, bench.shop, joules=bench.joules, limits=ANY_LOSS, told=bench.told(name)
    ).trained
