"""A version as a folder that runs without insource: in Python, and in a browser with the network cut.

The folder appears whole or not at all, and only after its own runner, in a process of its own, gave the answers and
scores that serving gives. It knows artifacts and folders; what the files hold is `exporting`'s business.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insource.backends.onnx import Trunks
from insource.backends.specialist import Specialist, open_specialist
from insource.errors import ArtifactDamaged
from insource.store.artifacts import ArtifactStore
from insource.training.exporting.appearing import check_free, write_folder
from insource.training.exporting.card import card, needed, readme
from insource.training.exporting.contents import CARD_FILE, RUNNER_FILE, Contents, check_family, seal
from insource.training.trunks import Say
from insource.types import SpecialistVersion

LARGEST_DIFFERENCE = 1e-5
"""By how much a score of the exported folder may differ from the one that serving gives."""

PROBES = (
    "",
    " ",
    "a",
    "Where is my card?",
    "İstanbul'da Straße, ΑΣ ΟΔΟΣ; naïve café — “quoted” … 50 %",
    "你好，世界 の カード",
    "🙂👍🏽 emoji\u200d\u00ad\ufeff",
    "[CLS] [SEP] [MASK] [UNK]",
    "tab\tline\nbreak\x1c\x85end\x00",
    "lone \ud800 surrogate",
    "no word of it " * 2_000,
    "x" * 300,
)
MOST_PROBES = 60


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the folder, its files with their bytes, and how far its runner was off on so many texts.

    `packages` are what run.py needs besides Python.
    """

    version: SpecialistVersion
    folder: Path
    files: dict[str, int]
    checked: int
    difference: float
    licence: str | None
    packages: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """The length of all files."""
        return sum(self.files.values())


def export(
    version: SpecialistVersion,
    folder: Path,
    *,
    artifacts: ArtifactStore,
    runtime: Callable[[], Path] | None,
    say: Say,
) -> Exported:
    """Write a version into `folder`, which must not exist yet or be empty.

    `runtime` gives the folder with onnxruntime-web's files; without it there is no page, and where the page needs none
    it is not called. Raises UserError where the folder is taken or cannot be written, or where the version cannot be
    carried over, ArtifactDamaged where its bytes are not those registered or the written folder answers otherwise than
    they do, and what `runtime` raises.
    """
    check_family(version.family)
    check_free(folder)
    busy = say(f"exporting {version.name}")
    busy(0, 4)
    artifact = artifacts.open(version.digest)
    trunks = Trunks(lambda digest: artifacts.open(digest).folder)
    specialist = open_specialist(
        artifact.folder, artifact.manifest, name=version.name, digest=version.digest, trunk=trunks.get
    )
    busy(1, 4)
    contents = Contents(artifact.folder, artifact.manifest, lambda digest: artifacts.open(digest).folder)
    named = artifact.manifest["trunk"]
    trunk = artifacts.open(named).manifest if named is not None else None
    told = {**card(version, specialist.answers, specialist.inputs.to_json(), trunk), **contents.reading}
    files = dict(contents.files)
    if runtime is not None:
        files |= contents.page(runtime)
    files["README.md"] = readme(told, files).encode()
    busy(2, 4)

    def check(draft: Path) -> float:
        busy(3, 4)
        return check_runner(draft, specialist)

    difference = write_folder(folder, {**files, CARD_FILE: seal(told, files)}, check)
    busy(4, 4)
    sizes = {each.name: each.stat().st_size for each in sorted(folder.iterdir())}
    licence = told["base"]["licence"] if told["base"] else None
    return Exported(version, folder, sizes, len(probes(specialist)), difference, licence, needed(told))


def probes(specialist: Specialist) -> list[str]:
    """Return texts that try the whole way of a text: awkward characters, templates, the specialist's own answers."""
    filled = [" slot ".join(fixed) for fixed in specialist.inputs.templates]
    return [*PROBES, *filled, *specialist.answers.answers][:MOST_PROBES]


def check_runner(folder: Path, specialist: Specialist) -> float:
    """Return the largest difference between the folder's scores and the specialist's, on `probes`.

    Raises ArtifactDamaged where its runner fails, gives another answer, or a score that differs by more than 1e-5.
    """
    texts = probes(specialist)
    said = _run(folder, texts)
    read = [specialist.inputs.text_of_user(text) for text in texts]
    largest = 0.0
    for text, told, (label, score) in zip(
        texts, said, specialist.answer_texts([each or "" for each in read]), strict=True
    ):
        largest = max(largest, abs(told["score"] - score))
        if told["label"] != label or not abs(told["score"] - score) <= LARGEST_DIFFERENCE:
            raise ArtifactDamaged(
                f"The exported folder answers {text[:40]!r} with {told['label']!r} (score {told['score']!r}), the "
                f"specialist with {label!r} (score {score!r}); the same was expected. Nothing was exported: please "
                "report this with the version's family and base model."
            )
    return largest


def _run(folder: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the folder's own runner says of texts, in a process that knows nothing else."""
    code = f"import json, runpy, sys; run = runpy.run_path({RUNNER_FILE!r}); "
    code += "print(json.dumps([run['answer'](text) for text in json.load(sys.stdin)]))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=folder,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ArtifactDamaged(f"The exported folder's {RUNNER_FILE} failed; it said: {said} Nothing was exported.")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
