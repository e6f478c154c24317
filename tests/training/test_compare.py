"""A whole comparison with a tiny base model: what is made, left out and dropped, and that nothing stays half made."""

import time
from dataclasses import replace
from decimal import Decimal
from itertools import count

import pytest

from insource.errors import DataError, OpenEndedAnswers, UserError
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry
from insource.training.compare import Options, compare
from insource.training.comparing.base_families import try_exact, try_family
from insource.training.comparing.bench import Bench
from insource.training.comparing.candidates import CANDIDATES, COMPRESSIONS, FP32, INT8, SMALL, TUNED
from insource.training.comparing.compressed import try_compressed
from insource.training.comparing.cost import Prices, UpstreamTerms
from insource.training.comparing.estimates import Speeds, tuned_seconds
from insource.training.comparing.time_budget import TimeBudget
from insource.training.comparing.tuned_encoders import try_student, try_tuned
from insource.training.recipe import Recipe
from insource.training.run import Workshop
from insource.training.snapshot import inputs_of, take_snapshot
from insource.training.split_rows import split_rows
from insource.training.trunks import TrunkRoom
from insource.training.tuning.settings import Settings
from insource.types import Require, Task

from .conftest import NOON, embedded, silent

PRICES = Prices(lambda seconds: 4.0 * seconds, upstream=UpstreamTerms((("api", "US"),), Decimal("0.001")))
TASK = Task("triage", target_risk=0.3)


@pytest.fixture
def shop(home):
    """A workshop in the home, without a progress bar."""
    store = ArtifactStore(home)
    with Registry.open(home) as registry:
        yield Workshop(home, registry, store, TrunkRoom(home, store, silent), silent, lambda: NOON)


@pytest.fixture
def bench(shop, tiny_base):
    """Makes a bench for examples, with time enough."""

    def make(examples, seconds=10_000.0):
        snapshot = take_snapshot(examples, inputs_of(TASK))
        snapshot.save(shop.home)
        budget = TimeBudget(seconds, time.monotonic(), time.monotonic)
        return Bench(examples, snapshot, TASK, Recipe(base=str(tiny_base)), shop, budget, lambda seconds: 4 * seconds)

    return make


def test_all_is_made_or_told_why_not_and_all_on_the_same_rows(shop, examples, tiny_base, kept):
    found = compare(examples(300, noise=0.05), TASK, Options(base=str(tiny_base)), PRICES, shop)
    names = [each.name for each in found.contenders] + [each.name for each in found.not_tried]
    assert sorted(names) == sorted(each.name for each in CANDIDATES)
    assert {len(each.right) for each in found.contenders} == {found.test_rows} and 20 < found.test_rows < 80
    versions = {version.version: version for version in kept().versions}
    for each in found.contenders:
        assert versions[each.version.version].lineage["compared"] == each.name
        assert each.sent_up == pytest.approx(1 - each.coverage * 0.95)  # 5 % are audited
        assert each.cost.upstream == pytest.approx(Decimal(each.sent_up))
        assert each.latency_ms[0] > 0 and each.answer_seconds > 0
    dropped = {each.name: each.what for each in found.not_tried}
    assert dropped[INT8] == "dropped"  # a random encoder stands far behind words
    assert found.recommendation.contender in found.front
    strict = replace(found, task=replace(TASK, require=Require(size_mb=0.0001))).to_json()
    assert strict["recommendation"]["met"] is False and found.to_json()["recommendation"]["met"] is True
    assert all("MB over 0.0001" in each["misses"][0] for each in strict["candidates"])
    assert found.complexity.label_noise is not None and {each.family for each in found.complexity.curves} >= {"linear"}


def test_what_has_no_time_left_is_left_out_and_what_was_made_stands(shop, examples, tiny_base, kept):
    """The clock jumps once the first version is there."""
    options = Options(time_budget=600.0, base=str(tiny_base))
    found = compare(
        examples(200), TASK, options, PRICES, shop, clock=lambda: 10_000.0 if shop.registry.tasks() else 0.0
    )
    assert [each.name for each in found.contenders] == ["linear"]
    assert {each.what for each in found.not_tried} == {"left out"}
    assert found.not_tried[0].name == "static" and found.not_tried[0].why == "no time was left"
    assert len(kept().versions) == 1 and not kept().drafts


