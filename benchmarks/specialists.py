"""Families that fit: accuracy on official test splits, size, latency, and what the usual way takes for the same.

Each training is kept under --home/specialists with what it came to, so that a run that was broken off goes on. Peers
(SetFit, a transformers pipeline) run in their own environment, which `scripts/peers` makes, right beside ours.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.few_shot import few_rows
from benchmarks.figure import Figure, insource, part
from benchmarks.out_of_scope import recalls
from benchmarks.single_requests import against_pipeline, compared, texts_a_second

ABOVE_LINEAR = {"twitter_financial_news": 2.0, "tweeteval_offensive": 2.0, "trec_questions": 5.0, "unfair_tos": 0.5,
                "contract_nli": 1.0}  # fmt: skip
LINEAR = {"twitter_financial_news": (0.846, 0.777), "tweeteval_offensive": (0.797, 0.717), "unfair_tos": (0.949, 0.680),
          "trec_questions": (0.902, 0.872), "contract_nli": (0.890, 0.857)}  # fmt: skip
"""Accuracy and macro F1 of the data index's linear baselines."""
MOST_SECONDS = 480.0
ALL_ROWS = ("--no-certify",)
SMALL = ("--layers", "3", "--small-vocabulary")


@dataclass(frozen=True)
class Made:
    """A version, the seconds its training took, and what it makes of the official test rows."""

    task: str
    version: int
    seconds: float
    accuracy: float
    macro_f1: float
    megabytes: float
    p50_ms: float

    @property
    def name(self) -> str:
        """NAME@V."""
        return f"{self.task}@{self.version}"

    def told(self) -> str:
        """One line."""
        return (
            f"{self.accuracy:.2%}, macro F1 {self.macro_f1:.2%}; {self.megabytes:.1f} MB, p50 {self.p50_ms:.2f} ms, "
            f"trained in {self.seconds:.0f} s"
        )


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """All figures; `quick` takes a small set and one epoch, and leaves the peers out."""
    if quick:
        made = make(data, home, "trec_questions", "encoder", "--no-certify", "--epochs", "1")
        return [Figure("trec_questions, encoder, one epoch", made.told())]
    banking = make(data, home, "banking77", "encoder", *ALL_ROWS)
    clinc = [make(data, home, "clinc150", family, *ALL_ROWS).name for family in ("encoder", "linear")]
    small = make(data, home, "banking77", "encoder", *ALL_ROWS, "--teacher-version", str(banking.version), *SMALL)
    return [
        Figure("banking77, encoder", banking.told(), ">= 94.0 %", round(banking.accuracy, 3) >= 0.94),
        Figure("banking77, encoder, training", f"{banking.seconds:.0f} s", "<= 480 s", banking.seconds <= MOST_SECONDS),
        *recalls(*clinc, data, home),
        *(_above(data, home, name, points) for name, points in ABOVE_LINEAR.items()),
        *compared(banking.name, data, home),
        *_smallest(small, banking),
        *_static(make(data, home, "banking77", "static", *ALL_ROWS), data, home),
        *against_pipeline(banking.name, data, home),
        *few_rows(data, home),
    ]


def make(data: Path, home: Path, name: str, family: str, *options: str) -> Made:
    """Train on a set's train rows and evaluate on its test rows, or recall what that came to."""
    task = f"{name}-{family}".replace("_", "-")
    told = hashlib.sha256(json.dumps([name, family, *options]).encode()).hexdigest()[:16]
    kept = home / "specialists" / f"{task}-{told}.json"
    if not kept.exists():
        trained, seconds = insource(
            home, "train", part(data, name, "train"), "--task", task, "--family", family, *options
        )
        measured, _ = insource(home, "evaluate", f"{task}@{trained['version']}", part(data, name, "test"))
        latency = measured["latency_ms"]["p50"]
        made = Made(task, trained["version"], seconds, measured["accuracy"], measured["macro_f1"],
                    trained["size_bytes"] / 1e6, latency)  # fmt: skip
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(asdict(made)))
    return Made(**json.loads(kept.read_text()))


def _above(data: Path, home: Path, name: str, points: float) -> Figure:
    made, (accuracy, f1) = make(data, home, name, "encoder", *ALL_ROWS), LINEAR[name]
    above, f1_above = 100 * (made.accuracy - accuracy), 100 * (made.macro_f1 - f1)
    told = (
        f"{above:+.1f} points ({made.accuracy:.1%}); macro F1 {f1_above:+.1f} ({made.macro_f1:.1%}); "
        f"{made.seconds:.0f} s"
    )
    return Figure(f"{name}, encoder above linear", told, f">= {points:g} points", round(above, 1) >= points)


def _smallest(small: Made, best: Made) -> list[Figure]:
    lost = 100 * (best.accuracy - small.accuracy)
    return [
        Figure("banking77, smallest, points below the best", f"{lost:.2f} ({small.accuracy:.2%})", "<= 1", lost <= 1),
        Figure("banking77, smallest, size", f"{small.megabytes:.2f} MB", "<= 8 MB", small.megabytes <= 8),
        Figure("banking77, smallest, p50", f"{small.p50_ms:.2f} ms", "<= 1.0 ms", small.p50_ms <= 1.0),
    ]


def _static(made: Made, data: Path, home: Path) -> list[Figure]:
    rate = texts_a_second(made.name, data, home)
    return [
        Figure("banking77, static", made.told(), ">= 91.5 %", round(made.accuracy, 3) >= 0.915),
        Figure("banking77, static, one core", f"{rate:,.0f} texts/s", ">= 15,000 texts/s", rate >= 15_000),
        Figure("banking77, static, p50", f"{made.p50_ms:.3f} ms", "<= 0.1 ms", made.p50_ms <= 0.1),
    ]
