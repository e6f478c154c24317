"""Checks of the store: the folder, both databases, every artifact by digest, and that what is active can serve.

It reads; only the artifacts' drafts of yesterday may be swept away, as at every opening.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from insource.cli.checks.check import Check, Status
from insource.errors import ArtifactDamaged, InsourceError, StoreError

if TYPE_CHECKING:
    from insource.cli.opening import Opener
    from insource.config import Config
    from insource.store.artifacts import ArtifactStore
    from insource.store.database import Migration
    from insource.store.registry import Registry
    from insource.types import SpecialistVersion

LEAST_FREE_BYTES = 100_000_000
LITTLE_FREE_BYTES = 1_000_000_000


def store_checks(config: Config) -> Iterator[Check]:
    """Yield the checks of everything under the home."""
    from insource.store import ledger, migrations, registry

    yield from folder_checks(config.home)
    yield database_check("ledger", config.home / ledger.FILE, migrations.LEDGER)
    checked = database_check("registry", config.home / registry.FILE, migrations.REGISTRY)
    yield checked
    if checked.status == "ok" and (config.home / registry.FILE).exists():
        yield from version_checks(config)
    yield from trunk_checks(config)


def folder_checks(home: Path, free: int | None = None) -> Iterator[Check]:
    """Yield whether the home can be written, who may read it, and the room left (`free` bytes stand in for it)."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Check("home", "fail", f"{there} is no folder that this user can write",
                    "Check its owner and mode, or set INSOURCE_HOME to another folder.")  # fmt: skip
    elif there != home:
        yield Check("home", "ok", f"{home} is made at first use")
    else:
        yield _mode_check(home)
    left = shutil.disk_usage(there).free if free is None else free
    told = f"{left / 1e9:,.1f} GB free"
    if left < LEAST_FREE_BYTES:
        yield Check("room", "fail", f"{left / 1e6:,.0f} MB free; at least 100 MB were expected",
                    "Free some space; without it no decision can be recorded.")  # fmt: skip
    elif left < LITTLE_FREE_BYTES:
        yield Check("room", "warn", told, "Free some space before the ledger and artifacts grow.")
    else:
        yield Check("room", "ok", told)


def _mode_check(home: Path) -> Check:
    files = [home / name for name in ("ledger.db", "registry.db", "artifacts")]
    shared = [path for path in files if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    if shared:
        names = ", ".join(path.name for path in shared)
        return Check("home", "warn", f"{home}: others may read {names}", f"Run: chmod -R go-rwx {home}")
    if stat.S_IMODE(home.stat().st_mode) & 0o077:
        return Check("home", "ok", f"{home}; others may list it, not read its files")
    return Check("home", "ok", f"{home}, for this user only")


def database_check(name: str, path: Path, migrations: Sequence[Migration]) -> Check:
    """Check that a database opens and passes SQLite's quick_check; none is there before the first use."""
    from insource.store.database import open_database
    from insource.store.translate import translated

    if not path.exists():
        return Check(name, "ok", "none yet; made at first use")
    try:
        connection = open_database(path, migrations=migrations, read_only=True)
        try:
            with translated(path):
                found = connection.execute("PRAGMA quick_check(1)").get
        finally:
            connection.close()
    except StoreError as error:
        return Check(name, "fail", str(error))
    if found != "ok":
        return Check(name, "fail", f"{path}: {found}", "Stop the gateway, move the file aside and restore a backup.")
    return Check(name, "ok", f"{path.name}, {path.stat().st_size / 1e6:,.1f} MB, sound")


def version_checks(config: Config) -> Iterator[Check]:
    """Yield every artifact's digest, damaged ones by name, and whether each active version can be opened."""
    from insource.cli.opening import Opener, open_artifacts, open_registry

    with open_registry(config) as registry:
        versions = [version for task in registry.tasks() for version in registry.versions(task)]
        yield from row_checks(config, registry)
    try:
        artifacts = open_artifacts(config)
    except StoreError as error:
        yield Check("artifacts", "fail", str(error))
        return
    sound = 0
    for version in versions:
        damage = _damage(artifacts, version)
        sound += damage is None
        if damage is not None:
            yield damage
    if sound:
        yield Check("artifacts", "ok", f"{sound} of {len(versions)} versions verified by digest")
    opener = Opener(config)
    for version in versions:
        if version.stage == "active":
            yield _servable(opener, version)


def row_checks(config: Config, registry: Registry) -> Iterator[Check]:
    """Yield what was altered in the registry, by its own digests and by what the ledger says was approved."""
    from insource.store.ledger import FILE
    from insource.store.ledger_reader import LedgerReader
    from insource.store.registry_rows import not_as_approved

    found = list(registry.flaws())
    if (config.home / FILE).exists():
        try:
            with LedgerReader(config.home) as ledger:
                found += not_as_approved(registry, ledger)
        except StoreError:
            pass  # the ledger's own check says so
    for flaw in found:
        yield Check("registry rows", "fail", flaw)


def _damage(artifacts: ArtifactStore, version: SpecialistVersion) -> Check | None:
    try:
        artifacts.open(version.digest)
    except StoreError as error:
        status: Status = "warn" if version.stage == "retired" else "fail"
        return Check(f"artifact {version.name}", status, f"{version.stage}: {error}")
    return None


def _servable(opener: Opener, version: SpecialistVersion) -> Check:
    try:
        opener(version)
    except InsourceError as error:
        return Check(f"active {version.name}", "fail", str(error))
    return Check(f"active {version.name}", "ok", f"{version.family}, can serve")


def trunk_checks(config: Config) -> Iterator[Check]:
    """Yield whether the trunks that were built are sound, and what the cache weighs."""
    notes = [path for path in sorted((config.home / "trunks").glob("*")) if path.is_file()]
    if notes:
        from insource.cli.opening import open_artifacts

        artifacts = open_artifacts(config)
        sound, damaged = 0, ""
        for note in notes:
            try:
                artifacts.open(note.read_text("utf-8", "replace").strip())
                sound += 1
            except ArtifactDamaged as error:
                damaged = str(error)
        if damaged:
            yield Check("trunks", "warn", damaged, "It is built again when next needed for training.")
        else:
            yield Check("trunks", "ok", f"{sound} built, verified by digest")
    cache = config.home / "cache"
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    if size:
        yield Check("cache", "ok", f"{size / 1e6:,.0f} MB of fetched models and embeddings; may be deleted ({cache})")
