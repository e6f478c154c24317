"""What a training run leaves behind in words and figures: the JSON of `train` and the lineage in the registry.

It knows figures; not how a version is trained, certified or stored.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from insource import __version__
from insource.training.evaluate import Evaluation
from insource.training.snapshot import Snapshot
from insource.training.suspects import LabelNoise
from insource.types import Calibration, Require, SpecialistVersion, Task

PACKAGES = ("numpy", "scipy", "onnxruntime", "tokenizers", "safetensors", "torch")
CHECKOUT = Path(__file__).resolve().parents[2]
SPLITS = ("train", "calibration", "test")


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a version: `rows` of train, calibration and test, size with its trunk, p50 and p99.

    `test` None where no row was set aside for it. `why` says why this family; `precision` is the trunk's, if any.
    `noise` is what cross-fitting says of the references, `advice` what another recipe would gain; None without it.
    """

    rows: tuple[int, int, int]
    test: Evaluation | None
    size_bytes: int
    latency_ms: tuple[float, float]
    why: str
    precision: str | None
    noise: LabelNoise | None = None
    advice: str | None = None

    def named_rows(self) -> dict[str, int]:
        """Return the rows by the name of their split."""
        return dict(zip(SPLITS, self.rows, strict=True))

    def latency(self) -> dict[str, float]:
        """Return p50 and p99 by name, milliseconds."""
        return {"p50": self.latency_ms[0], "p99": self.latency_ms[1]}


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of a run; `to_json` gives what `train --json` writes."""

    version: SpecialistVersion
    artifact: Path
    snapshot: Snapshot
    figures: Figures
    seconds: float
    skipped: int = 0
    require: Require = Require()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before promoting it: what was not certified, a missed bar, advice."""
        calibration = self.version.calibration
        advice = self.figures.advice
        return (*(calibration.notes if calibration else ()), *self._misses(), *([advice] if advice else ()))

    def _misses(self) -> list[str]:
        """Name each requirement of the task that the measured version does not meet."""
        asked, found, calibration = self.require, self.figures, self.version.calibration
        megabytes, milliseconds = found.size_bytes / 1e6, found.latency_ms[0]
        misses = []
        if asked.accuracy is not None and found.test is not None and found.test.accuracy < asked.accuracy:
            misses.append(f"accuracy is {found.test.accuracy:.1%}; require.accuracy is {asked.accuracy:.1%}")
        if asked.coverage is not None and calibration is not None and calibration.coverage < asked.coverage:
            misses.append(f"certified coverage is {calibration.coverage:.1%}; require.coverage is {asked.coverage:.1%}")
        if asked.latency_ms is not None and milliseconds > asked.latency_ms:
            misses.append(f"an answer takes {milliseconds:.3g} ms; require.latency_ms is {asked.latency_ms:g}")
        if asked.size_mb is not None and megabytes > asked.size_mb:
            misses.append(f"it weighs {megabytes:.1f} MB; require.size_mb is {asked.size_mb:g}")
        return [f"The task's bar is missed: {miss}. Take another family, or lower the bar." for miss in misses]

    def to_json(self) -> dict[str, Any]:
        """Return the stable form that the reference documents."""
        calibration, figures = self.version.calibration, self.figures
        test = figures.test
        return {
            "task": self.version.task,
            "version": self.version.version,
            "family": self.version.family,
            "digest": self.version.digest,
            "artifact": str(self.artifact),
            "rows": figures.named_rows(),
            "skipped": self.skipped,
            "unlabelled": self.snapshot.unlabelled,
            "textless": self.snapshot.textless,
            "outside": self.snapshot.outside,
            "test": {"accuracy": test.accuracy, "macro_f1": test.macro_f1} if test else None,
            "calibration": told(calibration),
            "size_bytes": figures.size_bytes,
            "latency_ms": figures.latency(),
            "seconds": self.seconds,
            "why": figures.why,
            "precision": figures.precision,
            "label_noise": figures.noise.figures() if figures.noise else None,
            "notes": list(self.notes),
        }


def lineage_of(
    figures: Figures, task: Task, recipe: Mapping[str, Any], snapshot: str, trunk: str | None
) -> dict[str, Any]:
    """Return what the registry keeps of a run; `snapshot` and `trunk` are digests."""
    return {
        "snapshot": snapshot,
        "rows": figures.named_rows(),
        "recipe": dict(recipe),
        "promise": {
            "target_risk": task.target_risk,
            "confidence_level": task.confidence_level,
            "guard": dict(task.guard),
        },
        "trunk": trunk,
        "precision": figures.precision,
        "label_noise": figures.noise.figures() if figures.noise else None,
        "why": figures.why,
        "test": figures.test.figures() if figures.test else None,
        "size_bytes": figures.size_bytes,
        "latency_ms": figures.latency(),
        "packages": packages(),
        "commit": commit(),
    }


def told(calibration: Calibration | None) -> dict[str, Any] | None:
    """Return a certificate as `train --json` writes it."""
    if calibration is None:
        return None
    names = ("method", "threshold", "coverage", "risk_upper_bound", "target_risk", "confidence_level", "rows", "errors")
    return {**{name: getattr(calibration, name) for name in names}, "guards": [asdict(g) for g in calibration.guards]}


def commit(checkout: Path = CHECKOUT) -> str | None:
    """Return the commit of insource that runs, where it runs from a git checkout; None elsewhere."""
    git = checkout / ".git"
    try:
        head = (git / "HEAD").read_text("ascii").strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        if (git / name).is_file():
            return (git / name).read_text("ascii").strip()
        packed = (line.split() for line in (git / "packed-refs").read_text("utf-8").splitlines())
        return next((parts[0] for parts in packed if parts[1:] == [name]), None)
    except (OSError, ValueError):
        return None


def packages() -> dict[str, str]:
    """Return the versions of what computed: insource, Python, the machine and the numerical packages."""
    found = {"insource": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
