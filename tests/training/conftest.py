"""What the training room's tests share: examples, a silent `say`, and a whole run in a home of its own."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.outcome import Trained
from insource.training.recipe import Recipe
from insource.training.run import train
from insource.types import Example, Message, Request, Task

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def silent(title: str) -> Callable[..., None]:
    return lambda done, total=None: None


def as_examples(lines: Sequence[dict[str, str]]) -> list[Example]:
    return [
        Example(
            Request(f"may:{number}", (Message("user", line["text"]),)),
            line.get("answer"),
            line.get("gold"),
            group=line.get("group"),
        )
        for number, line in enumerate(lines, 1)
    ]


def embedded(home: Path) -> set[int]:
    """Return how many texts were embedded at once: all the rows, or the answers' words."""
    return {len(np.load(path)) for path in (home / "cache" / "embeddings").glob("*.npy")}


@pytest.fixture
def say() -> Callable[[str], Callable[..., None]]:
    return silent


@pytest.fixture
def examples(tickets: Callable[..., list[dict[str, str]]]) -> Callable[..., list[Example]]:
    """Makes examples: of made-up tickets, or of the lines given."""
    return lambda n=0, lines=None, **choices: as_examples(tickets(n, **choices) if lines is None else lines)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def trained(home: Path) -> Callable[..., Trained]:
    """Trains in the home; `task` may be a Task, everything else is the recipe's."""

    def run(examples: Sequence[Example], task: Task | None = None, **recipe: object) -> Trained:
        with Registry.open(home) as registry:
            return train(
                examples,
                task or Task("triage"),
                Recipe(**{"family": "linear", **recipe}),
                home=home,
                registry=registry,
                artifacts=ArtifactStore(home),
                say=silent,
                now=lambda: NOON,
            )

    return run


@pytest.fixture
def kept(home: Path) -> Callable[[], SimpleNamespace]:
    """Says what the home holds: versions by name, artifacts, and drafts that were left behind."""

    def look() -> SimpleNamespace:
        with Registry.open(home) as registry:
            versions = [version for task in registry.tasks() for version in registry.versions(task)]
        store = ArtifactStore(home)
        drafts = [*(home / "artifacts" / ".drafts").iterdir(), *home.rglob("*.draft")]
        for version in versions:
            store.open(version.digest)
        return SimpleNamespace(versions=versions, drafts=drafts)

    return look
