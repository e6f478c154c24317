"""Compressing a version from end to end: what is registered, what is refused, and what is left behind."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from insource.errors import ArtifactDamaged, DataError, ParityError, UserError
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.compression.beside import Beside, Measured
from insource.training.compression.compress import Limits, compress
from insource.training.compression.smaller import How
from insource.training.recipe import Recipe
from insource.training.run import Workshop, train
from insource.training.trunks import TrunkRoom
from insource.types import Task

from .conftest import NOON, as_examples, silent

EVERYTHING = How(layers=1, heads=0.5, width=0.5, vocabulary=True, quantise="int4")
ANY = Limits(most_loss=1.0)


@pytest.fixture
def compressed(home, say):
    """Compresses a version of this home."""

    def run(version, how, limits=ANY):
        artifacts = ArtifactStore(home)
        with Registry.open(home) as registry:
            shop = Workshop(home, registry, artifacts, TrunkRoom(home, artifacts, say), say, lambda: NOON)
            return compress(version, how, Task("triage"), shop, joules=lambda seconds: 4.0 * seconds, limits=limits)

    return run


@pytest.fixture(scope="module")
def home_with_source(tickets, tiny_base, tmp_path_factory):
    """A home with a frozen encoder's version, trained on made-up tickets, and that version."""
    home = tmp_path_factory.mktemp("compression") / "home"
    recipe = Recipe("encoder-frozen", base=str(tiny_base), precision="fp32")
    with Registry.open(home) as registry:
        made = train(as_examples(tickets(80)), Task("triage"), recipe, home=home, registry=registry,
                     artifacts=ArtifactStore(home), say=silent, now=lambda: NOON)  # fmt: skip
    return home, made.version


@pytest.fixture
def version(home_with_source, home):
    """That version, in a home of the test's own."""
    shutil.copytree(home_with_source[0], home)
    return home_with_source[1]


@pytest.fixture
def source(trained, examples, tiny_base):
    """Trains a version by another recipe."""
    chosen = {"family": "encoder-frozen", "base": str(tiny_base), "precision": "fp32"}
    return lambda **recipe: trained(examples(80), **{**chosen, **recipe}).version


def test_everything_at_once_gives_a_smaller_candidate(version, compressed, kept, home, say):
    before = version
    found = compressed(before, EVERYTHING)
    after = found.trained.version
    assert (after.version, after.stage, after.family) == (2, "candidate", "encoder-frozen")
    assert after.lineage["compressed_from"] == "triage@1"
    assert after.lineage["how"] == {"layers": 1, "heads": 0.5, "width": 0.5, "vocabulary": True, "quantise": "int4"}
    assert after.lineage["snapshot"] == before.lineage["snapshot"] and after.lineage["precision"] == "int4"
    assert after.calibration.method == "cross-fit" and after.calibration.rows == before.calibration.rows
    old, new = found.beside.source, found.beside.result
    assert new.size_bytes < 0.5 * old.size_bytes
    assert [old.accuracy, new.accuracy] == pytest.approx([v.lineage["test"]["accuracy"] for v in (before, after)])
    assert found.beside.rows == before.lineage["rows"]["test"] == after.lineage["rows"]["test"]
    assert after.lineage["beside"] == found.beside.to_json()
    room = TrunkRoom(home, ArtifactStore(home), say)
    shape = room.kept(room.encoder_of(after.lineage["trunk"]))
    assert shape.digest == room.get(after.lineage["trunk"]).info.base_digest
    assert len(kept().versions) == 2 and not kept().drafts


def test_what_was_compressed_can_be_compressed_again(version, compressed):
    once = compressed(version, How(layers=1)).trained.version
    twice = compressed(once, How(vocabulary=True, quantise="int8"))
    assert twice.trained.version.lineage["compressed_from"] == "triage@2"
    assert twice.beside.result.size_bytes < twice.beside.source.size_bytes


def test_rows_with_groups_are_split_as_they_were(trained, tickets, compressed, home, tiny_base):
    lines = [{**line, "group": f"customer {number // 6}"} for number, line in enumerate(tickets(120))]
    before = trained(as_examples(lines), family="encoder-frozen", base=str(tiny_base), precision="fp32").version
    found = compressed(before, How(layers=1)).trained
    assert found.version.lineage["rows"] == before.lineage["rows"] and found.snapshot.grouped
    assert found.snapshot.digest == before.lineage["snapshot"]
    assert len(set(found.snapshot.groups.tolist())) == 20
    assert compressed(found.version, How(quantise="int8")).trained.version.lineage["rows"] == before.lineage["rows"]
    (path,) = (home / "snapshots").iterdir()
    path.write_text(re.sub(r',"group":\d+', "", path.read_text()))  # as versions before this one wrote it
    with pytest.raises(DataError, match="had groups of their own that were not kept yet"):
        compressed(before, How(layers=1))


