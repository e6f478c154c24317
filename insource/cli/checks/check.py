"""One finding of `insource doctor`.

It holds words and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it stands, what was found, and what to do about it where there is something to do."""

    name: str
    status: Status
    detail: str
    todo: str | None = None
