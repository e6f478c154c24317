"""The schemas of the ledger and the registry: which steps bring a file up to date.

The steps themselves stand beside, one module for each file.
"""

from __future__ import annotations

from insource.store import ledger_schema, registry_schema
from insource.store.database import Migration

LEDGER: list[Migration] = ledger_schema.STEPS
REGISTRY: list[Migration] = registry_schema.STEPS
