"""X7: mutants and known-bad samples of model files are given to the product's own loading, in processes that may die.

One process stands for the child that files of others are tried in, one for the gateway: what the first lets pass, the
second loads. It knows which of them ended how, not why.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from insource.backends.linear import LinearEngine
from insource.backends.model_child import try_in_child
from insource.backends.refused_file import RefusedFile
from insource.training.encoder_graph import build_trunk
from insource.training.tiny_encoder import write_tiny_base
from reliability.harness import Promise, Tally
from reliability.known_bad import ARRAYS, MODEL, TOKENIZER, known_bad
from reliability.loader import SECONDS, Loader
from reliability.mutants import mutant

FORMATS = {"safetensors": ("arrays", ARRAYS), "onnx": ("trunk", MODEL), "tokenizer": ("trunk", TOKENIZER)}
LEAST_SAMPLES = 40
BOMB = 600 * 1024 * 1024
QUICK = 0.5  # how long the broken build may hang


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Load one mutant of each format for each case, every known-bad sample once, and the two limits once."""
    tally = Tally()
    tally.count("broken", broken)
    good = folder / "good"
    _write_models(good)
    checked, seconds = not broken, QUICK if broken else SECONDS
    with (
        Loader(limited=True, checked=checked, seconds=seconds) as child,
        Loader(limited=False, checked=checked, seconds=seconds) as gateway,
    ):
        for kind in ("arrays", "trunk"):
            if "loaded" != (answer := gateway.load(kind, good / kind)):
                tally.fail(-1, f"the good {kind} was not loaded: {answer}", "good refused")
        for case in cases:
            for name, data in _mutants(good, case):
                _try_mutant(tally, case, name, _spoiled(folder, good, name, data), child, gateway)
        _try_samples(tally, folder, good, gateway, one_file=broken)
    if not broken:
        _try_limits(tally, folder / "bomb")
    return tally


def judge(tally: Tally) -> list[str]:
    """Nothing may die, hang, or reach out; every known-bad sample and both bombs must be refused."""
    counts, found = tally.counts, []
    for what in ("gateway died", "gateway hung", "reached out", "good refused", "limit not kept", "sample accepted"):
        if counts[what]:
            found.append(f"{counts[what]} times: {what}")
    if counts["samples"] < (1 if counts["broken"] else LEAST_SAMPLES) or not counts["mutants"]:
        found.append(f"{counts['samples']} known-bad samples and {counts['mutants']} mutants were tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['mutants']:,} mutants: {counts['gateway died']} deaths and {counts['gateway hung']} hangs of the "
        f"gateway ({counts['child died']} of the child), {counts['reached out']} reached out, "
        f"{tally.share('refused', 'mutants'):.1%} refused; "
        f"{counts['samples'] - counts['sample accepted']:,} of {counts['samples']:,} known-bad samples refused ("
        f"{counts['refused by the checks']:,} before any parser)"
    )


def _write_models(good: Path) -> None:
    chance = np.random.default_rng(7)
    words, characters = ["card", "lost", "where"], ["ca", "ar", "rd", "lo"]
    (good / "arrays").mkdir(parents=True)
    LinearEngine(
        words, characters, chance.uniform(1, 3, 7).astype(np.float32), chance.normal(size=(7, 3)).astype(np.float32),
        chance.normal(size=3).astype(np.float32),
    ).save(good / "arrays")  # fmt: skip
    build_trunk(write_tiny_base(good / "base", layers=1), good / "trunk", "int8")


def _mutants(good: Path, case: int) -> Iterator[tuple[str, bytes]]:
    for name, (kind, file) in FORMATS.items():
        yield name, mutant((good / kind / file).read_bytes(), random.Random(f"{case} {name}"))


def _spoiled(folder: Path, good: Path, name: str, data: bytes) -> Path:
    """Return a folder like the good one but for one file."""
    kind, file = FORMATS[name]
    target = folder / f"mutant-{name}"
    if not target.exists():
        shutil.copytree(good / kind, target)
    (target / file).write_bytes(data)
    return target


def _try_mutant(tally: Tally, case: int, name: str, folder: Path, child: Loader, gateway: Loader) -> None:
    kind = FORMATS[name][0]
    tally.count("mutants")
    tally.count(f"{name} mutants")
    answer = child.load(kind, folder)
    if answer.startswith(("died", "hung")):  # that is what the child is for
        tally.fail(case, f"{name}: the child {answer}", "child died")
        return
    if answer.startswith("refused"):
        tally.count("refused")
    else:
        answer = gateway.load(kind, folder)
    for start, what in (("died", "gateway died"), ("hung", "gateway hung"), ("outside", "reached out")):
        if answer.startswith(start):
            tally.fail(case, f"{name}: {answer}", what)


def _try_samples(tally: Tally, folder: Path, good: Path, gateway: Loader, *, one_file: bool) -> None:
    """Load each sample; of `one_file` of each kind of model only those in which all of that file is another."""
    for number, (name, (kind, spoil)) in enumerate(known_bad().items()):
        if one_file and not name.startswith((f"{ARRAYS} is ", f"{MODEL} is ")):
            continue
        target = folder / f"sample-{number}"
        shutil.copytree(good / kind, target)
        spoil(target)
        tally.count("samples")
        answer = gateway.load(kind, target)
        if not answer.startswith("refused"):
            tally.fail(-1, f"{name}: {answer}", "sample accepted")
        elif "RefusedFile" in answer:
            tally.count("refused by the checks")


def _try_limits(tally: Tally, folder: Path) -> None:
    """A file that needs more than twice what was declared, and a load that takes longer than it may."""
    folder.mkdir()
    write_tiny_base(folder, layers=1)
    for name, seconds, declared in (("time", 0.01, None), ("memory", 60.0, 1_000_000)):
        if name == "memory":
            _write_bomb(folder / "model.safetensors")
        try:
            try_in_child("base", folder, seconds=seconds, declared=declared)
        except RefusedFile:
            continue
        tally.fail(-1, f"the limit of {name} was not kept", "limit not kept")


def _write_bomb(path: Path) -> None:
    """Write a sound file of 600 MB of zeros that takes no room on the disk."""
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (BOMB, BOMB)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        os.truncate(path, 8 + len(header) + BOMB)
        file.seek(0, os.SEEK_END)


PROMISE = Promise(
    id="X7",
    says="A model file cannot hurt the host",
    asked="50,000 mutants per format: 0 deaths of the gateway, 0 reads outside the folder, processes or sockets; at "
    "least 40 known-bad samples and every pickle refused; a child with twice the declared memory and 60 s",
    unit="mutants of each format (safetensors, ONNX, tokenizer)",
    full=50_000,
    sample=60,
    slow=3_000,
    control=20,
    chunk=2_000,
    run=run,
    judge=judge,
    seen=seen,
)
