"""The files of an exported folder: what computes, what reads texts, runner and page, from a verified artifact.

It knows families and what of a specialist's input can be carried over; not how the folder comes into being.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.backends import encoder, linear, static
from insource.backends.model_files import LARGEST_ARRAYS, read_arrays, read_onnx, read_plain, read_tokenizer
from insource.backends.ngrams import CHARACTER_ORDERS, VERSION
from insource.backends.onnx import CHARACTERS_PER_TOKEN, INFO_FILE, MODEL_FILE, OVERLAP, TOKENIZER_FILE, TrunkInfo
from insource.backends.specialist import SCORE_FILE
from insource.errors import UserError
from insource.inputs import InputSettings
from insource.risk.agreement import FEATURES, NEVER, SURE
from insource.risk.scores import TIE_BREAK, Scorer
from insource.risk.venn_abers import VennAbers
from insource.training.encoder_graph_scored import SpecialistGraph

FAMILIES = ("linear", "static", "two-tier", "encoder-frozen", "encoder")
"""The families that can be exported."""

GRAMS_FILE, CARD_FILE, RUNNER_FILE = "ngrams.json", "specialist.json", "run.py"
PAGE_FILES = ("index.html", "page.css", "page.js", "specialist.js", "reading.js")
ENGINE_FILE = "engine.js"
MARK, ENGINE_MARK = "  #: ", "#: engine\n"

Files = dict[str, bytes]


class Contents:
    """What is exported of one artifact: `files` by name, and the entries of specialist.json that tell how to read.

    `trunk` gives the verified folder of a digest. Raises UserError for a family or an input that cannot be carried.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], trunk: Callable[[str], Path]) -> None:
        self.family = str(manifest["family"])
        self.inputs = InputSettings.from_json(manifest["inputs"])
        self.trunk = trunk(manifest["trunk"]) if manifest["trunk"] is not None else None
        self.files: Files = {}
        self.reading: dict[str, Any] = {}
        check_family(self.family)
        _check_inputs(self.inputs)
        scorer = read_arrays(folder / SCORE_FILE)
        if self.family == "static":
            self._static(folder, scorer)
        else:
            graph = SpecialistGraph()
            probabilities = self._engine(graph, folder)
            self.files[MODEL_FILE] = graph.scored(probabilities, scorer)
        self.files[RUNNER_FILE] = self._runner().encode()

    def page(self, runtime: Callable[[], Path]) -> Files:
        """Return the files of the page in a browser; `runtime` gives the folder of onnxruntime-web's, where needed.

        Raises UserError where the tokenizer is of a kind that the page cannot do.
        """
        from insource.training.exporting.web_runtime import FILES

        if TOKENIZER_FILE in self.files:
            _refuse_tokenizer(json.loads(self.files[TOKENIZER_FILE]))
        page = {name: _ours(name) for name in PAGE_FILES} | {ENGINE_FILE: _ours(f"engine_{self._engine_kind}.js")}
        if self._engine_kind == "onnx":
            there = runtime()
            page |= {name: (there / name).read_bytes() for name in FILES}
        return page

    @property
    def _engine_kind(self) -> str:
        return "onnx" if MODEL_FILE in self.files else "static"

    def _static(self, folder: Path, scorer: Mapping[str, NDArray[Any]]) -> None:
        """Take the tables as they are; what else the runners compute with stands in specialist.json."""
        self.files[static.FILE] = read_plain(folder / static.FILE, LARGEST_ARRAYS)
        self.reading["units"] = {
            "version": static.VERSION,
            "part_orders": static.PART_ORDERS,
            "most_characters": static.MOST_CHARACTERS,
            "spans": static.SPANS,
        }
        self.reading["scorer"] = _scorer(scorer)

    def _engine(self, graph: SpecialistGraph, folder: Path) -> str:
        """Add what the family computes to the graph; return the name of the probabilities."""
        if self.family == "linear":
            return self._linear(graph, folder)
        if self.family != "two-tier":
            return self._encoder(graph, folder)
        inner = SpecialistGraph()
        first, second = self._linear(graph, folder), self._encoder(inner, folder)
        return graph.two_tier(first, inner, second, read_arrays(folder / encoder.TIERS_FILE))

    def _linear(self, graph: SpecialistGraph, folder: Path) -> str:
        arrays = read_arrays(folder / linear.FILE)
        names = {kind: bytes(arrays[kind]).decode().split("\n") for kind in ("words", "characters")}
        known = {kind: grams if grams != [""] else [] for kind, grams in names.items()}
        self.files[GRAMS_FILE] = _json(known)
        self.reading["ngrams"] = {"version": VERSION, "orders": {"words": [1, 2], "characters": list(CHARACTER_ORDERS)}}
        return graph.linear(arrays, len(known["words"]))

    def _encoder(self, graph: SpecialistGraph, folder: Path) -> str:
        assert self.trunk is not None  # an encoder has one: it was opened as a specialist before
        info = TrunkInfo.read(self.trunk / INFO_FILE)
        self.files[TOKENIZER_FILE] = read_tokenizer(self.trunk / TOKENIZER_FILE).encode()
        self.reading["tokens"] = {
            "max_tokens": info.max_tokens,
            "windows": info.windows,
            "overlap": info.max_tokens // OVERLAP,
            "max_characters": info.windows * info.max_tokens * CHARACTERS_PER_TOKEN,
        }
        return graph.encoder(read_onnx(self.trunk / MODEL_FILE), read_arrays(folder / encoder.FILE), info)

    def _runner(self) -> str:
        """Return run.py with the lines that this specialist needs."""
        wanted = {self._engine_kind, *self.reading, *self.reading.get("scorer", ())}
        if self.inputs.templates:
            wanted.add("templates")
        if {"ngrams", "units"} & wanted:
            wanted.add("words")
        if "tokens" in self.reading:
            wanted.add("one window" if self.reading["tokens"]["windows"] == 1 else "windows")
        engine = _ours(f"engine_{self._engine_kind}.py.template").decode()
        lines = []
        for line in _ours(f"{RUNNER_FILE}.template").decode().replace(ENGINE_MARK, engine).splitlines():
            said, mark, key = line.partition(MARK)
            if not mark or key in wanted:
                lines.append(said)
        return "\n".join(lines) + "\n"


