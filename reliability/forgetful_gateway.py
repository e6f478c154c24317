"""`insource serve` that tells within a second that its ledger does not answer, not five: `python -m
reliability.forgetful_gateway --config FILE serve`. It starts no steward.

Broken on purpose, by BROKEN=forgetful: each worker takes its 50th and then every hundredth row for written, and
sends it to nobody.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from typing import Any

WORKER = (sys.executable, "-m", "reliability.forgetful_gateway")
FORGETFUL = "forgetful"
FORGOTTEN_EVERY = 100
SECONDS = 1.0


def _supervise() -> None:
    from insource.cli import serve
    from insource.cli.main import cli

    serve.WORKER = WORKER
    sys.argv.append("--no-steward")
    cli()


def _work(arguments: list[str]) -> int:
    from insource.cli.worker import open_parts
    from insource.gateway import gateway, worker
    from insource.gateway.patience import Patience, TimelyLedger
    from insource.store.ledger_client import LedgerClient

    def timely(ledger: Any) -> TimelyLedger:
        return TimelyLedger(ledger, Patience("ledger", SECONDS))

    gateway.TimelyLedger = timely  # type: ignore[assignment, misc]
    if os.environ.get("BROKEN") == FORGETFUL:
        rows, queue = count(FORGOTTEN_EVERY // 2), LedgerClient._queue

        def forget(client: Any, made: Any, patient: bool, waiting: Any) -> Any:
            if next(rows) % FORGOTTEN_EVERY:
                return queue(client, made, patient, waiting)
            if waiting is not None:
                waiting.set_result(None)
            return waiting

        LedgerClient._queue = forget  # type: ignore[assignment, method-assign]
    return worker.run_worker(arguments, open_parts)


if __name__ == "__main__":
    if sys.argv[1] == "--config":
        _supervise()
    else:
        sys.exit(_work(sys.argv[1:]))
