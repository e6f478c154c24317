"""What a version's student said of its own rows when it had not learned from them: kept beside the snapshots.

A tier is certified on the rows that the specialist escalates, and asked about rows that it learned from the specialist
would be surer than it will ever be again. It knows texts only by digest; nothing here serves a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from insource.store.sync import replacing, translated_files

FOLDER = "held-out"


class _Row(msgspec.Struct, array_like=True):
    text: str
    label: str
    score: float


_ROW = msgspec.json.Decoder(_Row)


def keep(home: Path, digest: str, texts: Sequence[str], labels: Iterable[str], scores: Iterable[float]) -> None:
    """Keep the out-of-fold label and score of each text under the artifact's digest; raise StoreFull or StoreError."""
    with replacing(_path(home, digest)) as file:
        for text, label, score in zip(texts, labels, scores, strict=True):
            file.write(msgspec.json.encode(_Row(_name(text), label, float(score))) + b"\n")


def recall(home: Path, digest: str, texts: Sequence[str]) -> list[tuple[str, float] | None]:
    """Return label and score for each text that the version learned from, None for any other; raise StoreError."""
    path = _path(home, digest)
    if not path.is_file():
        return [None] * len(texts)
    with translated_files(path):
        rows = [_ROW.decode(line) for line in path.read_bytes().splitlines()]
    known = {row.text: (row.label, row.score) for row in rows}
    return [known.get(_name(text)) for text in texts]


def _path(home: Path, digest: str) -> Path:
    return home / FOLDER / f"{digest}.jsonl"


def _name(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
