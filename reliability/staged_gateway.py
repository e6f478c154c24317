"""`insource serve` with specialists by script: `python -m reliability.staged_gateway --config FILE serve`.

How a version fares, its lineage says: it answers well, wrongly, or not at all. Broken on purpose, by BROKEN: a "deaf"
worker looks at the registry every five seconds, a "forgetful" one drops all versions of a task with the first to go.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FLUSH_SECONDS = 0.2
"""How often a worker of it hands its figures over, so that who reads them need not wait a second for the last ones."""

WORKER = (sys.executable, "-m", "reliability.staged_gateway")
KINDS = ("wrong", "crash", "slow", "nan")


def _supervise() -> None:
    from insource.cli import serve
    from insource.cli.main import cli

    serve.WORKER = WORKER
    sys.argv.append("--no-steward")  # the verdict is the harness's
    cli()


def _specialist(version: Any) -> Any:
    from insource.answers import AnswerSpace
    from insource.backends.scripted import Scripted

    fares = version.lineage.get("fares", "well")
    answers = {"sure": "no" if fares == "wrong" else "yes"}

    class Staged(Scripted):
        def __init__(self) -> None:
            super().__init__(answers, score=float("nan") if fares == "nan" else 0.9, name=version.name)
            self.answers = AnswerSpace("label", ("yes", "no"), ("yes", "no"))

        async def answer(self, request: Any) -> Any:
            if fares == "crash":
                raise ValueError("broken")
            if fares == "slow":
                await asyncio.sleep(20)
            return await super().answer(request)

    return Staged()


def _work(arguments: list[str]) -> int:
    from insource.gateway import gateway, serving, worker
    from insource.gateway.parts import Parts
    from insource.store.registry import Registry

    worker.FLUSH_SECONDS = FLUSH_SECONDS
    broken = os.environ.get("BROKEN")
    if broken == "deaf":
        gateway.POLL_SECONDS = 5.0
    if broken == "forgetful":
        keep_all = serving.Loading.keep

        async def keep(loading: Any, wanted: Any) -> None:
            changed = {key[0] for key in loading._held if key not in wanted}
            await keep_all(loading, {key for key in wanted if key[0] not in changed})

        serving.Loading.keep = keep  # type: ignore[method-assign]

    @contextmanager
    def build(config: Any, ledger: Any) -> Iterator[Parts]:
        with Registry.open(config.home) as registry:
            yield Parts(config, ledger, registry, lambda version, upstream=None: _specialist(version))

    return worker.run_worker(arguments, build)


if __name__ == "__main__":
    if sys.argv[1] == "--config":
        _supervise()
    else:
        sys.exit(_work(sys.argv[1:]))
