"""Trying the families that need no torch: what they share is prepared once, and a beaten one is dropped early."""

from __future__ import annotations

import time
from dataclasses import replace

from insource.backends.model_files import read_tokenizer
from insource.backends.onnx import TOKENIZER_FILE
from insource.training.comparing.bench import Bench
from insource.training.comparing.candidates import FP32, INT8
from insource.training.comparing.curve import beaten_by
from insource.training.comparing.estimates import SAFETY, Speeds, cross_fit_seconds, embedding_seconds
from insource.training.evaluate import TIMED
from insource.training.families import FAMILIES, Material
from insource.training.outcome import Trained
from insource.training.precision import TEST_ROWS, TRAIN_ROWS, check_precision
from insource.training.recipe import Recipe
from insource.training.run import make_version
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.students.static_lexicon import read_vocabulary

COARSE = ("linear", "static")
"""Families that are cross-fitted on half as many folds."""
PARTS = {"linear": ("linear",), "static": ("static",), "two-tier": ("linear", INT8), INT8: (INT8,)}
"""What families share: n-grams, a lexicon, embeddings."""
FP32_TIMES = 2.5
ONE_WORD = 0.5
"""What a single word takes to embed against a text."""
ONE_AT_A_TIME = 2
"""What a text takes by itself against many at once, on two cores: a test answers some of its rows both ways."""
LONGEST_FIT = 0.05
"""The share of the time budget that one fit of a learning curve may take."""


def try_family(bench: Bench, family: str) -> None:
    """Prepare what a family needs, draw its learning curve, and make a version unless a cheaper family beats it."""
    for part in PARTS[family]:
        if part not in bench.parts:
            if not (bench.fits(family, 0.0) and bench.fits(family, _preparing(bench, part))):
                return
            _prepare(bench, part)
    curve = bench.curves.get(family)
    cheaper = [bench.curves[each] for each in FAMILIES[: FAMILIES.index(family)] if each in bench.curves]
    beaten = beaten_by(curve, cheaper) if curve else None
    if curve is not None and beaten is not None:
        told = f"at {curve.rows[-1]:,} rows {curve.accuracy[-1]:.1%} right, the cheaper {beaten.family} "
        bench.pass_over(family, "dropped", f"{told}{beaten.accuracy[-1]:.1%}, which has no less to gain from more rows")
        return
    expected = _cross_fits(bench, PARTS[family])
    recipe = replace(bench.recipe, family=family, precision="auto" if family in COARSE else "int8")
    parts = sum(bench.parts[part] for part in PARTS[family])
    bench.attempt(family, expected, lambda: _make(bench, bench.material, recipe, family), parts)


def try_exact(bench: Bench) -> None:
    """Make the frozen encoder in fp32, unless rows held out say that int8 serves as well."""
    if bench.found(INT8) is None or bench.speeds is None:
        bench.pass_over(FP32, "left out", f"{INT8} in int8 was not measured, beside which it would stand")
        return
    rows, embed = bench.split.learn, bench.speeds.embed
    if not bench.fits(FP32, min(len(rows), TRAIN_ROWS + TEST_ROWS) * embed * FP32_TIMES):
        return
    texts, classes = [bench.snapshot.texts[i] for i in rows], bench.snapshot.classes[rows]
    check = check_precision(
        lambda precision: _student(bench, precision), texts, classes, len(bench.snapshot.answers), bench.recipe.seed
    )
    if check.chosen == "int8":
        told = f"on {check.rows} rows held out {check.fp32:.1%} right, int8 {check.int8:.1%}"
        bench.pass_over(FP32, "dropped", f"{told}: not better beyond noise, but slower, larger and dearer")
        return
    material, recipe = bench.material_of("fp32"), replace(bench.recipe, family=INT8, precision="fp32")
    expected = len(bench.snapshot) * embed * FP32_TIMES + _cross_fits(bench, (INT8,))
    bench.attempt(FP32, expected, lambda: _make(bench, material, recipe, FP32))


def cross_fit_of_heads(bench: Bench) -> float:
    """Return how long cross-fitting heads on embeddings is expected to take; 0 where nobody knows."""
    return _cross_fits(bench, (INT8,))


def _cross_fits(bench: Bench, parts: tuple[str, ...]) -> float:
    known = [(bench.curves[part], part in COARSE) for part in parts if part in bench.curves]
    return sum(cross_fit_seconds(curve, len(bench.split.learn), coarse=coarse) for curve, coarse in known)


def _preparing(bench: Bench, part: str) -> float:
    """Return the seconds that preparing a shared part is expected to take."""
    if part == "linear":
        return 0.0
    base, room = bench.recipe.base, bench.shop.room
    if bench.speeds is None:
        bench.speeds = Speeds(embedding_seconds(room.get(room.ensure(base, "int8")), bench.snapshot.texts))
        bench.budget.reserve += SAFETY * (len(bench.split.test) + ONE_AT_A_TIME * TIMED) * bench.speeds.embed
    if part != "static":
        return bench.speeds.embed * len(bench.snapshot)
    words, pieces = read_vocabulary(read_tokenizer(room.base(base).folder / TOKENIZER_FILE, links=True))
    return ONE_WORD * bench.speeds.embed * (len(words) + len(pieces))


def _prepare(bench: Bench, part: str) -> None:
    start = time.process_time()
    student, prepared = bench.material.of(part, bench.snapshot.answers.answers)
    bench.parts[part] = time.process_time() - start
    most = LONGEST_FIT * bench.budget.seconds
    curve = bench.probe.curve(student, prepared, lambda seconds: seconds < min(most, bench.budget.left))
    if curve is not None:
        bench.curves[part] = curve


def _make(bench: Bench, material: Material, recipe: Recipe, name: str) -> Trained:
    return make_version(
        material, bench.snapshot, bench.split, bench.task, recipe, bench.shop, examples=bench.examples,
        told=bench.told(name),
    )  # fmt: skip


def _student(bench: Bench, precision: str) -> EncoderFrozenStudent:
    room = bench.shop.room
    digest = room.ensure(bench.recipe.base, precision)
    return EncoderFrozenStudent(room.get(digest), room.embedder(digest))
