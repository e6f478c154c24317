"""Ten rows an answer of banking77: accuracy on the official test rows and seconds, beside SetFit on the same encoder.

SetFit (Tunstall et al. 2022) runs in the peers' environment as its paper has it: 20 pairs of either kind for each row,
batches of 16, one epoch, a logistic regression on top. It is kept under --home/few-shot, as it takes many minutes; the
two are compared by the processor's seconds, ours with all that the command does.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import numpy as np

from benchmarks.figure import Figure, insource, part
from benchmarks.single_requests import PEER
from insource.store.artifacts import ArtifactStore
from insource.traffic import read
from insource.training.base_models import DEFAULT_ENCODER
from insource.training.trunks import TrunkRoom

SET, EACH, SEED = "banking77", 10, 0
MOST_SECONDS, FASTER = 180.0, 3.0
SETFIT = """
import json, sys, time
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression
folder, (train, test) = sys.argv[1], ([json.loads(line) for line in open(path)] for path in sys.argv[2:4])
labels = sorted({row["label"] for row in train})
rows = Dataset.from_dict({"text": [row["text"] for row in train], "label": [labels.index(r["label"]) for r in train]})
model = SetFitModel(model_body=SentenceTransformer(folder, device="cpu"), model_head=LogisticRegression(max_iter=1000))
told = TrainingArguments(batch_size=16, num_epochs=1, num_iterations=20, seed=0, report_to="none", save_strategy="no",
                         logging_strategy="no", output_dir=sys.argv[4])
start = time.perf_counter(), time.process_time()
Trainer(model=model, args=told, train_dataset=rows).train()
seconds, processor = time.perf_counter() - start[0], time.process_time() - start[1]
said = model.predict([row["text"] for row in test])
right = sum(labels[int(k)] == row["label"] for k, row in zip(said, test)) / len(test)
json.dump({"accuracy": right, "seconds": seconds, "processor_seconds": processor}, open(sys.argv[5], "w"))
"""


def few_rows(data: Path, home: Path) -> list[Figure]:
    """Return our figure, and SetFit's beside it."""
    train, test = home / "few-shot" / "train.jsonl", home / "few-shot" / "test.jsonl"
    train.parent.mkdir(parents=True, exist_ok=True)
    for rows, file in ((_sample(data), train), (_rows(part(data, SET, "test")), test)):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = _processor_seconds()
    made, seconds = insource(home, "train", train, "--task", "few-shot", "--family", "encoder-frozen", "--no-certify")
    processor = _processor_seconds() - before
    measured, _ = insource(home, "evaluate", f"few-shot@{made['version']}", part(data, SET, "test"))
    accuracy, name = measured["accuracy"], f"{SET}, {EACH} rows an answer"
    told = f"{accuracy:.2%} in {seconds:.0f} s ({processor:.0f} s of the processor)"
    figures = [Figure(name, told, ">= 84 % in <= 180 s", accuracy >= 0.84 and seconds <= MOST_SECONDS)]
    if not PEER.exists():
        return [*figures, Figure(f"{name}, SetFit", "not installed: scripts/peers", "beside it", False)]
    peer = setfit(train, test, home)
    better, faster = 100 * (accuracy - peer["accuracy"]), peer["processor_seconds"] / processor
    theirs = f"SetFit {peer['accuracy']:.2%} in {peer['processor_seconds']:.0f} s of the processor"
    told = f"{better:+.2f} points ({theirs}), {faster:.1f} times as fast by the processor's seconds"
    return [*figures, Figure(f"{name}, against SetFit", told, "not worse, >= 3 times as fast",
                             better >= 0 and faster >= FASTER)]  # fmt: skip


def setfit(train: Path, test: Path, home: Path) -> dict[str, Any]:
    """Return SetFit's accuracy on the test rows and the seconds of its training, of the clock and of the processor.

    They are new, or were kept for the same rows, encoder and script.
    """
    told = hashlib.sha256(json.dumps([SET, EACH, SEED, DEFAULT_ENCODER, SETFIT]).encode()).hexdigest()[:16]
    kept = train.with_name(f"setfit-{told}.json")
    if not kept.exists():
        base = TrunkRoom(home, ArtifactStore(home), lambda _: lambda done, total: None).base(DEFAULT_ENCODER)
        found = kept.with_suffix(".new")
        named = (base.folder, train, test, train.with_name("setfit"), found)
        subprocess.run([str(PEER), "-c", SETFIT, *map(str, named)], check=True, stdout=subprocess.DEVNULL)
        found.replace(kept)
    return dict(json.loads(kept.read_text()))


def _processor_seconds() -> float:
    """Return what all processes that were started and waited for have taken of the processor."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sample(data: Path) -> list[dict[str, str]]:
    """Return the first so many rows of each answer, in a random order with a fixed seed."""
    rows = _rows(part(data, SET, "train"))
    taken: dict[str, int] = {}
    found = []
    for number in np.random.default_rng(SEED).permutation(len(rows)):
        row = rows[number]
        if taken.get(row["label"], 0) < EACH:
            found.append(row)
            taken[row["label"]] = taken.get(row["label"], 0) + 1
    return found


def _rows(file: Path) -> list[dict[str, str]]:
    return [{"text": str(each.request.messages[-1].content), "label": str(each.answer)} for each in read(file).examples]
