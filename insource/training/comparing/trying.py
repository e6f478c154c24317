"""Trying the candidates one after the other, each for as long as it can still win and there is time.

Every one is trained, certified and registered as `train` and `compress` do it, over the same rows; a kill leaves those
that are done. A training fills the cores by itself, so that two at once would win nothing.
"""

from __future__ import annotations

from insource.errors import FetchError, InsourceError, ParityError, TrainingFailed, UserError
from insource.training.comparing.base_families import try_exact, try_family
from insource.training.comparing.bench import Bench
from insource.training.comparing.candidates import CANDIDATES, FP32, SMALL, TUNED, Candidate
from insource.training.comparing.compressed import try_compressed
from insource.training.comparing.time_budget import OutOfTime
from insource.training.comparing.tuned_encoders import try_student, try_tuned

SPECIAL = {FP32: try_exact, TUNED: try_tuned, SMALL: try_student}


def try_all(bench: Bench) -> None:
    """Try every candidate; raise what the first one raised where none could be made."""
    failure: InsourceError | None = None
    for candidate in CANDIDATES:
        try:
            _try(bench, candidate)
        except OutOfTime:
            bench.pass_over(candidate.name, "stopped", "the time was up in the middle of it")
        except (UserError, FetchError, ParityError, TrainingFailed) as error:
            failure = failure or error
            bench.pass_over(candidate.name, "dropped" if isinstance(error, ParityError) else "refused", str(error))
    if failure is not None and not bench.made:
        raise failure


def _try(bench: Bench, candidate: Candidate) -> None:
    if candidate.family is not None:
        try_family(bench, candidate.family)
    elif candidate.how is not None:
        try_compressed(bench, candidate.name, candidate.how)
    else:
        SPECIAL[candidate.name](bench)
