"""Trying family `encoder`, and its small student: tuned for as many epochs as there is time for."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from insource.training.comparing.bench import Bench, Made
from insource.training.comparing.candidates import FEWEST_EPOCHS, SMALL, SMALL_LAYERS, TUNED
from insource.training.comparing.estimates import tuned_seconds, tuning_seconds
from insource.training.encoder_weights import read_shape
from insource.training.outcome import Trained
from insource.training.precision import is_worse
from insource.training.recipe import Recipe
from insource.training.run import make_version
from insource.training.split_rows import split_rows
from insource.training.teacher import open_teacher
from insource.training.tuned import prepare_tuning
from insource.training.tuning.settings import Settings

TUNE_TIMES = 4.0
"""Tuning on a text (fp32, both ways) against embedding it (int8), at least: spares timing what cannot fit."""


def try_tuned(bench: Bench) -> None:
    """Tune the base model's own weights, where torch is installed and there is something left to gain."""
    if find_spec("torch") is None:
        bench.pass_over(TUNED, "refused", "it needs torch. Run: pip install 'insource[train]'")
    elif bench.speeds is None:
        bench.pass_over(TUNED, "left out", "the base model was not opened")
    elif any(nothing_to_gain(each) for each in bench.made):
        rows = f"{len(bench.split.test):,} test rows"
        bench.pass_over(TUNED, "dropped", f"on {rows} even one that is always right would not be better beyond noise")
    else:
        _tune(bench, TUNED, replace(bench.recipe, family="encoder", method="strict"))


def try_student(bench: Bench) -> None:
    """Distil the tuned encoder into one of three layers and the words of the rows."""
    teacher = bench.found(TUNED)
    if teacher is None or bench.speeds is None:
        bench.pass_over(SMALL, "left out", "it is taught by a tuned encoder, and none was made")
        return
    known = read_shape(bench.shop.room.base(bench.recipe.base).folder).layers
    layers = min(SMALL_LAYERS, known - 1)
    if not layers:
        bench.pass_over(SMALL, "dropped", "the base model has one layer, which cannot be left out")
        return
    recipe = replace(
        bench.recipe, family="encoder", method="strict", layers=layers, small_vocabulary=True,
        teacher=teacher.trained.version.version,
    )  # fmt: skip
    _tune(bench, SMALL, recipe, teacher, share=layers / known, before=len(bench.snapshot) * bench.speeds.embed)


def nothing_to_gain(made: Made) -> bool:
    """Whether a version that is right on every test row would not be told from this one."""
    return not is_worse(made.right, np.ones_like(made.right))


def _tune(
    bench: Bench, name: str, recipe: Recipe, teacher: Made | None = None, *, share: float = 1.0, before: float = 0.0
) -> None:
    """Tune in as many epochs as fit; `share` of the layers is left, and `before` are seconds that come first."""
    assert bench.speeds is not None
    split = split_rows(bench.snapshot, recipe, len(bench.examples), 0)
    learn, others = len(split.learn), len(split.calibrate) + len(split.test)
    if bench.speeds.tune is None:
        if not bench.fits(name, FEWEST_EPOCHS * learn * TUNE_TIMES * bench.speeds.embed):
            return
        texts = [bench.snapshot.texts[i] for i in split.learn]
        timed = tuning_seconds(bench.shop.room.base(recipe.base), texts, len(bench.snapshot.answers))
        bench.speeds = replace(bench.speeds, tune=timed)
    speeds = bench.speeds
    choices = range(Settings().epochs_of(learn), FEWEST_EPOCHS - 1, -1)
    expected = {n: before + tuned_seconds(speeds, learn, others, n, layers=share) for n in choices}
    epochs = next((n for n in choices if expected[n] <= bench.budget.left), FEWEST_EPOCHS)
    recipe = replace(recipe, tuning=Settings(epochs=epochs))
    shop = bench.shop

    def make() -> Trained:
        taught = open_teacher(shop.registry, shop.artifacts, bench.task.name, recipe.teacher)
        if taught:
            taught.check(bench.snapshot, split, len(bench.examples), 0)
        develop = prepare_tuning(
            bench.examples, bench.snapshot, split, recipe, shop.room, shop.home, shop.say, taught
        )  # fmt: skip
        return make_version(
            bench.material_of("int8"), bench.snapshot, split, bench.task, recipe, shop, examples=bench.examples,
            told=bench.told(name), develop=develop,
        )  # fmt: skip

    bench.attempt(name, expected[epochs], make, teacher.core_seconds if teacher else 0.0)
