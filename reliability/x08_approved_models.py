"""X8: one bit is turned in a file of a served model, or in its row of the registry; the model must not be loaded.

It opens versions the way the gateway does: row, artifact by digest, then specialist, then trunk; and has a gateway find
that a row was altered under it. A sound model names its digest. It trains nothing.
"""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import msgspec
import numpy as np

from insource.answers import learn_answers
from insource.backends.encoder import EncoderEngine, TwoTierEngine
from insource.backends.linear import LinearEngine
from insource.backends.onnx import Trunks
from insource.backends.specialist import SCORE_FILE, Specialist, open_specialist, write_specialist
from insource.cli.opening import Opener
from insource.config.loading import load_bytes
from insource.errors import ArtifactDamaged, InsourceError, StoreError
from insource.gateway.parts import Parts
from insource.inputs import InputSettings
from insource.risk.scores import Scorer
from insource.store.artifacts import ArtifactStore
from insource.store.columns import micros
from insource.store.ledger import Ledger
from insource.store.recertifications import Recertified
from insource.store.registry import FILE as REGISTRY
from insource.store.registry import Registry
from insource.training.encoder_graph import build_trunk
from insource.training.tiny_encoder import write_tiny_base
from insource.types import Calibration, SpecialistVersion
from reliability.enclosed import enclosed
from reliability.harness import Promise, Tally
from reliability.load import NOON
from reliability.mutants import flip_bit
from reliability.recording import Outside, reply

LABELS = ("card", "refund", "transfer")
THRESHOLD = 0.8713
RAISED = 0.9147
"""Of the second version, whose threshold was raised after a doubt: it stands in another row."""

ROW_WAYS = ("threshold", "raised threshold", "digest", "lineage", "task", "version", "raised task", "raised version")
STORED = """
SELECT coalesce(r.calibration, v.calibration) FROM versions v LEFT JOIN recertifications r USING (task, version)
WHERE task = 'triage' AND version = ?
"""
WAYS = ("weights", "tokenizer", "thresholds", "manifest", "trunk", "head", "tiers", "trunk.json", "trunk manifest")


@dataclass(frozen=True)
class Home:
    """A home with a two-tier specialist, registered twice, its trunk, and what each way damages: a file, or a row."""

    folder: Path
    version: SpecialistVersion
    files: dict[str, Path]
    rows: dict[str, tuple[int, bytes, slice]]
    """By way: the version whose row it is, bytes of that row, and those of them of which one is altered."""


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Turn one bit for each case, in the files and rows in turn; `broken` verifies neither."""
    tally = Tally()
    home = _make(folder / "home")
    specialist = _open(home, home.folder, verify=not broken)
    tally.count("sound loads")
    if specialist.info.digest != home.version.digest:
        tally.fail(-1, f"the specialist names {specialist.info.digest}, not {home.version.digest}", "digest not named")
    for case in cases:
        _turn(tally, case, home, folder / f"turned-{case}", broken)
        _turn_row(tally, case, home, folder / f"row-{case}", broken)
    if not broken:
        await _alter_under_a_gateway(tally, home)
    return tally


def judge(tally: Tally) -> list[str]:
    """Every turned bit must be refused at load, with the one error that says so."""
    counts, found = tally.counts, []
    if counts["rows served"] or counts["rows turned"] != counts["rows refused"]:
        found.append(f"of {counts['rows turned']:,} bits turned in rows of the registry {counts['rows served']:,} "
                     f"were served and {counts['rows refused']:,} refused as damaged")  # fmt: skip
    if counts["not told by the gateway"]:
        found.append("a gateway went on with a row that was altered under it, or did not come back")
    if counts["served"] or counts["other errors"]:
        found.append(f"of {counts['turned']:,} turned bits {counts['served']:,} were served and "
                     f"{counts['other errors']:,} ended in an error of another kind")  # fmt: skip
    if counts["digest not named"]:
        found.append("a loaded specialist does not name the digest it was registered under")
    if not counts["turned"] or not counts["rows turned"] or not counts["sound loads"]:
        found.append("no bit was turned")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['refused']:,} of {counts['turned']:,} turned bits refused at load (weights, tokenizer, score, graph, "
        f"manifests); {counts['rows refused']:,} of {counts['rows turned']:,} in rows of the registry (thresholds, "
        f"digest, lineage, task, version); {counts['gateways']:,} of {counts['gateways tried']:,} requests as they "
        "should be before a row was altered under a gateway, while it was, and after"
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
    first = Calibration("strict", 0.05, 0.95, 60, THRESHOLD, 0.5, 30, 1, None, None)
    with Registry.open(folder) as registry:
        for _ in range(2):
            version = registry.register("triage", "two-tier", digest, first, {"snapshot": "5" * 64}, NOON)
        registry.promote("triage", version.version, "x8", "tried", NOON)
        raised = replace(first, threshold=RAISED)
        registry.recertify(Recertified("triage", 2, NOON, THRESHOLD, raised, 1, 1, "x8", "tried"))
    own_row, raised_row = b"triage\x02two-tier", b"triage\x02" + micros(NOON).to_bytes(8, "big")
    task_there, version_there, all_of_it = slice(6), slice(6, 7), slice(None)
    rows = {
        "threshold": (1, str(THRESHOLD).encode(), all_of_it), "raised threshold": (2, str(RAISED).encode(), all_of_it),
        "digest": (1, digest.encode(), all_of_it), "lineage": (1, b"5" * 64, all_of_it),
        "task": (2, own_row, task_there), "version": (2, own_row, version_there),
        "raised task": (2, raised_row, task_there), "raised version": (2, raised_row, version_there),
    }  # fmt: skip
    own, shared = folder / "artifacts" / digest, folder / "artifacts" / trunk
    files = {
        "weights": own / "linear.safetensors", "thresholds": own / SCORE_FILE, "head": own / "head.safetensors",
        "tiers": own / "tiers.safetensors", "manifest": own / "manifest.json", "trunk": shared / "model.onnx",
        "tokenizer": shared / "tokenizer.json", "trunk.json": shared / "trunk.json",
        "trunk manifest": shared / "manifest.json",
    }  # fmt: skip
    return Home(folder, version, files, rows)


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


def _turn_row(tally: Tally, case: int, home: Home, folder: Path, broken: bool) -> None:
    """Turn a bit of a row where it stands in the registry's file, and open the version."""
    way = ROW_WAYS[case % len(ROW_WAYS)]
    version, held, part = home.rows[way]
    folder.mkdir()
    data = bytearray((home.folder / REGISTRY).read_bytes())
    places = [at for at in range(len(data)) if data.startswith(held, at)]
    turned, bits = bytearray(held), bytearray(held[part])
    flip_bit(bits, random.Random(case))
    turned[part] = bits
    for at in places:  # of both versions, where they say the same
        data[at : at + len(held)] = turned
    (folder / REGISTRY).write_bytes(data)
    tally.count("rows turned")
    try:
        _serve_row(home, folder, version, broken)
        tally.fail(case, f"a bit turned in the {way} of the registry was served", "rows served")
    except ArtifactDamaged:
        tally.count("rows refused")
    except (InsourceError, ValueError, RuntimeError) as error:
        tally.fail(case, f"a bit turned in the {way} of a row ended in {type(error).__name__}: {error}", "other errors")
    shutil.rmtree(folder)


