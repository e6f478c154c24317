from collections.abc import Callable

import numpy as np
import pytest

Population = Callable[..., tuple[np.ndarray, np.ndarray]]


def specialist_answers(rows: int, answers: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose first answer agrees as often as it says, except that answer 0 is mostly wrong."""
    generator = np.random.default_rng(seed)
    logits = 2.0 * generator.normal(size=(rows, answers))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    chance = probabilities.max(axis=1) * np.where(probabilities.argmax(axis=1) == 0, 0.2, 1.0)
    return probabilities, generator.random(rows) < chance


@pytest.fixture(scope="session")
def population() -> Population:
    """Make (probabilities, agrees) of a specialist whose truth is known."""
    return specialist_answers
