"""A copy of a home, whole and of one moment, taken beside a running gateway, and checked before anybody trusts it.

It is made of a list of what goes in, so what is not named stays out: the keys of texts, without which nobody reads a
kept text in it, and the key that signs proofs, so that no copy signs a second history. It knows files and rows, and not
where the copy goes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec

import insource
from insource.errors import ArtifactDamaged, StoreError, UserError
from insource.store import artifacts, held_out, ledger, migrations, registry, snapshots, spending
from insource.store.database import Migration, make_private, open_database, transaction
from insource.store.manifest import is_digest
from insource.store.proof import folder as proof
from insource.store.proof.verify import Outside, Verdict, verify
from insource.store.sync import make_folder, sync_folder, translated_files, write_synced
from insource.store.translate import translated

FORMAT = 1
MANIFEST = "backup.json"
SETTINGS = "insource.toml"
ACT = "backup"
DATABASES: Mapping[str, list[Migration]] = {
    ledger.FILE: migrations.LEDGER, registry.FILE: migrations.REGISTRY, spending.FILE: spending.STEPS
}  # fmt: skip
FOLDERS = (artifacts.FOLDER, "trunks", snapshots.FOLDER, held_out.FOLDER)
LEFT_OUT = frozenset({"key", "key.next", "refusal", "trouble"})
"""Of the folder of proofs: the keys that sign, those of reconciled logs too, and what this home's writer says now."""
PAGES, CHUNK = 1_024, 1 << 20

Report = Callable[[int, int | None], None]
Say = Callable[[str], Report]
"""Takes a title, and returns what is called with what is done and the total."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds. `sha256` is that of its manifest, which has those of all other files.

    `signed` of the `rows` are covered by a checkpoint; `missing` names versions without an artifact in this home.
    """

    time: datetime
    rows: int
    signed: int
    root: str
    key: str | None
    versions: int
    artifacts: int
    missing: tuple[str, ...]
    files: int
    bytes: int
    sha256: str


def back_up(home: Path, draft: Path, *, settings: Path | None, now: datetime, say: Say) -> Backup:
    """Fill an empty folder with a copy of `home`, checked row by row and byte by byte; synced on return.

    `settings` is the configuration's file. Ledger and registry are of one moment; what keys have spent is of that
    moment or later. Raises UserError for a home without a database; StoreFull, StoreBusy, StoreTooNew; StoreError where
    rows, and ArtifactDamaged where artifacts, are not as they were written.
    """
    if not any((home / name).is_file() for name in DATABASES):
        raise UserError(f"There is nothing to back up in {home}; a home that `insource serve` or `insource train` "
                        "wrote was expected. Name it with --home.")  # fmt: skip
    with translated_files(draft):
        draft.chmod(0o700)
        _copy(home / proof.FOLDER, draft / proof.FOLDER, LEFT_OUT)  # before the rows: no checkpoint is ahead of them
        with _one_moment(home) as sources:
            for name, source in sources.items():
                _copy_database(source, draft / name, say(f"copying {name}"))
        report = say("copying files")
        for done, name in enumerate(FOLDERS):
            report(done, len(FOLDERS))
            _copy(home / name, draft / name)
        if settings is not None:
            write_synced(draft / SETTINGS, settings.read_bytes())
        verdict = _checked_rows(draft, say("checking rows")) if (draft / ledger.FILE).is_file() else Verdict()
        sound = _checked_artifacts(home, draft, say("checking artifacts"))
        return _listed(draft, now, verdict, sound, say("computing digests"))


@contextmanager
def _one_moment(home: Path) -> Iterator[dict[str, apsw.Connection]]:
    """Yield connections to the databases that there are, which see them as they were at one moment, however long.

    Nothing is written to the registry while the moments are taken, so nothing moves from it into the ledger either:
    what it says the ledger has, the ledger has, and each version that the ledger names is in it.
    """
    with ExitStack() as opened:
        sources = {}
        keeper = open_database(home / registry.FILE, migrations=migrations.REGISTRY)
        opened.callback(keeper.close)
        for name, steps in DATABASES.items():
            if (home / name).is_file():
                sources[name] = open_database(home / name, migrations=steps, read_only=True)
                opened.callback(sources[name].close)
        with transaction(keeper, home / registry.FILE):
            for name, source in sources.items():
                with translated(home / name, source):
                    source.execute("BEGIN")
                    source.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # the moment is that of a read
        yield sources


