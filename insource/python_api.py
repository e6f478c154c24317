"""insource in Python: load a specialist and ask it, train one, backtest a file. Usable in a notebook.

It joins the rooms for one process, as the command line does, and adds nothing to them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from insource.backends.onnx import Trunks
from insource.backends.specialist import Explanation, Specialist, open_specialist
from insource.cli.comparison.upstream import prices_of
from insource.config import Config
from insource.config import load as load_config
from insource.errors import UserError
from insource.governance.energy import open_energy
from insource.lifecycle.backtest import Options, Report
from insource.lifecycle.backtest import backtest as run_backtest
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.traffic import Traffic, examples_of_task, read
from insource.training.compare import Options as ComparisonOptions
from insource.training.compare import compare as run_compare
from insource.training.recipe import Recipe
from insource.training.run import Workshop
from insource.training.run import train as run_train
from insource.training.trunks import TrunkRoom
from insource.types import SpecialistVersion, Task

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A specialist's answer: the reply as the teacher writes it, its label, its score, and whether it is accepted."""

    answer: str
    label: str
    score: float
    accepted: bool

    def __str__(self) -> str:
        return self.answer


class Loaded:
    """A specialist of this home, ready to be called with a text."""

    def __init__(self, version: SpecialistVersion, specialist: Specialist) -> None:
        self.version = version
        self._specialist = specialist

    def __call__(self, text: str) -> Prediction:
        """Return the prediction for one text."""
        return self.many([text])[0]

    def many(self, texts: list[str]) -> list[Prediction]:
        """Return the prediction for each text, as for a user's message that says it; a blank one is never accepted."""
        calibration = self.version.calibration
        threshold = calibration.threshold if calibration else None
        seen = [self._specialist.inputs.text_of_user(text) for text in texts]
        answered = self._specialist.answer_texts([text or "" for text in seen])
        return [
            Prediction(
                answer=self._specialist.answers.render(label),
                label=label,
                score=score,
                accepted=text is not None and threshold is not None and score >= threshold,
            )
            for text, (label, score) in zip(seen, answered, strict=True)
        ]

    def explain(self, text: str) -> Explanation:
        """Say what decided for the first answer over the second."""
        return self._specialist.explain(self._specialist.inputs.text_of_user(text) or "")

    def __repr__(self) -> str:
        return f"<insource specialist {self.version.name}, {self.version.family}>"


def load(name: str, *, home: str | Path | None = None) -> Loaded:
    """Open NAME (its active version, else its newest) or NAME@V.

    Raises UnknownTask, UnknownVersion, UserError for a name that is none, ArtifactDamaged.
    """
    config = _config(home)
    task, at, number = name.partition("@")
    if at and not number.isdigit():
        raise UserError(f"{name!r} names no version; NAME or NAME@V was expected, such as 'triage@3'.")
    with Registry.open(config.home) as registry:
        version = registry.get(task, int(number)) if at else registry.active(task) or registry.get(task)
    artifacts = ArtifactStore(config.home)
    artifact = artifacts.open(version.digest)
    trunks = Trunks(lambda digest: artifacts.open(digest).folder)
    return Loaded(
        version,
        open_specialist(artifact.folder, artifact.manifest, name=version.name, digest=version.digest, trunk=trunks.get),
    )


def train(traffic: str | Path | Traffic, task: str | Task, *, home: str | Path | None = None, **recipe: Any) -> Loaded:
    """Train, certify and register a candidate from a traffic file; `recipe` as in `insource.training.run.Recipe`.

    Raises what `insource train` refuses.
    """
    config = _config(home)
    found = traffic if isinstance(traffic, Traffic) else read(traffic)
    wanted = task if isinstance(task, Task) else config.tasks.get(task, Task(task))
    _, examples = examples_of_task(found, wanted.name)
    with Registry.open(config.home) as registry:
        trained = run_train(
            examples,
            wanted,
            Recipe(**recipe),
            home=config.home,
            registry=registry,
            artifacts=ArtifactStore(config.home),
            say=_quiet,
            now=lambda: datetime.now(UTC),
            skipped=found.skipped,
        )
    return load(trained.version.name, home=home)


def backtest(
    traffic: str | Path | Traffic, task: str | Task | None = None, *, home: str | Path | None = None, **options: Any
) -> dict[str, Any]:
    """Replay a traffic file and return the figures that `insource backtest --json` writes.

    `options` as in `insource.lifecycle.backtest.Options`. Raises what `insource backtest` refuses.
    """
    config = _config(home)
    found = traffic if isinstance(traffic, Traffic) else read(traffic)
    name, examples = examples_of_task(found, task.name if isinstance(task, Task) else task)
    wanted = task if isinstance(task, Task) else config.tasks.get(name, Task(name))
    room = TrunkRoom(config.home, ArtifactStore(config.home), _quiet)

    def replay() -> Report:
        replaying = run_backtest(examples, wanted, Options(**options), room=room, say=_quiet, skipped=found.skipped)
        return asyncio.run(replaying)

    return _outside_any_loop(replay).to_json()


def compare(
    traffic: str | Path | Traffic,
    task: str | Task,
    *,
    home: str | Path | None = None,
    price_in: Decimal | None = None,
    price_out: Decimal | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train and measure what could fit a task and return the figures that `insource compare --json` writes.

    `options` as in `insource.training.compare.Options`; prices are the upstream's, of a million tokens, by default the
    configuration's. Raises what `insource compare` refuses.
    """
    config = _config(home)
    found = traffic if isinstance(traffic, Traffic) else read(traffic)
    wanted = task if isinstance(task, Task) else config.tasks.get(task, Task(task))
    _, examples = examples_of_task(found, wanted.name)
    energy = open_energy()
    prices = prices_of(
        config, wanted, examples, lambda seconds: energy.of_local(seconds).value, given=(price_in, price_out)
    )

    def run() -> dict[str, Any]:
        artifacts = ArtifactStore(config.home)
        with Registry.open(config.home) as registry:
            room = TrunkRoom(config.home, artifacts, _quiet)
            shop = Workshop(config.home, registry, artifacts, room, _quiet, lambda: datetime.now(UTC))
            return run_compare(examples, wanted, ComparisonOptions(**options), prices, shop).to_json()

    return _outside_any_loop(run) | {"skipped": found.skipped, "energy": energy.of_local(1.0).method}


def _outside_any_loop(function: Callable[[], Result]) -> Result:
    """Run on a thread of its own, since a notebook has an event loop running already."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="insource-backtest")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _config(home: str | Path | None) -> Config:
    config = load_config()
    return config if home is None else replace(config, store=replace(config.store, home=Path(home)))


def _quiet(title: str) -> Callable[[int, int | None], None]:
    def report(done: int, total: int | None = None) -> None:
        """Show nothing."""

    return report
