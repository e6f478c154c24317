"""The global options, as the commands find them on click's context.

It reads nothing; `opening.configuration` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Choices:
    """`--config` and `--home`, None where they were not given."""

    config: Path | None = None
    home: Path | None = None
