"""X8: one bit is turned in a file of a served model; the model must not be loaded, and a sound one names its digest.

It opens versions the way the gateway does: artifact by digest, then specialist, then trunk. It trains nothing.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from insource.answers import learn_answers
from insource.backends.encoder import EncoderEngine, TwoTierEngine
from insource.backends.linear import LinearEngine
from insource.backends.onnx import Trunks
from insource.backends.specialist import SCORE_FILE, Specialist, open_specialist, write_specialist
from insource.errors import ArtifactDamaged, InsourceError
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.store.artifacts import ArtifactStore
from insource.store.registry import FILE as REGISTRY
from insource.store.registry import Registry
from insource.training.encoder_graph import build_trunk
from insource.training.tiny_encoder import write_tiny_base
from insource.types import Calibration, SpecialistVersion
from reliability.harness import Promise, Tally
from reliability.load import NOON
from reliability.mutants import flip_bit

LABELS = ("card", "refund", "transfer")
THRESHOLD = 0.8713
WAYS = ("weights", "tokenizer", "thresholds", "manifest", "trunk", "head", "tiers", "trunk.json", "trunk manifest")


@dataclass(frozen=True)
class Home:
    """A home with one registered two-tier specialist, its trunk, and the file that each way damages."""

    folder: Path
    version: SpecialistVersion
    files: dict[str, Path]


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Turn one bit for each case, in the files in turn; `broken` opens folders without verifying them."""
    tally = Tally()
    home = _make(folder / "home")
    specialist = _open(home, home.folder, verify=not broken)
    tally.count("sound loads")
    if specialist.info.digest != home.version.digest:
        tally.fail(-1, f"the specialist names {specialist.info.digest}, not {home.version.digest}", "digest not named")
    for case in cases:
        _turn(tally, case, home, folder / f"turned-{case}", broken)
        _turn_threshold(tally, case, home, folder / f"threshold-{case}")
    return tally


def judge(tally: Tally) -> list[str]:
    """Every turned bit must be refused at load, with the one error that says so."""
    counts, found = tally.counts, []
    if counts["served"] or counts["other errors"]:
        found.append(f"of {counts['turned']:,} turned bits {counts['served']:,} were served and "
                     f"{counts['other errors']:,} ended in an error of another kind")  # fmt: skip
    if counts["digest not named"]:
        found.append("a loaded specialist does not name the digest it was registered under")
    if not counts["turned"] or not counts["sound loads"]:
        found.append("no bit was turned")
    return found


def seen(tally: Tally) -> str:
    """One line, with what became of bits turned in the registry's threshold."""
    counts = tally.counts
    return (
        f"{counts['refused']:,} of {counts['turned']:,} turned bits refused at load (weights, tokenizer, score, graph, "
        f"manifests); registry row of the threshold: {counts['threshold refused']:,} of {counts['threshold turned']:,} "
        "refused"
    )


def _make(folder: Path) -> Home:
    store = ArtifactStore(folder)
    with store.draft() as draft:
        base = write_tiny_base(folder / "base", layers=1)
        build_trunk(base, draft, "int8")
        trunk = store.commit(draft, {"kind": "trunk", "base": base.name, "base_digest": base.digest})
    with store.draft() as draft:
        loaded = Trunks(lambda digest: store.open(digest).folder).get(trunk)
        _engine(loaded).save(draft)
        probabilities = np.random.default_rng(3).dirichlet(np.ones(len(LABELS)), 60)
        scorer = Scorer.fit(probabilities, np.arange(60) % 3 == 0)
        manifest = write_specialist(
            draft, task="triage", family="two-tier", model={}, scorer=scorer, answers=learn_answers(LABELS * 20),
            inputs=InputSettings(), trunk=trunk,
        )  # fmt: skip
        digest = store.commit(draft, manifest)
    calibration = Calibration("strict", 0.05, 0.95, 60, THRESHOLD, 0.5, 30, 1, None, None)
    with Registry.open(folder) as registry:
        version = registry.register("triage", "two-tier", digest, calibration, {}, NOON)
    own, shared = folder / "artifacts" / digest, folder / "artifacts" / trunk
    files = {
        "weights": own / "linear.safetensors", "thresholds": own / SCORE_FILE, "head": own / "head.safetensors",
        "tiers": own / "tiers.safetensors", "manifest": own / "manifest.json", "trunk": shared / "model.onnx",
        "tokenizer": shared / "tokenizer.json", "trunk.json": shared / "trunk.json",
        "trunk manifest": shared / "manifest.json",
    }  # fmt: skip
    return Home(folder, version, files)


