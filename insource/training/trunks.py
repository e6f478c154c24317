"""The trunks of this home: built from a base model once, kept as artifacts, with the embeddings they computed.

It knows where trunks and embeddings lie; graphs are `encoder_graph`'s business, sessions `backends.onnx`'s.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insource.backends.onnx import INFO_FILE, MODEL_FILE, TOKENIZER_FILE, Trunk, TrunkInfo, Trunks
from insource.errors import ArtifactDamaged
from insource.store.artifacts import ArtifactStore
from insource.store.sync import replacing
from insource.training.base_models import (
    DEFAULT_ENCODER,
    NOTE_FILE,
    WEIGHTS_FILE,
    BaseModel,
    base_model,
    from_folder,
    write_base,
)
from insource.training.encoder_int4 import Activation
from insource.training.encoder_weights import Weights
from insource.training.hub import NEEDED_FILES, READ_FILES
from insource.training.students.contract import Progress

Say = Callable[[str], Callable[[int, int | None], None]]


class TrunkRoom:
    """Builds, opens and remembers trunks under `home`; `say` starts a progress bar with a title."""

    def __init__(self, home: Path, store: ArtifactStore, say: Say) -> None:
        self._home, self._store, self._say = home, store, say
        self.trunks = Trunks(lambda digest: store.open(digest).folder)

    def ensure(self, base: str = DEFAULT_ENCODER, precision: str = "int8") -> str:
        """Return the digest of the trunk made from `base`, fetched and built where it is not there yet.

        Raises as `base`, DataError where it cannot be built, StoreFull or StoreError where there is no room.
        """
        from insource.training.encoder_graph import BUILDER

        named = hashlib.sha256(f"{base}{_written(base)}".encode()).hexdigest()[:16]
        note = self._home / "trunks" / f"{named}-{precision}-{BUILDER}"
        if note.is_file():
            try:
                digest = note.read_text().strip()
                self._store.open(digest)
                return digest
            except ArtifactDamaged:
                note.unlink()
        digest = self.build(self.base(base), precision)
        with replacing(note) as file:
            file.write(digest.encode() + b"\n")
        return digest

    def build(
        self,
        model: BaseModel,
        precision: str,
        encoder: str | None = None,
        inside: Mapping[str, Activation] | None = None,
    ) -> str:
        """Return the digest of the trunk built from a base model; `encoder` is the digest it is kept under, if any.

        `inside` is what enters each product on sample texts, for the precisions that want to know.
        """
        from insource.training.encoder_graph import build_trunk

        told = {"kind": "trunk", "base": model.name, "base_digest": model.digest, "licence": model.licence}
        bar = self._say(f"building {model.name} ({precision})")
        with self._store.draft() as folder:
            build_trunk(model, folder, precision, bar, activations=inside)
            return self._store.commit(folder, told | ({"encoder": encoder} if encoder else {}))

    def windowed(self, digest: str, windows: int) -> str:
        """Return the digest of a trunk that reads up to so many windows of a text, and is the same otherwise."""
        if windows == 1:
            return digest
        known = self._store.open(digest)
        with self._store.draft() as folder:
            for name in (MODEL_FILE, TOKENIZER_FILE):
                shutil.copyfile(known.folder / name, folder / name)
            info = replace(TrunkInfo.read(known.folder / INFO_FILE), windows=windows)
            (folder / INFO_FILE).write_text(info.to_json(), "utf-8")
            told = ("kind", "base", "base_digest", "licence", "encoder")
            return self._store.commit(folder, {name: known.manifest[name] for name in told if name in known.manifest})

    def keep(
        self, like: BaseModel, tensors: Mapping[str, NDArray[np.float32]], name: str, **changed: object
    ) -> tuple[str, BaseModel]:
        """Keep an encoder's own weights as an artifact; return its digest, and the base model that it now is."""
        with self._store.draft() as folder:
            write_base(folder, like, tensors, name=name, **changed)
            digest = self._store.commit(folder, {"kind": "encoder", "base": like.name, "base_digest": like.digest})
        return digest, self.kept(digest)

    def copied(self, base: BaseModel) -> BaseModel:
        """Keep a base model that stands in a folder of its own as it is, and return it as it is kept."""
        return self.keep(base, Weights.read(base.folder / WEIGHTS_FILE).used(), base.name)[1]

    def kept(self, digest: str) -> BaseModel:
        """Return the base model that is kept under a digest; raise ArtifactDamaged where there is none."""
        artifact = self._store.open(digest)
        if artifact.manifest["kind"] != "encoder":
            raise ArtifactDamaged(
                f"Artifact {digest} is a {artifact.manifest['kind']}; the weights of an encoder were expected. Train "
                "the version again."
            )
        return from_folder(artifact.folder)

    def encoder_of(self, trunk: str) -> str | None:
        """Return the digest of the tuned encoder that a trunk was built from; None for a base model's own trunk."""
        found = self._store.open(trunk).manifest.get("encoder")
        return str(found) if found else None

    def base(self, name: str) -> BaseModel:
        """Return a base model by name, folder or hub id, fetched where it is not there yet; raises as `base_model`."""
        return base_model(name, cache=self._home / "cache", progress=self._say(f"fetching {name}"))

    def get(self, digest: str) -> Trunk:
        """Return the loaded trunk of a digest."""
        return self.trunks.get(digest)

    def embedder(self, digest: str) -> Callable[[Sequence[str], Progress | None], NDArray[np.float32]]:
        """Return a function that embeds texts with that trunk and keeps what it computed for the next run."""

        def embed(texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
            path = self._home / "cache" / "embeddings" / f"{_digest(digest, texts)}.npy"
            trunk = self.get(digest)
            if path.is_file():
                try:
                    with path.open("rb") as file:
                        kept: NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
                    if kept.shape == (len(texts), trunk.dimension) and kept.dtype == np.float32:
                        return kept
                except (OSError, ValueError):
                    path.unlink(missing_ok=True)
            found = trunk.embed(texts, progress=progress or self._say(f"embedding {len(texts):,} texts"))
            with replacing(path) as file:
                file.write(_npy(found))
            return found

        return embed


def _npy(array: NDArray[np.float32]) -> bytes:
    """Return a .npy file's bytes; numpy's own writing to a file loses the operating system's reason for a failure."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _digest(trunk: str, texts: Sequence[str]) -> str:
    found = hashlib.sha256(trunk.encode())
    for text in texts:
        data = text.encode("utf-8", "replace")
        found.update(b"%d " % len(data))
        found.update(data)
    return found.hexdigest()


def _written(base: str) -> str:
    """Return what tells a folder's files from others that lay there before; nothing for a name."""
    folder = Path(base)
    if not (folder / WEIGHTS_FILE).is_file():
        return ""
    files = [file for file in (*NEEDED_FILES, *READ_FILES, NOTE_FILE) if (folder / file).is_file()]
    stats = [(folder / file).stat() for file in files]
    return "".join(f" {file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in zip(files, stats, strict=True))
