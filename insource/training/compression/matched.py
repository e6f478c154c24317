"""The head of a tuned encoder made smaller: fitted to say what the source's head says, not to the answers again.

A tuned encoder has its rows' answers in its weights: a head fitted to them there, or cross-fitted over them, would be
too sure of itself. It knows arrays and trunks; what comes out is certified on rows that neither has seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from insource.backends.encoder import FEWER_NEIGHBOURS, FILE
from insource.backends.model_files import read_arrays
from insource.backends.specialist import SCORE_FILE
from insource.risk.scores import Scorer
from insource.training.compression.smaller import Smaller
from insource.training.compression.sources import TUNED, Source
from insource.training.develop import NOTHING_CERTIFIED, Developed
from insource.training.students.encoder_frozen import EncoderFrozenStudent
from insource.training.trunks import TrunkRoom

HOLD = 1e-3

Vectors = NDArray[np.float32]


def develop_matched(source: Source, smaller: Smaller, room: TrunkRoom) -> Developed:
    """Return a tuned version's head on a smaller encoder, with the source's own score: nothing of it is certified yet.

    A row that was tuned on counts as rightly accepted, as what the version says of it tells nothing.
    """
    learn, snapshot = source.split.learn, source.snapshot
    texts, references = [snapshot.texts[i] for i in learn], snapshot.classes[learn]
    head = read_arrays(source.artifact.folder / FILE)
    said = room.embedder(source.trunk)(texts, None) @ head["weights"] + head["bias"]
    embed = room.embedder(smaller.trunk)
    embeddings = embed(texts, None)
    weights, bias = match(embeddings, said)
    rows = np.linspace(0, len(learn) - 1, min(len(learn), FEWER_NEIGHBOURS)).astype(np.intp)
    student = EncoderFrozenStudent(room.get(smaller.trunk), embed)
    student.take(embeddings, rows, references[rows], weights, bias)
    student.neighbours_ = student.neighbours_[0], learn[rows].astype(np.int32), student.neighbours_[2]
    return Developed(
        family=TUNED,
        student=student,
        scorer=Scorer.from_arrays(read_arrays(source.artifact.folder / SCORE_FILE)),
        probabilities=np.eye(len(snapshot.answers))[references],
        scores=np.ones(len(learn)),
        wrong=np.zeros(len(learn), np.bool_),
        accuracy=float("nan"),
        calibration=NOTHING_CERTIFIED,
        trunk=smaller.trunk,
        precision=smaller.precision,
        why=f"the head of {source.version.name}, fitted to a smaller encoder",
    )


def match(embeddings: Vectors, said: Vectors) -> tuple[Vectors, Vectors]:
    """Return weights (D, K) and bias (K,) whose products with `embeddings` (n, D) come nearest to `said` (n, K).

    Ridge regression with the bias free.
    """
    centre, mean = embeddings.mean(axis=0), said.mean(axis=0)
    shifted = (embeddings - centre).astype(np.float64)
    gram = shifted.T @ shifted
    gram += HOLD * (float(np.trace(gram)) / len(gram) or 1.0) * np.eye(len(gram))
    weights: Vectors = np.linalg.solve(gram, shifted.T @ (said - mean)).astype(np.float32)
    return weights, (mean - centre @ weights).astype(np.float32)