def _engine(trunk: object) -> TwoTierEngine:
    chance = np.random.default_rng(5)
    width, answers = 32, len(LABELS)
    linear = LinearEngine(
        ["card", "lost"], ["ca", "ar", "rd"], chance.uniform(1, 2, 5).astype(np.float32),
        chance.normal(size=(5, answers)).astype(np.float32), chance.normal(size=answers).astype(np.float32),
    )  # fmt: skip
    nothing = np.zeros(0, np.int32)
    encoder = EncoderEngine(
        trunk, chance.normal(size=(width, answers)).astype(np.float32), chance.normal(size=answers).astype(np.float32),  # type: ignore[arg-type]
        np.zeros((0, width), np.int8), nothing, nothing,
    )  # fmt: skip
    return TwoTierEngine(linear, encoder, 0.5, 0.9)


def _open(home: Home, folder: Path, *, verify: bool) -> Specialist:
    """Open the registered version under another home, as the gateway does; without `verify` as a broken build would."""
    store = ArtifactStore(folder)
    if verify:
        artifact, trunks = store.open(home.version.digest), Trunks(lambda digest: store.open(digest).folder)
        where, manifest = artifact.folder, artifact.manifest
    else:
        sound = ArtifactStore(home.folder)
        where, manifest = store.folder / home.version.digest, sound.open(home.version.digest).manifest
        trunks = Trunks(lambda digest: store.folder / digest)
    return open_specialist(
        where, manifest, name=home.version.name, digest=home.version.digest, trunk=lambda digest: trunks.get(digest)
    )


def _turn(tally: Tally, case: int, home: Home, folder: Path, broken: bool) -> None:
    way = WAYS[case % len(WAYS)]
    shutil.copytree(home.folder / "artifacts", folder / "artifacts")
    path = folder / home.files[way].relative_to(home.folder)
    data = bytearray(path.read_bytes())
    flip_bit(data, random.Random(case))
    path.write_bytes(data)
    tally.count("turned")
    try:
        _open(home, folder, verify=not broken).answer_text("where is my card")
        tally.fail(case, f"a bit turned in the {way} was served", "served")
    except ArtifactDamaged:
        tally.count("refused")
    except (InsourceError, ValueError, RuntimeError) as error:
        tally.fail(case, f"a bit turned in the {way} ended in {type(error).__name__}: {error}", "other errors")
    shutil.rmtree(folder)


def _turn_threshold(tally: Tally, case: int, home: Home, folder: Path) -> None:
    """Turn a bit of the threshold where it stands in the registry's file; measured, not judged."""
    folder.mkdir()
    data = bytearray((home.folder / REGISTRY).read_bytes())
    start = data.find(str(THRESHOLD).encode())
    place = start + random.Random(case).randrange(len(str(THRESHOLD)))
    data[place] ^= 1 << random.Random(case).randrange(8)
    (folder / REGISTRY).write_bytes(data)
    tally.count("threshold turned")
    try:
        with Registry.open(folder) as registry:
            registry.get("triage")
    except (InsourceError, ValueError):
        tally.count("threshold refused")
    shutil.rmtree(folder)


PROMISE = Promise(
    id="X8",
    says="Only the approved model runs",
    asked="1,000 bit flips in weights, tokenizer, thresholds, manifest: 1,000 refusals at load; the serving digest in "
    "every record",
    unit="turned bits",
    full=1_000,
    sample=45,
    slow=450,
    control=27,
    chunk=250,
    run=run,
    judge=judge,
    seen=seen,
    open="the certified threshold itself stands in a row of registry.db, which carries no digest: a bit turned there "
    "is refused only where it breaks the stored form. The share seen stands in the table and is not judged. That each "
    "record names the digest is tried through the gateway's promises",
)
