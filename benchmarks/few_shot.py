"""Ten rows an answer of banking77: accuracy on the official test rows and seconds, beside SetFit on the same encoder.

SetFit (Tunstall et al. 2022) runs in the peers' environment as its paper has it: 20 pairs of either kind for each row,
batches of 16, one epoch, a logistic regression on top. It is kept under --home/few-shot, as it takes many minutes.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figure import Figure, insource, part
from insource.store.artifacts import ArtifactStore
from insource.traffic import read
from insource.training.base_models import DEFAULT_ENCODER
from insource.training.trunks import TrunkRoom

SET, EACH, SEED = "banking77", 10, 0
MOST_SECONDS, FASTER = 180.0, 3.0
PEER = Path(".peers/transformers/bin/python")
SETFIT = """
import json, sys, time
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression
folder, (train, test) = sys.argv[1], (json.load(open(path)) for path in sys.argv[2:4])
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
    folder = home / "few-shot"
    folder.mkdir(parents=True, exist_ok=True)
    train, test = _sample(data), _rows(part(data, SET, "test"))
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in train))
    made, seconds = insource(home, "train", file, "--task", "few-shot", "--family", "encoder-frozen", "--no-certify")
    measured, _ = insource(home, "evaluate", f"few-shot@{made['version']}", part(data, SET, "test"))
    accuracy, name = measured["accuracy"], f"{SET}, {EACH} rows an answer"
    figures = [Figure(name, f"{accuracy:.2%} in {seconds:.0f} s", ">= 84 % in <= 180 s",
                      accuracy >= 0.84 and seconds <= MOST_SECONDS)]  # fmt: skip
    if not PEER.exists():
        return [*figures, Figure(f"{name}, SetFit", "not installed: scripts/peers", "beside it", False)]
    peer = setfit(train, test, folder, home)
    better, faster = 100 * (accuracy - peer["accuracy"]), peer["seconds"] / seconds
    theirs = f"SetFit {peer['accuracy']:.2%} in {peer['seconds']:.0f} s"
    told = f"{better:+.2f} points ({theirs}), {faster:.1f} times as fast"
    return [*figures, Figure(f"{name}, against SetFit", told, "not worse, >= 3 times as fast",
                             better >= 0 and faster >= FASTER)]  # fmt: skip


def setfit(train: list[dict[str, str]], test: list[dict[str, str]], folder: Path, home: Path) -> dict[str, Any]:
    """Return SetFit's accuracy on the test rows and the seconds of its training, kept or new."""
    kept = folder / "setfit.json"
    if not kept.exists():
        base = TrunkRoom(home, ArtifactStore(home), lambda _: lambda done, total: None).base(DEFAULT_ENCODER)
        for rows, file in ((train, folder / "train.json"), (test, folder / "test.json")):
            file.write_text(json.dumps(rows))
        found = folder / "setfit.new"
        told = (base.folder, folder / "train.json", folder / "test.json", folder / "setfit", found)
        subprocess.run([str(PEER), "-c", SETFIT, *map(str, told)], check=True, stdout=subprocess.DEVNULL)
        found.replace(kept)
    return dict(json.loads(kept.read_text()))


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