def _copy_database(source: apsw.Connection, path: Path, report: Report) -> None:
    make_private(path)
    with translated(path):
        made = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with translated(path, made):
            with made.backup("main", source, "main") as pages:
                while not pages.done:
                    pages.step(PAGES)
                    report(pages.page_count - pages.remaining, pages.page_count)
            made.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, which is read without writing beside it
            found = str(made.execute("PRAGMA quick_check(1)").get)
    finally:
        made.close()
    if found != "ok":
        raise StoreError(f"{path.name} is damaged ({found}). A sound database was expected. Nothing was backed up; "
                         "keep the backups that there are.")  # fmt: skip


def _copy(source: Path, target: Path, left_out: frozenset[str] = frozenset()) -> None:
    """Copy a file or all below a folder, synced, without what is hidden, left out, or no plain file.

    What vanishes meanwhile is left out as well: drafts and half tiles do.
    """
    if source.is_dir():
        make_folder(target)
        with suppress(FileNotFoundError):
            for path in sorted(source.iterdir()):
                if not (path.name in left_out or path.name.startswith(".") or path.is_symlink()):
                    _copy(path, target / path.name, left_out)
        sync_folder(target)
    elif source.is_file():
        with suppress(FileNotFoundError), source.open("rb") as file, target.open("xb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            shutil.copyfileobj(file, copy, CHUNK)
            copy.flush()
            os.fsync(copy.fileno())


def _checked_rows(draft: Path, report: Report) -> Verdict:
    """Derive all rows of the copy anew, against what was signed and committed with them."""
    verdict = verify(draft, Outside(), report)
    faults = [fault.what for fault in verdict.faults]
    if faults or verdict.more:
        raise StoreError(f"The ledger is not as it was written: {'; '.join(faults[:3])}. Sound rows were expected. "
                         "Nothing was backed up; `insource audit verify` says what is wrong, and backups that there "
                         "are may have what was lost.")  # fmt: skip
    return verdict


def _checked_artifacts(home: Path, draft: Path, report: Report) -> set[str]:
    """Verify every artifact of the copy by its digest; one that was removed from the home meanwhile goes."""
    copied = draft / artifacts.FOLDER
    names = sorted(path.name for path in copied.iterdir()) if copied.is_dir() else []
    digests = [name for name in names if is_digest(name)]
    store, sound = artifacts.ArtifactStore(draft), set()
    for done, digest in enumerate(digests):
        report(done, len(digests))
        try:
            store.open(digest)
            sound.add(digest)
        except ArtifactDamaged:
            if (home / artifacts.FOLDER / digest).exists():
                artifacts.ArtifactStore(home).open(digest)  # names the file that is to be mended
                raise
            shutil.rmtree(copied / digest)
    (copied / artifacts.DRAFTS).rmdir()
    return sound


def _listed(draft: Path, now: datetime, verdict: Verdict, sound: set[str], report: Report) -> Backup:
    """Write the manifest, last of all, and return what it says."""
    files: dict[str, dict[str, Any]] = {}
    paths = sorted(path for path in draft.rglob("*") if path.is_file())
    for done, path in enumerate(paths):
        report(done, len(paths))
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.relative_to(draft).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256}
    versions = _versions(draft / registry.FILE)
    told = {
        "format": FORMAT,
        "insource": insource.__version__,
        "time": now.isoformat(),
        "ledger": {"rows": verdict.rows, "signed": verdict.signed, "root": verdict.root.hex(), "key": verdict.key},
        "checkpoint": proof.ProofFolder(draft).checkpoint(),
        "schemas": {name: len(steps) for name, steps in DATABASES.items() if name in files},
        "versions": versions,
        "files": files,
    }
    data = msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
    write_synced(draft / MANIFEST, data)
    sync_folder(draft)
    missing = tuple(version["name"] for version in versions if version["digest"] not in sound)
    size, sha256 = sum(each["bytes"] for each in files.values()), hashlib.sha256(data).hexdigest()
    return Backup(now, verdict.rows, verdict.signed, verdict.root.hex(), verdict.key, len(versions), len(sound),
                  missing, len(files), size, sha256)  # fmt: skip


def _versions(path: Path) -> list[dict[str, str]]:
    """Return the versions that the copied registry has."""
    connection = open_database(path, migrations=migrations.REGISTRY, read_only=True)
    try:
        with translated(path, connection):
            select = "SELECT task || '@' || version, digest, stage FROM versions ORDER BY task, version"
            return [dict(zip(("name", "digest", "stage"), map(str, row), strict=True))
                    for row in connection.execute(select)]  # fmt: skip
    finally:
        connection.close()
