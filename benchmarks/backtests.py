"""The two backtests: sarcasm (the evals package) and banking77 as one stream, through the command line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, insource, part
from insource.cli.demo import MEMBER, PACKAGE, VERSION, WHEEL_SHA256
from insource.training.fetch import extract, fetch_wheel


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
            "sarcasm, auto: accepted", f"{auto['coverage']:.1%} in {took:.0f} s", ">= 48 %", auto["coverage"] >= 0.48
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
        Figure("banking77 stream: going up in any way", f"{up:.1%}", "<= 33 %", up <= 0.33),
        Figure("banking77 stream: seconds", f"{seconds:.0f} s", "< 180 s", seconds < 180),
        Figure("banking77 stream: families", ", ".join(sorted({each["family"] for each in banking["versions"]}))),
    ]


def _held(name: str, result: dict[str, Any]) -> Figure:
    risk = result["risk"]
    return Figure(f"{name}: risk", f"{risk['realised']:.2%}", "held at 5 %", bool(risk["held"]))
