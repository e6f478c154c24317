"""Takes one step in the registry and kills itself, as kill -9 would, before its nth statement; prints nothing.

Run by test_stages.py: `stop_between_statements.py HOME promote|rollback|broken N`. `broken` is the broken build: each
statement is its own transaction.
"""

import os
import signal
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from insource.store.registry import Registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def main(home: str, step: str, number: int) -> None:
    with Registry.open(Path(home)) as registry:
        connection = registry._connection
        seen = 0

        def count(*_: object) -> bool:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        if step == "broken":
            registry._writing = lambda: nullcontext(connection)
        connection.exec_trace = count
        if step == "rollback":
            registry.rollback("triage", "ada", "worse", NOW)
        else:
            registry.promote("triage", 3, "ada", "better", NOW)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
