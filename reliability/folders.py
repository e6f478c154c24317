"""Publishing an artifact while the power may fail: which names and bytes are left, by what was synced before.

The operating system's sync calls are recorded while the store's own code runs. A name is safe once its folder was
synced, a file's bytes once the file was; anything else may be left, cut short, or gone. It knows nothing of manifests.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from insource.errors import ArtifactDamaged, StoreError
from insource.store.artifacts import ArtifactStore

Tree = dict[str, "bytes | Tree"]


@dataclass
class Watch:
    """What is safe by inode, and a picture of the folder at the moment of the cut."""

    root: Path
    cut: int
    chance: random.Random
    calls: int = 0
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    noted: list[str] = field(default_factory=list)
    left: Tree | None = None
    safe: list[str] = field(default_factory=list)

    def step(self) -> None:
        """Count a call; at the cut, work out what is left and what had been confirmed."""
        self.calls += 1
        if self.calls == self.cut:
            self.left, self.safe = self._left(self.root), list(self.noted)

    def sync(self, descriptor: int) -> None:
        """Take what the descriptor stands for as safe from now on."""
        about = os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            folder = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.names[about.st_ino] = {path.name: path.lstat().st_ino for path in folder.iterdir()}
        else:
            self.contents[about.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _left(self, folder: Path) -> Tree:
        safe, found = self.names.get(folder.stat().st_ino, {}), Tree()
        for path in folder.iterdir():
            number = path.lstat().st_ino
            if safe.get(path.name) == number or self.chance.random() < 0.5:
                found[path.name] = self._left(path) if path.is_dir() else self._bytes(path, number)
        return found

    def _bytes(self, path: Path, number: int) -> bytes:
        now = path.read_bytes()
        if self.contents.get(number) == now:
            return now
        return self.chance.choice((now, b"", now[: len(now) // 2], bytes(len(now)), self.contents.get(number, b"")))


@contextmanager
def watching(root: Path, cut: int, chance: random.Random, *, broken: bool = False) -> Iterator[Watch]:
    """Watch what is synced below `root`; the power fails before the `cut`th call. `broken`: no sync works."""
    watch = Watch(root, cut, chance)
    with ExitStack() as stack:
        for name in ("fsync", "rename", "mkdir"):
            stack.enter_context(mock.patch.object(os, name, _wrapped(watch, name, broken)))
        yield watch


def _wrapped(watch: Watch, name: str, broken: bool) -> Callable[..., object]:
    real = getattr(os, name)

    def call(*arguments: object, **options: object) -> object:
        watch.step()
        if name == "fsync" and not broken:
            watch.sync(arguments[0])  # type: ignore[arg-type]
        return None if name == "fsync" else real(*arguments, **options)

    return call


def try_publishing(folder: Path, chance: random.Random, *, broken: bool) -> list[str]:
    """Publish artifacts in a new home, cut the power at a random call, and say what the next start misses."""
    folder.mkdir()
    with watching(folder, chance.randint(1, 40), chance, broken=broken) as watch:
        store = ArtifactStore(folder / "home")
        for number in range(3):
            watch.noted.append(_publish(store, number))
        while watch.left is None:  # fewer calls than that: the power fails at the end
            watch.step()
    _lay(watch.left, folder / "after")
    after = ArtifactStore(folder / "after" / "home")
    failures = []
    for digest in watch.safe:
        try:
            after.open(digest)
        except ArtifactDamaged as error:
            failures.append(f"artifact confirmed before call {watch.cut}: {error}")
    for number in range(3):  # whatever is left: publishing again makes it whole
        try:
            after.open(_publish(after, number))
        except StoreError as error:
            failures.append(f"artifact could not be published again: {error}")
    return failures


def _publish(store: ArtifactStore, number: int) -> str:
    with store.draft() as draft:
        for name in ("weights", "score"):
            (draft / name).write_bytes(f"{name} {number} ".encode() * 400)
        return store.commit(draft, {"kind": "soak", "number": number})


def _lay(tree: Tree, folder: Path) -> None:
    folder.mkdir()
    for name, what in tree.items():
        if isinstance(what, bytes):
            (folder / name).write_bytes(what)
        else:
            _lay(what, folder / name)
