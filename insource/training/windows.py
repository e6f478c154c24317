"""How many windows of a text an encoder should read: one, unless the task's texts are longer than that.

It knows texts and a trunk's tokenizer; embeddings and answers have no say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SAMPLE = 500
LONG_SHARE = 0.05
LEAVE_OUT = 0.05
MOST = 8
"""So many windows are read at most: each takes as long as a text of one window."""


class Reads(Protocol):
    """What is needed of a trunk."""

    def windows(self, text: str, most: int) -> Sequence[Sequence[int]]:
        """Return the token ids of up to `most` windows over a text."""
        ...


@dataclass(frozen=True, slots=True)
class Windows:
    """How many windows to read at most, and the share of the texts that are longer than one, and than all of them."""

    most: int
    longer: float
    cut: float

    def __str__(self) -> str:
        if self.longer == 0.0:
            return ""
        if self.most == 1:
            return f"{self.longer:.1%} of the texts are longer than the encoder's one window, and cut off"
        cut = f"; {self.cut:.1%} are longer still, and cut off" if self.cut else ""
        return f"{self.longer:.1%} of the texts are longer than a window, so up to {self.most} are read{cut}"


def choose_windows(texts: Sequence[str], trunk: Reads) -> Windows:
    """Return 1 where under 5 % of up to 500 texts are longer, else what 95 % of them need, and never more than 8.

    The texts looked at lie evenly over `texts`, which must not be empty.
    """
    rows = np.linspace(0, len(texts) - 1, min(len(texts), SAMPLE)).astype(np.intp)
    needed = np.array([len(trunk.windows(texts[row], MOST + 1)) for row in rows])
    longer = float((needed > 1).mean())
    wanted = int(np.quantile(needed, 1.0 - LEAVE_OUT, method="higher"))
    most = min(wanted, MOST) if longer >= LONG_SHARE else 1
    return Windows(most, longer, float((needed > most).mean()))
