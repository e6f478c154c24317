"""Tuning an encoder and its head on labelled rows: AdamW, a linear schedule, the last epoch that is not worse kept.

It knows tokens, classes and arrays; not texts, artifacts or thresholds. It imports torch, and is imported only where
something is tuned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insource.backends.onnx import default_threads
from insource.errors import TrainingFailed
from insource.training.architectures import WORDS
from insource.training.encoder_weights import EncoderShape, Weights
from insource.training.precision import is_worse
from insource.training.students.contract import Classes, Rows
from insource.training.students.heads import Heads
from insource.training.tuning.batches import Batch, Tokenised
from insource.training.tuning.checkpoint import Checkpoint
from insource.training.tuning.network import Network
from insource.training.tuning.settings import Settings

AT_ONCE = 64
CLIP = 1.0
BETAS = (0.9, 0.98)
SMALL = 0.02
WEIGHTS, BIAS, RIGHT = "head.weights", "head.bias", "right"

Vectors = NDArray[np.float32]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What to learn: rows of `tokens` with `classes` int (n,), -1 where none is known, `n_classes` of them.

    `learn` and `stop` are row numbers: the one to tune on, the other to tell the best epoch by. `soft` float32
    (n, n_classes) are a teacher's probabilities, and `hidden` float32 (n, D) its embeddings where they are as long as
    the encoder's own. With `heads`, an answer's logit is the sum of its values' logits. `weights` float32
    (n_classes,) are what a row of each answer weighs in the loss.
    """

    tokens: Tokenised
    classes: Classes
    n_classes: int
    learn: Rows
    stop: Rows
    soft: Vectors | None = None
    hidden: Vectors | None = None
    heads: Heads | None = None
    weights: Vectors | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch came to: the mean loss over its batches, and the accuracy on the rows that tell when to stop."""

    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """The encoder's tensors by name, its head (D, K) and (K,), what each epoch came to, and which was kept."""

    tensors: dict[str, Vectors]
    weights: Vectors
    bias: Vectors
    epochs: tuple[Epoch, ...]
    kept: int


