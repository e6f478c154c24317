"""Single requests: int8 beside fp32, and our engine beside a transformers pipeline on the same weights.

One thread each, text by text; the pipeline runs in the peers' environment on what `train` kept of the encoder.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.figure import Figure, part
from insource import load
from insource.answers import AnswerSpace
from insource.backends.encoder import EncoderEngine
from insource.inputs import InputSettings
from insource.store.artifacts import Artifact, ArtifactStore
from insource.store.registry import Registry
from insource.traffic import read
from insource.training.snapshot import take_snapshot
from insource.training.trunks import TrunkRoom

PEER = Path(".peers/transformers/bin/python")
TIMED, ROUNDS = 400, 5
PIPELINE = """
import json, sys, time
import torch, transformers
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
folder, labels, texts = sys.argv[1], int(sys.argv[2]), json.load(open(sys.argv[3]))
config = transformers.AutoConfig.from_pretrained(folder, num_labels=labels)
model = transformers.BertForSequenceClassification.from_pretrained(folder, config=config)
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json", model_max_length=256,
    pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", mask_token="[MASK]")
pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
for text in texts[:20]: pipe(text)
start = time.perf_counter()
for text in texts: pipe(text)
print(len(texts) / (time.perf_counter() - start))
"""


def compared(name: str, data: Path, home: Path) -> list[Figure]:
    """A version's encoder in int8 and in fp32: accuracy on the test rows, size, and time by turns."""
    room, artifact, encoder = _opened(name, home)
    texts, labels = _test(data, "banking77", artifact)
    own = room.kept(encoder)
    found = {}
    for precision in ("int8", "fp32"):
        digest = room.build(own, precision, encoder)
        engine = EncoderEngine.load(artifact.folder, room.get(digest))
        right = float((engine.probabilities_many(texts).argmax(axis=1) == labels).mean())
        found[precision] = (engine, right, ArtifactStore(home).open(digest).size_bytes)
    (int8, quick, small), (fp32, exact, large) = found["int8"], found["fp32"]
    some = texts[:TIMED]
    ratio = float(np.median(
        [_seconds(fp32.probabilities, some) / _seconds(int8.probabilities, some) for _ in range(ROUNDS)]
    ))  # fmt: skip
    lost = 100 * (exact - quick)
    return [
        Figure("int8 against fp32, points lost", f"{lost:.2f} ({quick:.2%} of {exact:.2%})", "<= 0.3", lost <= 0.3),
        Figure("int8 against fp32, size", f"{small / large:.1%} ({small / 1e6:.1f} of {large / 1e6:.1f} MB)", "<= 27 %",
               small / large <= 0.27),
        Figure("int8 against fp32, single requests", f"{ratio:.2f} times as fast", ">= 2.5", ratio >= 2.5),
    ]  # fmt: skip


def against_pipeline(name: str, data: Path, home: Path) -> list[Figure]:
    """Requests a second of a version, and of a transformers pipeline on the weights it keeps."""
    what, reach = "against a transformers pipeline, one thread, requests a second", ">= 6 times"
    if not PEER.exists():
        return [Figure(what, "transformers is not installed: scripts/peers", reach, False)]
    room, artifact, encoder = _opened(name, home)
    texts, _ = _test(data, "banking77", artifact)
    engine = EncoderEngine.load(artifact.folder, room.get(artifact.manifest["trunk"]))
    asked = home / "single-requests.json"
    asked.write_text(json.dumps(texts[:TIMED]))
    command = [
        PEER,
        "-c",
        PIPELINE,
        room.kept(encoder).folder,
        str(len(artifact.manifest["answers"]["answers"])),
        asked,
    ]
    ours, theirs = [], []
    for _ in range(3):
        ours.append(TIMED / _seconds(engine.probabilities, texts[:TIMED]))
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        theirs.append(float(done.stdout.split()[-1]))
    ratio = float(np.median(np.array(ours) / np.array(theirs)))
    told = f"{ratio:.1f} times ({np.median(ours):.0f} and {np.median(theirs):.0f})"
    return [Figure(what, told, reach, ratio >= 6)]


def texts_a_second(name: str, data: Path, home: Path) -> float:
    """Texts a second of a version on one core, many at once; the median of five rounds over the test rows."""
    loaded = load(name, home=home)
    texts = [str(each.request.messages[-1].content) for each in read(part(data, "banking77", "test")).examples]
    with threadpool_limits(1):
        seconds = [_seconds(loaded.many, [texts]) for _ in range(ROUNDS)]
    return len(texts) / float(np.median(seconds))


def _opened(name: str, home: Path) -> tuple[TrunkRoom, Artifact, str]:
    """Return where trunks are built, the version's artifact, and the digest of the encoder it was tuned to."""
    artifacts = ArtifactStore(home)
    with Registry.open(home) as registry:
        task, _, version = name.partition("@")
        artifact = artifacts.open(registry.get(task, int(version)).digest)
    return (
        TrunkRoom(home, artifacts, lambda _: lambda done, total: None),
        artifact,
        artifact.manifest["model"]["encoder"],
    )


def _test(data: Path, name: str, artifact: Artifact) -> tuple[list[str], NDArray[np.intp]]:
    """Return the texts of a set's test rows and the numbers of their answers."""
    snapshot = take_snapshot(
        read(part(data, name, "test")).examples,
        InputSettings.from_json(artifact.manifest["inputs"]),
        answers=AnswerSpace.from_json(artifact.manifest["answers"]),
    )
    return list(snapshot.texts), snapshot.classes


def _seconds(ask: Callable[[Any], object], texts: list[Any]) -> float:
    start = time.perf_counter()
    for text in texts:
        ask(text)
    return time.perf_counter() - start
