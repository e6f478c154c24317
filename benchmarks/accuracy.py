"""Accuracy of both families on official test splits, through the command line, and the price of certifying."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.figure import Figure, insource, part

FAMILIES = ("linear", "encoder-frozen", "two-tier")
BANKING = {"linear": (0.910, 30.0), "encoder-frozen": (0.930, 90.0)}
CERTIFIED_MAY_LOSE = 0.015
BASELINES = {
    "snips": 0.979,
    "sms_spam": 0.988,
    "trec_questions": 0.902,
    "twitter_financial_news": 0.846,
    "clinc150": 0.791,
}


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Train on train, evaluate on test."""
    insource(home, "train", part(data, "sms_spam", "train"), "--task", "warm", "--family", "encoder-frozen")
    shutil.rmtree(home / "cache" / "embeddings")  # the trunk is built, and no text of the figures is embedded yet
    found = [figure for family in BANKING for figure in _banking(data, home, family)]
    return found if quick else found + [_against(data, home, name) for name in BASELINES]


def _banking(data: Path, home: Path, family: str) -> list[Figure]:
    accuracy, most = BANKING[family]
    plain, seconds = _measure(data, home, "banking77", family, "--no-certify")
    certified, _ = _measure(data, home, "banking77", family)
    lost = plain - certified
    return [
        Figure(f"banking77, {family}, all rows", f"{plain:.2%}", f">= {accuracy:.1%}", plain >= accuracy),
        Figure(f"banking77, {family}, seconds", f"{seconds:.0f} s", f"< {most:.0f} s", seconds < most),
        Figure(f"banking77, {family}, certified", f"{certified:.2%} ({100 * lost:.1f} points lower)",
               "at most 1.5 points lower", lost <= CERTIFIED_MAY_LOSE),
    ]  # fmt: skip


def _against(data: Path, home: Path, name: str) -> Figure:
    seen = {family: _measure(data, home, name, family, "--no-certify")[0] for family in FAMILIES}
    told = ", ".join(f"{family} {accuracy:.2%}" for family, accuracy in seen.items())
    best = round(max(seen.values()), 3)
    return Figure(f"{name}, test accuracy", told, f">= {BASELINES[name]:.1%} (linear SVM)", best >= BASELINES[name])


def _measure(data: Path, home: Path, name: str, family: str, *options: str) -> tuple[float, float]:
    task = f"{name}-{family}".replace("_", "-")
    trained, seconds = insource(home, "train", part(data, name, "train"), "--task", task, "--family", family, *options)
    measured, _ = insource(home, "evaluate", f"{task}@{trained['version']}", part(data, name, "test"))
    return measured["accuracy"], seconds
