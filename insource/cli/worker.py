"""`python -m insource.cli.worker`: what a worker of `insource serve` runs, with the parts of the home.

It opens the parts; serving and following orders is the gateway's business. The supervisor starts it, nobody else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from insource.cascade.cascade import utc_now
from insource.cli.opening import Opener, open_registry
from insource.config import Config
from insource.gateway.parts import Parts
from insource.gateway.spans import open_spans
from insource.gateway.worker import run_worker
from insource.governance.energy import open_energy
from insource.store.writer import LedgerWriter


@contextmanager
def open_parts(config: Config, ledger: LedgerWriter) -> Iterator[Parts]:
    """Open the registry, the artifacts and the rest of the home. Raises StoreError."""
    opener, spans = Opener(config), open_spans()
    try:
        with open_registry(config) as registry:
            yield Parts(config, ledger, registry, opener, open_energy().joules_of, clock=utc_now,
                        open_trunk=opener.trunk, spans=spans)  # fmt: skip
    finally:
        spans.close()


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:], open_parts))