def seal(told: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Return specialist.json: what is told, and the digest and length of every other file."""
    from hashlib import sha256

    listed = {name: {"sha256": sha256(data).hexdigest(), "bytes": len(data)} for name, data in sorted(files.items())}
    return _json({**told, "files": listed}, indent=1)


def check_family(family: str) -> None:
    """Raise UserError unless a family can be exported."""
    if family not in FAMILIES:
        raise UserError(
            f"A version of family {family!r} cannot be exported; one of {', '.join(FAMILIES)} was expected. Train a "
            "version of such a family and export that."
        )


def _scorer(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return what `Scorer.score_one` computes with, for runners that do so themselves."""
    shifts = arrays["score.answers"].astype(np.float64) + arrays["score.weights"][FEATURES]
    told = {"weights": arrays["score.weights"][:FEATURES].tolist(), "shifts": shifts.tolist(), "sure": SURE,
            "never": NEVER, "tie_break": TIE_BREAK}  # fmt: skip
    learned = Scorer.from_arrays(arrays).calibrator
    if isinstance(learned, VennAbers):
        return told | {"low": learned.low_.tolist(), "high": learned.high_.tolist(), "steps": learned.merged().tolist()}
    return told | {"platt": [learned.slope_, learned.intercept_]}


def _check_inputs(inputs: InputSettings) -> None:
    if inputs.messages == "all":
        raise UserError(
            "This specialist reads whole conversations (messages is 'all'); an exported folder is given one text and "
            'would answer otherwise than here. Train a version with messages = "last_user", and export that.'
        )
    if inputs.contexts:
        raise UserError(
            "This specialist is shown {context} last wherever its template has it; an exported folder takes slots in "
            "their order and would answer otherwise than here. Put {context} last in match.user_template, train anew."
        )


def _refuse_tokenizer(told: Mapping[str, Any]) -> None:
    """Raise UserError unless a tokenizer is of BERT's kind, as reading.js does it."""
    kinds = [(told.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer", "post_processor")]
    single = [next(iter(piece)) for piece in (told.get("post_processor") or {}).get("single", [])]
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    plain = not any(token.get(flag) for token in told.get("added_tokens") or [] for flag in flags)
    expected = ["WordPiece", "BertNormalizer", "BertPreTokenizer", "TemplateProcessing"]
    if kinds != expected or single != ["SpecialToken", "Sequence", "SpecialToken"] or not plain:
        raise UserError(
            f"The page cannot do this specialist's tokenizer ({', '.join(map(str, kinds))}); one of BERT's kind "
            f"({', '.join(expected)}) was expected. Leave --web out: run.py does it."
        )


def _ours(name: str) -> bytes:
    return (files("insource.training.exporting") / "folder" / name).read_bytes()


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=indent).encode() + b"\n"
