"""Why a specialist did not answer or could not be opened, said without a word of the request.

It knows exceptions and reasons; it sends and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from insource.errors import ArtifactDamaged, InsourceError
from insource.types import Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version could not be opened: the reason that its requests go up with, and what was found."""

    reason: Reason
    detail: str


def refusal_of(error: Exception) -> Refusal:
    """Say what failed without a word of the request: foreign messages may quote it, our own do not."""
    name = type(error).__name__
    if isinstance(error, ArtifactDamaged):
        return Refusal(Reason.ARTIFACT_DAMAGED, str(error)[:300])
    if isinstance(error, InsourceError):
        return Refusal(Reason.SPECIALIST_FAILED, f"{name}: {error}"[:300])
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace is not None else ""
    return Refusal(Reason.SPECIALIST_FAILED, f"{name}{place}")