def test_what_runs_over_its_time_is_stopped_and_leaves_nothing_half(shop, examples, tiny_base, kept):
    titles = []

    def say(title):
        titles.append(title)
        return silent(title)

    options, late = Options(base=str(tiny_base)), replace(shop, say=say)
    with pytest.raises(UserError, match="in which nothing could be trained"):
        compare(examples(200), TASK, options, PRICES, late, clock=lambda: 1e4 if "training triage" in titles else 0.0)
    assert titles[-1] == "training triage"
    assert not kept().versions and not kept().drafts


def test_no_time_for_anything_is_an_error(shop, examples):
    with pytest.raises(UserError, match="in which nothing could be trained"):
        compare(examples(100), TASK, Options(time_budget=1.0), PRICES, shop, clock=count(0.0, 10.0).__next__)


def test_what_no_family_can_learn_ends_with_its_reason(shop, examples):
    with pytest.raises(DataError):
        compare(examples(5), TASK, Options(), PRICES, shop)
    open_ended = [{"text": f"text {n}", "answer": f"a long answer of its own, number {n}"} for n in range(400)]
    with pytest.raises(OpenEndedAnswers):
        compare(examples(lines=open_ended), TASK, Options(), PRICES, shop)


def test_encoders_and_what_is_made_of_them_share_the_rows(bench, examples):
    made = bench(examples(160))
    try_family(made, INT8)  # without a cheaper family's curve, nothing beats it
    try_exact(made)
    try_compressed(made, "encoder-frozen, vocabulary", COMPRESSIONS["encoder-frozen, vocabulary"])
    names = [each.name for each in made.made]
    assert names[0] == INT8 and names[-1] == "encoder-frozen, vocabulary"
    assert (FP32 in names) != (FP32 in {each.name for each in made.not_tried})
    assert len({each.trained.figures.test.references.tobytes() for each in made.made}) == 1
    small = made.found("encoder-frozen, vocabulary")
    assert small is not None and small.core_seconds > made.found(INT8).core_seconds
    lineage = small.trained.version.lineage
    assert lineage["compressed_from"] == "triage@1" and lineage["compared"] == "encoder-frozen, vocabulary"


def test_the_curve_of_few_rows_learns_from_the_answers_words_too(bench, examples, home):
    made = bench(examples(40))
    made.attempt = lambda *told: None
    try_family(made, INT8)
    assert INT8 in made.curves and embedded(home) == {40, 3}


@pytest.mark.parametrize(("left", "epochs"), [(None, 10), (10, 10), (9, 9), (4, 4), (2, 2)])
def test_few_rows_are_tuned_on_as_often_as_train_would_or_as_fits(bench, examples, left, epochs):
    """Ample time, or as much as `left` epochs take."""
    made, offered = bench(examples(160)), []
    made.speeds = Speeds(embed=0.001, tune=0.1)
    split = split_rows(made.snapshot, Recipe("encoder", "strict"), 160, 0)
    learn, others = len(split.learn), len(split.calibrate) + len(split.test)
    assert Settings().epochs_of(learn) == 10
    if left is not None:
        made.budget = TimeBudget(tuned_seconds(made.speeds, learn, others, left), 0.0, lambda: 0.0)
    made.attempt = lambda name, expected, make, parts: offered.append((name, expected))
    try_tuned(made)
    assert offered == [(TUNED, tuned_seconds(made.speeds, learn, others, epochs))]


@pytest.mark.slow
def test_a_tuned_encoder_and_its_student_are_tested_on_the_same_rows(bench, examples):
    made = bench(examples(300))
    try_family(made, INT8)
    try_tuned(made)
    try_student(made)
    assert [each.name for each in made.made] == [INT8, TUNED, SMALL]
    assert len({each.trained.figures.test.references.tobytes() for each in made.made}) == 1
    assert made.made[1].trained.version.calibration.method == "strict"
    assert made.made[2].trained.version.lineage["recipe"]["teacher"] == 2
    assert [each.trained.version.lineage["recipe"]["tuning"]["epochs"] for each in made.made[1:]] == [10, 10]


def test_what_builds_on_something_that_was_not_made_says_so(bench, examples):
    made = bench(examples(100))
    for attempt in (try_exact, try_tuned, try_student):
        attempt(made)
    try_compressed(made, "x", COMPRESSIONS["encoder-frozen, vocabulary"])
    assert [each.name for each in made.not_tried] == [FP32, TUNED, SMALL, "x"]
    assert {each.what for each in made.not_tried} == {"left out"} and not made.made
