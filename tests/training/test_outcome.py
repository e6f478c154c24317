"""What a run says of itself: the bars it misses are named with both figures."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from insource.training.outcome import Figures, Trained
from insource.types import Calibration, Require, SpecialistVersion, Stage

CALIBRATION = Calibration("cross-fit", 0.05, 0.95, 100, 0.5, 0.6, 60, 1, 0.04, 0.9, notes=("told by the band",))
VERSION = SpecialistVersion("t", 1, "linear", "d" * 64, Stage.CANDIDATE, datetime(2026, 1, 1, tzinfo=UTC), CALIBRATION)


def trained(require: Require) -> Trained:
    figures = Figures((80, 80, 20), SimpleNamespace(accuracy=0.9), 25_000_000, (2.0, 5.0), "", None)
    return Trained(VERSION, Path("artifact"), SimpleNamespace(), figures, 1.0, require=require)


@pytest.mark.parametrize(
    ("require", "told"),
    [
        (Require(accuracy=0.91), "accuracy is 90.0%; require.accuracy is 91.0%"),
        (Require(coverage=0.7), "certified coverage is 60.0%; require.coverage is 70.0%"),
        (Require(latency_ms=1.0), "an answer takes 2 ms; require.latency_ms is 1"),
        (Require(size_mb=10), "it weighs 25.0 MB; require.size_mb is 10"),
    ],
)
def test_a_missed_bar_is_named_with_both_figures(require, told):
    notes = trained(require).notes
    assert notes[0] == "told by the band"
    assert len(notes) == 2 and told in notes[1]


def test_a_bar_that_is_met_is_not_mentioned():
    assert trained(Require(accuracy=0.9, coverage=0.6, latency_ms=2.0, size_mb=25)).notes == ("told by the band",)
