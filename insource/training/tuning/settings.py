"""How an encoder is tuned: the figures that a recipe may change, with defaults that need no search."""

from __future__ import annotations

from dataclasses import dataclass

WARM_UP = 0.1
STEPS, FEWEST, MOST = 1_000, 4, 10
"""Without a number of epochs: as many as give so many steps, within bounds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`epochs` is how often a row is seen, by default as `epochs_of` has it; `rate` is the highest learning rate of the
    encoder, `head_rate` of its head; `batch` is in texts; `scale` is what embeddings of length one are multiplied by
    before the head.

    With a teacher, `taught` is the weight of its probabilities against the references', `temperature` warms both
    sides, and `hidden` weighs the cosine between its embeddings and the encoder's. Defaults: EXPERIMENTS.md; those of a
    teacher were not searched.
    """

    epochs: int | None = None
    rate: float = 2e-4
    head_rate: float = 1e-3
    batch: int = 32
    decay: float = 0.01
    dropout: float = 0.1
    smoothing: float = 0.1
    scale: float = 20.0
    taught: float = 0.7
    temperature: float = 2.0
    hidden: float = 1.0
    seed: int = 0

    def epochs_of(self, rows: int) -> int:
        """Return how many epochs so many rows are tuned on."""
        return self.epochs or min(MOST, max(FEWEST, round(STEPS * self.batch / max(rows, 1))))

    def share_at(self, step: int, steps: int) -> float:
        """Return the share of the highest rate at a step: up over the first tenth, then down to nothing."""
        warm = max(1.0, WARM_UP * steps)
        return min((step + 1) / warm, (steps - step) / max(1.0, steps - warm))
