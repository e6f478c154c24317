"""The frozen encoder ("trunk") that specialists share: text in, embedding out, through ONNX Runtime.

The only file that imports onnxruntime and tokenizers. It knows no task, no head and no registry. A text is always
embedded by itself, one run for each: the same numbers whether it comes alone or in a list, in training or serving.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insource.backends.model_files import read_onnx, read_text, read_tokenizer
from insource.errors import ArtifactDamaged

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
INFO_FILE = "trunk.json"
CHARACTERS_PER_TOKEN = 20
TINY = 1e-12
CHUNK = 32
MOST_TOKENS = 65_536
LARGEST_DIMENSION = 65_536
MOST_WINDOWS = 64
OVERLAP = 8
"""Two neighbouring windows share this part of their tokens: one in eight."""

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class TrunkInfo:
    """What trunk.json says: the base model by name and digest of its weights, and how texts become vectors.

    An embedding consists of `blocks` of equal length, read after different layers; the last is the sentence embedding.
    A text of more than `max_tokens` is read in up to `windows` windows of so many, one after the other.
    """

    base: str
    base_digest: str
    precision: str
    dimension: int
    max_tokens: int
    pooling: str
    normalise: bool
    builder: int
    blocks: int = 1
    windows: int = 1

    def to_json(self) -> str:
        """The text of trunk.json; of a single window it says nothing, so that older digests stand."""
        told = {name: value for name, value in asdict(self).items() if name != "windows" or value != 1}
        return json.dumps(told, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read trunk.json; raise OSError, ValueError or TypeError where it is missing or not of this form."""
        info = cls(**json.loads(read_text(path)))
        if type(info.dimension) is not int or not 0 < info.dimension <= LARGEST_DIMENSION:
            raise ValueError(f"dimension is {info.dimension!r}; 1 to {LARGEST_DIMENSION:,} was expected")
        if type(info.max_tokens) is not int or not 3 <= info.max_tokens <= MOST_TOKENS:
            raise ValueError(f"max_tokens is {info.max_tokens!r}; 3 to {MOST_TOKENS:,} was expected")
        if type(info.blocks) is not int or info.blocks < 1 or info.dimension % info.blocks:
            raise ValueError(f"blocks is {info.blocks!r}; a divisor of the dimension ({info.dimension}) was expected")
        if type(info.windows) is not int or not 0 < info.windows <= MOST_WINDOWS:
            raise ValueError(f"windows is {info.windows!r}; 1 to {MOST_WINDOWS} was expected")
        return info


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the encoder sees of a text; `truncated` says that the text went on after it."""

    ids: tuple[int, ...]
    truncated: bool


class Reader:
    """Turns texts into token ids, at most `max_tokens` of each, special ones included."""

    def __init__(self, path: Path, max_tokens: int, *, links: bool = False) -> None:
        """Open a tokenizer.json; what it says of padding and truncation does not count; `links` as for that.

        Raises what `read_tokenizer` raises, or what the tokenizers package does.
        """
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(read_tokenizer(path, links=links))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, stride=max_tokens // OVERLAP)
        self._limit = max_tokens * CHARACTERS_PER_TOKEN

    @property
    def words(self) -> int:
        """The number of rows that its words need in a table; several words may share one."""
        return int(max(self._tokenizer.get_vocab().values())) + 1

    def tokens(self, text: str) -> Tokens:
        """The token ids that stand for a text, the rest cut off.

        Only the first max_tokens * 20 characters are read at all (a wordpiece is shorter), so that a text of many
        megabytes costs no more than one page. Characters that UTF-8 cannot carry become "?".
        """
        readable = text[: self._limit].encode("utf-8", "replace").decode("utf-8")
        encoding = self._tokenizer.encode(readable)
        return Tokens(tuple(encoding.ids), len(text) > self._limit or bool(encoding.overflowing))

    def windows(self, text: str, most: int) -> list[tuple[int, ...]]:
        """The token ids of up to `most` windows over a text, special ones included: each is full but for the last.

        The first is what `tokens` gives; so many characters are read for each.
        """
        readable = text[: most * self._limit].encode("utf-8", "replace").decode("utf-8")
        encoding = self._tokenizer.encode(readable)
        return [tuple(each.ids) for each in (encoding, *encoding.overflowing[: most - 1])]


class Trunk:
    """A loaded encoder; safe to use from several threads, each run computing on the thread that called it."""

    def __init__(self, info: TrunkInfo, reader: Reader, session: Any) -> None:
        self.info = info
        self._reader = reader
        self._session = session

    @classmethod
    def load(cls, folder: Path) -> Trunk:
        """Load the trunk that lies in `folder` and try it once.

        Raises ArtifactDamaged where a file is missing, unreadable, refers to data outside it, or where model,
        tokenizer and trunk.json do not fit each other.
        """
        try:
            info = TrunkInfo.read(folder / INFO_FILE)
            trunk = cls(info, Reader(folder / TOKENIZER_FILE, info.max_tokens), _open_session(folder / MODEL_FILE))
            trunk._try_once()
        except (MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # onnxruntime and tokenizers share no class, and a panic in Rust is no Exception
            raise ArtifactDamaged(
                f"The trunk in {folder} cannot be loaded ({type(error).__name__}: {error}); expected {MODEL_FILE}, "
                f"{TOKENIZER_FILE} and {INFO_FILE} that fit each other. Build it again with `insource train`."
            ) from error
        return trunk

    @property
    def dimension(self) -> int:
        """The length of an embedding."""
        return self.info.dimension

    @property
    def blocks(self) -> int:
        """How many blocks of equal length an embedding has."""
        return self.info.blocks

    def tokens(self, text: str) -> Tokens:
        """The token ids that stand for a text: as `Reader.tokens` gives them."""
        return self._reader.tokens(text)

    def embed_one(self, text: str) -> Vectors:
        """The embedding of one text, float32 of shape (dimension,); an empty text has one too."""
        windows = self.windows(text, self.info.windows)
        return self._run(windows[0]) if len(windows) == 1 else self._pooled(windows)

    def windows(self, text: str, most: int) -> list[tuple[int, ...]]:
        """The token ids of up to `most` windows over a text: as `Reader.windows` gives them."""
        return self._reader.windows(text, most)

    @property
    def sentence_dimension(self) -> int:
        """The length of a sentence embedding."""
        return self.dimension // self.blocks

    def sentence_one(self, text: str) -> Vectors:
        """The base model's own sentence embedding of a text: the last block, float32 (sentence_dimension,)."""
        return self.embed_one(text)[-self.sentence_dimension :]

    def embed(self, texts: Sequence[str], *, threads: int | None = None, progress: Progress | None = None) -> Vectors:
        """The embeddings of texts, float32 of shape (len(texts), dimension); row i equals embed_one(texts[i]) exactly.

        Works on `threads` threads, by default two, or one where the process has a single core. `progress` is called
        with the texts done and their number.
        """
        rows = np.empty((len(texts), self.dimension), np.float32)
        lock, done = threading.Lock(), 0

        def fill(start: int) -> None:
            nonlocal done
            stop = min(start + CHUNK, len(texts))
            for index in range(start, stop):
                rows[index] = self.embed_one(texts[index])
            if progress is not None:
                with lock:
                    done += stop - start
                    progress(done, len(texts))

        starts = range(0, len(texts), CHUNK)
        with ThreadPoolExecutor(threads or default_threads(), thread_name_prefix="trunk") as pool:
            try:
                for _ in pool.map(fill, starts):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return rows

    def _run(self, ids: Sequence[int]) -> Vectors:
        (rows,) = self._session.run(None, {"input_ids": np.array([ids], np.int32)})
        row: Vectors = rows[0]
        return row

    def _pooled(self, windows: Sequence[Sequence[int]]) -> Vectors:
        """The mean of the windows' embeddings, each weighed by its tokens, every block brought back to its length."""
        rows = np.stack([self._run(ids) for ids in windows]).reshape(len(windows), self.blocks, -1)
        weights = np.array([len(ids) for ids in windows], np.float32)
        weights /= weights.sum()
        mean = np.tensordot(weights, rows, axes=1)
        was = weights @ np.linalg.norm(rows, axis=2)
        length = np.maximum(np.linalg.norm(mean, axis=1), TINY)
        pooled: Vectors = (mean * (was / length)[:, None]).reshape(-1).astype(np.float32)
        return pooled

    def _try_once(self) -> None:
        """Run the shortest text and the last word of the vocabulary; raise ValueError where the result is no vector."""
        last = self._reader.words - 1
        for ids in (self.tokens("").ids, (last,) * self.info.max_tokens):
            row = self._run(ids)
            if row.shape != (self.dimension,) or not np.isfinite(row).all():
                raise ValueError(f"the model gives shape {row.shape}, expected finite numbers of ({self.dimension},)")


class Trunks:
    """The loaded trunks of one process, by digest, so that all its tasks share them.

    `open_artifact` gives the verified folder of a digest and raises ArtifactDamaged where there is none.
    """

    def __init__(self, open_artifact: Callable[[str], Path]) -> None:
        self._open_artifact = open_artifact
        self._loaded: dict[str, Trunk] = {}
        self._lock = threading.Lock()

    def get(self, digest: str) -> Trunk:
        """The trunk of this digest, loaded at its first use; raise ArtifactDamaged where that is not possible."""
        with self._lock:
            if digest not in self._loaded:
                self._loaded[digest] = Trunk.load(self._open_artifact(digest))
            return self._loaded[digest]


def default_threads() -> int:
    """Two, or one where this process may use a single core."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, available)


def _open_session(path: Path) -> Any:
    """Open the model on one passive thread of its own caller; spinning threads would take the cores from others."""
    import onnxruntime

    model = read_onnx(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # our graphs are fused by hand; the fusions above this level would join a sum and a norm to a node that is slower
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # for inputs of one size; ours vary
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