def _serve_row(home: Home, folder: Path, version: int, broken: bool) -> None:
    """Read a version's row and open what it names; `broken` decodes what stands there, as builds did before.

    Version 2 is active: where its row bears another name by now, nothing serves, and that must be told.
    """
    if broken:
        with closing(apsw.Connection(str(folder / REGISTRY))) as connection:
            msgspec.json.decode(connection.execute(STORED, (version,)).get or b"", type=Calibration)
        return
    with Registry.open(folder) as registry:
        found = registry.active("triage") if version == 2 else registry.get("triage", version)
        if found is None:
            told = any("is not as it was written" in flaw for flaw in registry.flaws())
            raise (ArtifactDamaged if told else StoreError)("no version is active")
    ArtifactStore(home.folder).open(found.digest)


async def _alter_under_a_gateway(tally: Tally, home: Home) -> None:
    """Lower a served version's threshold past insource: its requests go up until the row is as it was."""
    settings = f'[store]\nhome = "{home.folder}"\n[tasks.triage]\naudit_rate = 0\n[upstreams.main]\nmodel = "m"\n'
    said = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"card"},"finish_reason":"stop"}]}'
    async with Outside(lambda received, number: reply(200, said)) as outside:
        config = load_bytes(f'{settings}base_url = "{outside.base_url}"\n'.encode(), home.folder / "x8.toml", env={})
        with Ledger.open(home.folder, clock=lambda: NOON) as ledger, Registry.open(home.folder) as registry:
            async with enclosed(Parts(config, ledger, registry, Opener(config))) as gateway:
                for lower in (None, "0.9147", "0.0147"):
                    if lower is not None:
                        _write_past(home.folder, lower, "0.0147" if lower == "0.9147" else "0.9147")
                    await gateway.gateway.generation.serving.refresh()
                    body = b'{"model":"task:triage","messages":[{"role":"user","content":"where is my card"}]}'
                    replied = await gateway.ask("/v1/chat/completions", body, [("content-type", "application/json")])
                    damaged = replied.headers.get("x-insource-reason") == "artifact_damaged"
                    tally.count("gateways tried")
                    if replied.status == 200 and damaged is (lower == "0.9147"):
                        tally.count("gateways")
                    else:
                        tally.fail(-1, f"after {lower}: {replied.headers}", "not told by the gateway")


def _write_past(home: Path, old: str, new: str) -> None:
    with closing(apsw.Connection(str(home / REGISTRY))) as connection:
        connection.execute("DROP TRIGGER IF EXISTS recertifications_are_not_changed")
        connection.execute("UPDATE recertifications SET calibration = replace(calibration, ?, ?)", (old, new))


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
    open="one row of the registry that is altered or removed, a raised threshold's too, is refused when the version is "
    "read; a whole row of a version that is removed is not told, and is not served either. Whoever knows the code can "
    "write rows and their digests anew, or bring back an earlier threshold: `insource doctor` finds that by the last "
    "act of the version in the ledger, whose tree is signed; of acts older than such digests nothing can be told. A "
    "row's stage and share have no digest. That each record names the digest is tried through the gateway's promises",
)
