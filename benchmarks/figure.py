"""A figure: what was measured, what should be reached, what was seen."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`reach` None is for information only."""

    what: str
    seen: str
    reach: str | None = None
    reached: bool = True

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {**asdict(self), "reached": bool(self.reached)}


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print a table."""
    from insource.cli.output import console, table

    rows = [
        (each.what, each.reach or "", each.seen, "" if each.reach is None else "yes" if each.reached else "NO")
        for each in figures
    ]
    console().print(table(title, ("figure", "reach", "seen", "reached"), rows))


def insource(home: Path, *arguments: object) -> tuple[dict[str, Any], float]:
    """Run the command line with --json in a process of its own; return its result and the seconds, all included."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, "-m", "insource.cli.main", "--home", str(home), *map(str, arguments)]
        started = time.perf_counter()
        subprocess.run([*command, "--json", out.name], check=True, stdout=subprocess.DEVNULL)
        return json.loads(Path(out.name).read_text()), time.perf_counter() - started


def part(data: Path, name: str, split: str) -> Path:
    """Return the file of a data set's split, plain or gzip."""
    plain = data / name / f"{split}.jsonl"
    return plain if plain.exists() else plain.with_suffix(".jsonl.gz")