class Head(nn.Module):
    """Logits of embeddings of length one, which are scaled so that small weights can tell them apart."""

    def __init__(self, dimension: int, n_classes: int, scale: float, heads: Heads | None = None) -> None:
        super().__init__()
        self.scale, self.heads = scale, heads
        self.answers = nn.Linear(dimension, n_classes if heads is None else sum(heads.sizes))
        self.folds = None if heads is None else torch.from_numpy(heads.incidence)
        nn.init.normal_(self.answers.weight, std=SMALL)
        nn.init.zeros_(self.answers.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return logits, float (texts, K)."""
        logits: Tensor = self.answers(embeddings * self.scale)
        return logits if self.folds is None else logits @ self.folds

    def arrays(self) -> dict[str, Vectors]:
        """Return the weights (D, K) and the bias (K,) for embeddings as they are."""
        weights, bias = self.answers.weight.detach().numpy(), self.answers.bias.detach().numpy()
        head = np.ascontiguousarray(weights.T * np.float32(self.scale)), bias.copy()
        return dict(zip((WEIGHTS, BIAS), head if self.heads is None else self.heads.fold(head), strict=True))


class Tuning:
    """One tuning: the network, its head, the optimiser, and where it stands; `run` goes on from its checkpoint.

    The last epoch is kept, unless it is significantly worse than one before on the rows that tell when to stop: on a
    few hundred of them the best of several epochs is mostly luck.

    An epoch depends on the seed, its number and what was learned before it alone, so that a run that was killed and
    goes on ends with the same numbers. Uses two threads, or one where the process has a single core.
    """

    def __init__(
        self, weights: Weights, shape: EncoderShape, pooling: str, max_tokens: int, settings: Settings
    ) -> None:
        torch.set_num_threads(min(default_threads(), torch.get_num_threads()))  # which heeds OMP_NUM_THREADS
        torch.use_deterministic_algorithms(True)  # else two threads add what an index gathers in any order
        # filling fresh memory as well would cost a twentieth, and nothing reads it
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.settings = settings
        self.network = Network(weights, shape, pooling=pooling, max_tokens=max_tokens, dropout=settings.dropout)

    def run(self, lesson: Lesson, checkpoint: Checkpoint, progress: Progress | None = None) -> Tuned:
        """Tune, from the checkpoint on if it holds one; `progress` gets batches done and their number.

        Raises TrainingFailed where the loss is not a number.
        """
        torch.manual_seed(self.settings.seed)
        head = Head(self.network.shape.hidden, lesson.n_classes, self.settings.scale, lesson.heads)
        optimiser = self._optimiser(head)
        modules = nn.ModuleDict({"network": self.network, "head": head})
        standing = checkpoint.restore(modules, optimiser)
        epochs = [Epoch(**each) for each in standing.told["epochs"]] if standing else []
        best = standing.best if standing else {}
        kept = standing.told["kept"] if standing else 0
        most = self.settings.epochs_of(len(lesson.learn))
        for number in range(len(epochs), most):
            self.network.seed(self.settings.seed, number)
            loss = self._epoch(lesson, head, optimiser, number, most, progress)
            right = self._right(lesson, head)
            epochs.append(Epoch(loss, float(right.mean()) if len(right) else 0.0))
            if not best or not is_worse(right, best[RIGHT].astype(np.bool_)):
                best, kept = self.network.tensors() | head.arrays() | {RIGHT: right.astype(np.float32)}, number
                del best[WORDS]  # which is as it was
            checkpoint.save(modules, optimiser, {"epochs": [asdict(each) for each in epochs], "kept": kept}, best)
        del best[RIGHT]
        weights, bias = best.pop(WEIGHTS), best.pop(BIAS)
        return Tuned(best | {WORDS: self.network.words.numpy()}, weights, bias, tuple(epochs), kept)

    def _epoch(
        self, lesson: Lesson, head: Head, optimiser: torch.optim.Optimizer, number: int, most: int,
        progress: Progress | None,
    ) -> float:  # fmt: skip
        self.network.train()
        generator = np.random.default_rng((self.settings.seed, number))
        batches = lesson.tokens.epoch(lesson.learn, self.settings.batch, generator)
        total, steps = 0.0, most * len(batches)
        for done, rows in enumerate(batches):
            step = number * len(batches) + done
            share = self.settings.share_at(step, steps)
            for group in optimiser.param_groups:
                group["lr"] = group["most"] * share
            loss = self._loss(lesson, lesson.tokens.batch(rows), head)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingFailed(
                    f"The loss is {value} at batch {done + 1:,} of epoch {number + 1}; a number was expected. Tune "
                    f"with a lower --rate than {self.settings.rate:g}, or another --base."
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([each for group in optimiser.param_groups for each in group["params"]], CLIP)
            optimiser.step()
            total += value
            if progress:
                progress(step + 1, steps)
        return total / len(batches)

    def _loss(self, lesson: Lesson, batch: Batch, head: Head) -> Tensor:
        """Cross-entropy with the references, and with a teacher's probabilities and embeddings where there are any."""
        embeddings = self.network(batch)
        logits = head(embeddings)
        classes = torch.from_numpy(lesson.classes[batch.rows])
        known = bool((classes >= 0).any())
        hard = _cross_entropy(logits, classes, self.settings.smoothing, lesson.weights) if known else 0.0
        if lesson.soft is None:
            return torch.as_tensor(hard)
        soft = _warm(torch.from_numpy(lesson.soft[batch.rows]), self.settings.temperature)
        cool = functional.log_softmax(logits / self.settings.temperature, dim=-1)
        taught = -(soft * cool).sum(dim=-1).mean() * self.settings.temperature**2
        if lesson.hidden is not None:
            near = (embeddings * torch.from_numpy(lesson.hidden[batch.rows])).sum(dim=-1).mean()
            taught = taught - self.settings.hidden * near
        return self.settings.taught * taught + (1.0 - self.settings.taught) * hard

    def _right(self, lesson: Lesson, head: Head) -> NDArray[np.bool_]:
        """Return which of the rows that tell when to stop are answered rightly, the shortest text first."""
        self.network.eval()
        right = [np.zeros(0, np.bool_)]
        with torch.inference_mode():
            for rows in lesson.tokens.in_order(lesson.stop, AT_ONCE):
                said = head(self.network(lesson.tokens.batch(rows))).argmax(dim=-1).numpy()
                right.append(said == lesson.classes[rows])
        return np.concatenate(right)

    def _optimiser(self, head: Head) -> torch.optim.Optimizer:
        """AdamW; what is no matrix does not decay (Loshchilov and Hutter, ICLR 2019)."""
        own = [each for each in self.network.parameters() if each.requires_grad]
        told = [
            ([each for each in own if each.ndim > 1], self.settings.rate, self.settings.decay),
            ([each for each in own if each.ndim < 2], self.settings.rate, 0.0),
            (list(head.parameters()), self.settings.head_rate, 0.0),
        ]
        groups = [{"params": each, "lr": rate, "most": rate, "weight_decay": decay} for each, rate, decay in told]
        return torch.optim.AdamW(groups, betas=BETAS, fused=True)


def _cross_entropy(logits: Tensor, classes: Tensor, smoothing: float, weights: Vectors | None) -> Tensor:
    """Return the mean over rows with a class; with `weights`, of each row's smoothed loss times its answer's weight.

    The smoothed loss is weighed as a whole: an adjustment of the logits could not get past what smoothing leaves.
    """
    if weights is None:
        return functional.cross_entropy(logits, classes, ignore_index=-1, label_smoothing=smoothing)
    known = classes >= 0
    losses = functional.cross_entropy(logits[known], classes[known], label_smoothing=smoothing, reduction="none")
    return (losses * torch.from_numpy(weights)[classes[known]]).mean()


def _warm(probabilities: Tensor, temperature: float) -> Tensor:
    """Return probabilities at a temperature (Hinton, Vinyals and Dean 2015)."""
    return functional.softmax(torch.log(probabilities.clamp_min(1e-9)) / temperature, dim=-1)
