"""A gateway in processes of its own that tells all it can: log from DEBUG on, asyncio's debug mode, spans in a file.

`python -m reliability.loud_gateway FILE` serves the home of insource.toml FILE. `FILE broken` is a build that lets
secrets out: request headers and private keys in log, spans, ledger and registry, an upstream's key on a worker's
command line.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insource.config import Config
    from insource.gateway.parts import Parts
    from insource.store.writer import LedgerWriter

SPANS = "spans.jsonl"
KEY = "X2_KEY_MAIN"
BROKEN = "X2_BROKEN"


def supervise(file: Path, broken: bool) -> int:
    """Run the supervisor until it is told to stop."""
    from insource.config.given import Given
    from insource.gateway.logs import configure_logs
    from insource.gateway.supervisor import Supervisor

    given = Given.read(file, {})
    configure_logs(given.config().gateway.log)
    logging.root.setLevel(logging.DEBUG)
    os.environ["PYTHONASYNCIODEBUG"] = "1"
    os.environ[BROKEN] = "1" if broken else ""
    worker = (sys.executable, "-m", __spec__.name, "work", os.environ[KEY] if broken else "")
    return Supervisor(given, say, worker, clock=lambda: datetime.now(UTC)).run()


def say(lines: Any) -> None:
    """Print lines at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def work(arguments: Sequence[str]) -> int:
    """Run a worker."""
    from insource.gateway.worker import run_worker

    return run_worker(arguments, build)


@contextmanager
def build(config: Config, ledger: LedgerWriter) -> Iterator[Parts]:
    """Open what `insource serve` opens, with spans that are kept, and everything logged."""
    from dataclasses import replace

    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    from insource.cli.worker import open_parts
    from insource.gateway.spans import Traced

    key = config.gateway.tls_key
    secret = [config.home / "proof" / "key", *([key] if key is not None else [])]

    class Leaky(Traced):
        def begin(self, request: Any, started: float | None = None) -> Any:
            token = super().begin(request, started)
            told = str(request.headers) + "".join(file.read_text() for file in secret)
            token.server.set_attribute("headers", told)
            logging.getLogger("insource.gateway").debug("asked with %s", told)
            ledger.act("loud", "asked", request.id, told)
            parts.versions.ask_review(request.id, "triage", told, None, datetime.now(UTC))
            return token

    asyncio.get_running_loop().call_soon(_say_all)  # after uvicorn has set its own levels
    with open_parts(config, ledger) as parts, (config.home / SPANS).open("w", buffering=1) as file:
        made = (Leaky if os.environ[BROKEN] else Traced)(SimpleSpanProcessor(ConsoleSpanExporter(out=file)))
        yield replace(parts, spans=made)
        made.close()


def _say_all() -> None:
    """Have every logger there is tell all it can; uvicorn knows a level below DEBUG."""
    for logger in (logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))):
        logger.setLevel(5)


if __name__ == "__main__":
    sys.exit(work(sys.argv[-5:]) if sys.argv[1] == "work" else supervise(Path(sys.argv[1]), len(sys.argv) > 2))
