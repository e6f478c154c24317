"""What becomes of an answer or an act of the command line: into the ledger now, or by the running gateway.

It knows that the ledger takes one writer. What is handed over is durable in the registry before this is called.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from insource.errors import StoreBusy, StoreError

if TYPE_CHECKING:
    from insource.config import Config
    from insource.store.registry import Registry


def hand_over(config: Config, registry: Registry) -> str | None:
    """Write what waits in the registry's outbox into the ledger; return what keeps it waiting, None where nothing does.

    Where a gateway writes the ledger, it takes them over. Without a ledger they wait for one.
    """
    from insource.store.delivery import deliver, deliver_acts
    from insource.store.ledger import FILE, Ledger

    waits = registry.outgoing_feedback() or registry.outgoing_acts()
    if not waits or not (config.home / FILE).is_file():
        return None
    days, witness = config.store.retention_days, config.store.witness
    try:
        with Ledger.open(config.home, clock=lambda: datetime.now(UTC), retention_days=days, witness=witness) as ledger:
            deliver(registry, config.home, ledger.feedback_now)
            deliver_acts(registry, config.home, ledger.act_now)
    except StoreBusy:
        return "The running gateway writes the ledger and takes it over."
    except StoreError as error:
        return f"It is kept, and waits to be written to the ledger: {error}"
    return None
