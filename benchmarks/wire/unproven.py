"""`insource serve` without a tree of proofs: `python -m benchmarks.wire.unproven --config FILE serve`.

It is what the cost of proof is measured against, and no way to run insource: its ledger proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from insource.cli.main import cli
from insource.store import ledger
from insource.store.columns import Values
from insource.store.proof.tree import Frontier


class Unproven:
    """Stands in for the `Keeper`: counts rows, hashes nothing, writes no head, signs nothing."""

    refusal = "this gateway keeps no tree"
    key = None

    def __init__(self, home: Path, path: Path, connection: object, last: int, witness: Path | None) -> None:
        self.frontier = Frontier(last)

    def grown(self, rows: Sequence[tuple[str, Values]]) -> tuple[Frontier, list[bytes]]:
        """Return a frontier of the right size, and no hashes."""
        return Frontier(self.frontier.size + len(rows)), []

    def committed(self, frontier: Frontier, hashes: list[bytes]) -> None:
        """Keep the size."""
        self.frontier = frontier

    def ready(self) -> str:
        """Return what the act of the start says."""
        return self.refusal

    def nothing(self, *arguments: Any) -> None:
        """Do nothing."""

    begin = write_head = close = nothing


if __name__ == "__main__":
    ledger.Keeper = Unproven  # type: ignore[assignment,misc]
    cli()
