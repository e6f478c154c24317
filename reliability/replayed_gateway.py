"""`insource serve` with specialists that say what a request's text tells them to: `python -m
reliability.replayed_gateway --config FILE serve`.

A version's lineage says whether it is told as the incumbent or as the candidate; all else is the product's. It starts
no steward: whoever runs it does. Broken on purpose, by BROKEN=swapped, it takes the candidate for the incumbent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WORKER = (sys.executable, "-m", "reliability.replayed_gateway")
SWAPPED = "swapped"


def _supervise() -> None:
    from insource.cli import serve
    from insource.cli.main import cli

    serve.WORKER = WORKER
    sys.argv.append("--no-steward")
    cli()


def _specialist(version: Any, role: str) -> Any:
    from dataclasses import replace
    from time import perf_counter

    from insource.answers import AnswerSpace
    from insource.backends.references import References
    from insource.backends.scripted import Scripted
    from reliability.told_answers import ANSWERS, told

    class Told(References):
        def find(self, request: Any) -> str | None:
            return told(request.messages[-1].content, role) or None

    class Replayed(Scripted):
        answers = AnswerSpace("label", ANSWERS, ANSWERS)

        async def answer(self, request: Any) -> Any:
            started = perf_counter()
            said = await super().answer(request)
            return replace(said, seconds={"specialist": perf_counter() - started})

    def score(request: Any, _: str) -> float:
        return 0.6 + int(request.messages[-1].content.split()[0]) * 37 % 100 / 250

    return Replayed(Told({}), score=score, name=version.name)


def _work(arguments: list[str]) -> int:
    from insource.gateway import worker
    from insource.gateway.parts import Parts
    from insource.store.registry import Registry

    other = {"incumbent": "candidate", "candidate": "incumbent"} if os.environ.get("BROKEN") == SWAPPED else {}

    def opened(version: Any, upstream: Any = None) -> Any:
        role = version.lineage["role"]
        return _specialist(version, other.get(role, role))

    @contextmanager
    def build(config: Any, ledger: Any) -> Iterator[Parts]:
        with Registry.open(config.home) as registry:
            yield Parts(config, ledger, registry, opened)

    return worker.run_worker(arguments, build)


if __name__ == "__main__":
    if sys.argv[1] == "--config":
        _supervise()
    else:
        sys.exit(_work(sys.argv[1:]))
