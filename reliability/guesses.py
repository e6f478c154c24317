"""A guesser with every file of a home and its backup, content_keys.db among them, and a dictionary with the truth.

What is left of an erased text is looked at as a commitment to it: digests in rows, names of rows held out, the digest
of a snapshot. It knows the forms of the texts, and not who was erased.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from insource.answers import AnswerSpace
from insource.store.artifacts import ArtifactStore
from insource.store.contents import parts_digest
from insource.store.registry import Registry
from insource.training.snapshot import inputs_of, take_snapshot
from insource.types import SpecialistVersion, Task
from reliability.erasable import ANSWERS, TEXTS, Subjects, name_of, plain_rows
from reliability.sealed_blobs import keys_left, ledger_blobs, read

DIGESTS = " UNION ALL ".join(
    f"SELECT content_digest FROM {table} WHERE content_digest IS NOT NULL"
    for table in ("decisions", "settlements", "audits")
)
Match = tuple[str, int]
"""What a guess agrees with, and the number of the subject that was guessed."""


class Guesser:
    """Holds all that can be guessed at; `guess` tries every kind of text of one subject."""

    def __init__(self, subjects: Subjects) -> None:
        home, backup = subjects.home, subjects.backup
        self.digests = {bytes(row[0]) for folder in (home, backup) for row in read(folder / "ledger.db", DIGESTS)}
        self.salts = [b"", bytes(32), _salt_of(subjects)]
        self.secret = bytes(read(home / "content_keys.db", "SELECT names FROM secrets")[0][0])
        self.held = {path: path.read_bytes() for folder in (home, backup) for path in folder.glob("held-out/*")}
        self.named = {word for data in self.held.values() for word in data.split(b'"')}
        self.subjects = {bytes(row[0]) for row in read(home / "content_keys.db", "SELECT name FROM subjects")}
        with Registry.open(home) as registry:
            self.snapshot, self._prefix = _filed(home, registry.get("filed"))

    def guess(self, number: int) -> Iterator[Match]:
        """Yield what the texts and the name of a subject agree with."""
        for kind, text_of in TEXTS.items():
            data = text_of(number).encode()
            if any(parts_digest(salt, [data, None, None]) in self.digests for salt in self.salts):
                yield "content digests", number
            pseudonym = hashlib.blake2b(data, key=self.secret, digest_size=16, person=b"insource-text").hexdigest()
            plain = hashlib.sha256(data).hexdigest()
            if {pseudonym.encode(), plain.encode(), plain[:32].encode()} & self.named:
                yield "names held out", number
            if kind == "filed" and self._whole(data, number).hexdigest() == self.snapshot:
                yield "snapshot digests", number
        name = name_of(number).encode()
        for key in (b"", self.secret):
            guessed = hashlib.blake2b(name, key=key, digest_size=32, person=b"insource-subject").digest()
            if guessed in self.subjects:
                yield ("names by the secret" if key else "subjects' names"), number

    def _whole(self, data: bytes, number: int) -> Any:
        digest = self._prefix.copy()
        digest.update(_row(ANSWERS.index(ANSWERS[number % 2]), data))
        return digest


def plain_digest_is_known(home: Path) -> bool:
    """Say whether the guesser makes the digest of a snapshot that is all in the clear: then it knows how."""
    snapshot = take_snapshot(plain_rows(), inputs_of(Task("filed")))
    return _digest_of(snapshot.texts, snapshot.answers, snapshot.inputs.to_json()).hexdigest() == snapshot.digest


def _filed(home: Path, version: SpecialistVersion) -> tuple[str, Any]:
    """Return the digest of the snapshot of the file, and the state of the digest before its last row."""
    manifest = ArtifactStore(home).open(version.digest).manifest
    texts = [row.request.messages[-1].text or "" for row in plain_rows()]
    space = AnswerSpace.from_json(manifest["answers"])
    return str(version.lineage["snapshot"]), _digest_of(texts, space, inputs_of(Task("filed")).to_json())


def _digest_of(texts: Iterable[str], space: AnswerSpace, inputs: Any) -> Any:
    digest = hashlib.sha256(json.dumps([list(space.answers), inputs]).encode())
    for number, text in enumerate(texts):
        digest.update(_row(space.index(ANSWERS[number % 2]), text.encode()))
    return digest


def _row(answer: int, data: bytes) -> bytes:
    return b"%d %d " % (answer, len(data)) + data


def _salt_of(subjects: Subjects) -> bytes:
    """Return the salt of a living subject's digest, which its key opens."""
    seq = "SELECT seq FROM decisions WHERE request_id = ?"
    blobs = ledger_blobs(subjects.home, f"seq IN ({seq})", (subjects.requests[subjects.living[0]]["notes"],))
    keys = keys_left(subjects.home)
    return next(blobs).opened(keys) or b""
