"""`insource serve`, broken on purpose: `python -m reliability.broken_gateway --config FILE serve`, by BROKEN.

"abrupt": a worker that is told to stop does so at once. "stale": a worker looks at the keys every two seconds.
"trusting": whatever the file holds is taken over unchecked, by starting the workers again. It serves controls only.
"""

from __future__ import annotations

import os
import signal
import sys


def _supervise() -> None:
    from insource.cli import serve
    from insource.cli.main import cli
    from insource.gateway import supervisor

    class Trusting(supervisor.Supervisor):
        async def _reload(self) -> None:
            self._given = self._given.again()
            for child in self._children.values():
                child.signal(signal.SIGTERM)

    if os.environ["BROKEN"] in ("abrupt", "stale"):
        serve.WORKER = (sys.executable, "-m", "reliability.broken_gateway")
    else:
        supervisor.Supervisor = Trusting  # type: ignore[misc]
    cli()


def _work(arguments: list[str]) -> int:
    from insource.cli.worker import open_parts
    from insource.gateway import keyring, worker

    if os.environ["BROKEN"] == "stale":
        keyring.LOOK_SECONDS = keyring.STALE_SECONDS = 2.0
        return worker.run_worker(arguments, open_parts)

    class Abrupt(worker._Worker):
        def _drain(self) -> None:
            os._exit(0)

    worker._Worker = Abrupt  # type: ignore[misc]
    return worker.run_worker(arguments, open_parts)


if __name__ == "__main__":
    if sys.argv[1] == "--config":
        _supervise()
    else:
        sys.exit(_work(sys.argv[1:]))