def test_two_tiers_stay_two_tiers(source, compressed):
    found = compressed(source(family="two-tier"), How(quantise="int8"))
    assert found.trained.version.family == "two-tier" and found.trained.figures.precision == "int8"


def test_the_energy_is_that_of_a_thousand_answers(version, compressed):
    told = compressed(version, How(quantise="int8")).to_json()
    for side in ("source", "result"):
        assert told[side]["joules_per_thousand"] == pytest.approx(4.0 * told[side]["latency_ms"]["p50"])


def test_a_loss_that_was_not_agreed_is_refused_and_nothing_is_kept(version, compressed, kept, home):
    artifacts = {path.name for path in (home / "artifacts").iterdir()}
    with pytest.raises(ParityError, match="at most -200 were agreed. Nothing was kept"):
        compressed(version, EVERYTHING, Limits(most_loss=-2.0))
    with pytest.raises(ParityError, match="at least 150.0% was agreed. Nothing was kept"):
        compressed(version, EVERYTHING, Limits(most_loss=1.0, least_agreement=1.5))
    assert {path.name for path in (home / "artifacts").iterdir()} == artifacts
    assert len(list((home / "held-out").iterdir())) == 1
    assert len(kept().versions) == 1


def test_what_was_there_before_is_not_thrown_away_with_a_refused_version(version, compressed, home, kept):
    first = compressed(version, How(quantise="int8")).trained.version
    with pytest.raises(ParityError):
        compressed(version, How(quantise="int8"), Limits(most_loss=-2.0))
    assert ArtifactStore(home).open(first.lineage["trunk"])
    assert len(kept().versions) == 2


def side(accuracy=0.9, size=100, p50=1.0):
    return Measured(accuracy, size, (p50, 2 * p50), p50)


@pytest.mark.parametrize(
    ("result", "no_better"),
    [
        (side(), True),
        (side(0.8, 200, 2.0), True),
        (side(0.91, 200, 2.0), False),
        (side(0.8, 99, 2.0), False),
        (side(0.8, 200, 0.9), False),
    ],
)
def test_what_is_worse_on_all_counts_is_known(result, no_better):
    assert Beside(side(), result, 1.0, 10).no_better() is no_better


def test_a_version_that_is_better_in_nothing_is_not_kept(version, compressed, kept, monkeypatch):
    monkeypatch.setattr(Beside, "no_better", lambda self: True)
    with pytest.raises(ParityError, match="better in nothing"):
        compressed(version, How(quantise="int8"))
    assert len(kept().versions) == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (How(), "Nothing was said of how"),
        (How(layers=0), "1 to 1 was expected"),
        (How(layers=2), "as there are 2"),
        (How(heads=1.0), "less than 1"),
        (How(width=0.0), "more than 0"),
        (How(quantise="int2"), "int2"),
    ],
)
def test_what_cannot_be_done_is_refused(version, compressed, kept, how, message):
    with pytest.raises(UserError, match=message):
        compressed(version, how)
    assert len(kept().versions) == 1 and not kept().drafts


def test_a_version_without_an_encoder_is_refused(source, compressed):
    with pytest.raises(UserError, match="triage@1 is linear; one of encoder-frozen, two-tier, encoder was"):
        compressed(source(family="linear"), EVERYTHING)


def test_a_version_that_left_no_row_to_measure_on_is_refused(source, compressed):
    with pytest.raises(DataError, match="none is left to measure"):
        compressed(source(method="none"), EVERYTHING)


def test_rows_that_are_not_kept_are_missed(version, compressed, home):
    for path in (home / "snapshots").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="are not kept here any more"):
        compressed(version, EVERYTHING)


def test_rows_whose_split_cannot_be_found_again_are_refused(version, compressed):
    other = replace(version, lineage={**version.lineage, "rows": {**version.lineage["rows"], "train": 7}})
    with pytest.raises(DataError, match="its lineage says 7 and"):
        compressed(other, EVERYTHING)


def test_a_base_model_that_is_another_one_by_now_is_refused(source, compressed, tmp_path):
    from insource.training.tiny_encoder import write_tiny_base

    write_tiny_base(tmp_path / "own")
    version = source(base=str(tmp_path / "own"))
    write_tiny_base(tmp_path / "own", seed=1)
    with pytest.raises(DataError, match="was built from"):
        compressed(version, EVERYTHING)


def test_a_trunk_that_is_gone_is_told(version, compressed, home):
    ArtifactStore(home).remove(version.lineage["trunk"])
    with pytest.raises(ArtifactDamaged):
        compressed(version, EVERYTHING)
    assert np.isfinite(version.calibration.coverage)
