"""`scripts/bench [NAME ...] --data FOLDER`: runs the named figures (all by default) and prints reach beside seen."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.figure import Figure, show

NAMES = (
    "accuracy", "specialists", "comparison", "promise", "guards", "backtests", "streams", "budget", "latency",
    "discovery", "drift", "gateway", "cost_of_proof",
)  # fmt: skip


def main() -> int:
    """Run figures; exit with 1 where one was not reached."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} [all]")
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a data set (train/test.jsonl)")
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache" / "insource-bench", help="state and cache")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--quick", action="store_true", help="fewer draws and smaller sets: a smoke test, no figure")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected one of {', '.join(NAMES)}")
    options.home.mkdir(parents=True, exist_ok=True)
    figures: list[Figure] = []
    for name in options.names or NAMES:
        started = time.perf_counter()
        found = importlib.import_module(f"benchmarks.{name}").run(options.data, options.home, quick=options.quick)
        show(f"{name} ({time.perf_counter() - started:.0f} s)", found)
        figures += found
    if options.json:
        options.json.write_text(json.dumps([figure.to_json() for figure in figures], indent=2) + "\n")
    return 0 if all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
