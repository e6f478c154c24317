"""A specialist's engine by itself: `python -m benchmarks.wire.bare HOME TASK BODIES SECONDS` prints texts a second."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import insource


def main(home: str, task: str, bodies: str, seconds: float) -> float:
    """Return how many texts a second the engine answers in batches of 32, on all its threads."""
    specialist = insource.load(task, home=home)._specialist
    texts = [json.loads(line)["messages"][-1]["content"] for line in Path(bodies).read_text().splitlines()]
    done, at, started = 0, 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        specialist.probabilities(texts[at : at + 32])
        done += len(texts[at : at + 32])
        at = (at + 32) % max(len(texts) - 32, 1)
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:4], float(sys.argv[4]))}\n")
