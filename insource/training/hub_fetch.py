"""Fetching one model from a hub: its commit and files told by the hub's API, each file checked by the digest told.

Only safetensors and JSON are fetched, never a pickle. It knows the hub's routes; not what the files mean.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from insource.backends.model_files import LARGEST_ARRAYS, LARGEST_TEXT, LARGEST_TOKENIZER, parse_json
from insource.errors import FetchError, UserError
from insource.training.fetch import Progress, digest_of
from insource.training.https import Page, Web
from insource.training.hub import (
    COMMIT,
    ENDPOINT,
    NEEDED_FILES,
    READ_FILES,
    HubId,
    HubModel,
    git_digest_of,
    keep,
    unusable,
    way_round,
)

LARGEST = {"model.safetensors": LARGEST_ARRAYS, "tokenizer.json": LARGEST_TOKENIZER}
LARGEST_ANSWER = 8 * LARGEST_TEXT
TRIES = 3
"""How often a file is asked for, from where it broke off, before the fetch is given up."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Told:
    """What the hub tells of one file before it comes; `sha256` of large files, `git` of the others."""

    name: str
    size: int
    sha256: str | None
    git: str | None


def fetch(wanted: HubId, room: Path, progress: Progress | None = None) -> HubModel:
    """Fetch a model into a cache's room for it, which nobody else may be writing to; raises as `hub_model`.

    Files grow in `room`/partial and are moved to where models are looked for once all of them are whole.
    """
    return _outside_any_loop(lambda: _Fetch(wanted, room, progress or (lambda done, total: None)).run())


class _Fetch:
    """One fetch."""

    def __init__(self, wanted: HubId, room: Path, progress: Progress) -> None:
        self.wanted, self.room, self.progress = wanted, room, progress
        self.endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        self.web = Web(self.endpoint, _token())
        self.done = self.total = 0

    async def run(self) -> HubModel:
        told = await self._about()
        commit, files = told["sha"], self._files(told)
        card = told.get("cardData")
        licence = card.get("license") if isinstance(card, dict) else None
        self.total = sum(file.size for file in files)
        partial = self.room / "partial" / commit
        for file in files:
            path = partial / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            await self._file(commit, file, path)
        folder = self.room / "snapshots" / commit
        named = licence[:80] if isinstance(licence, str) else None
        return keep(partial, self.room, self.wanted, HubModel(self.wanted.name, commit, folder, named))

    async def _about(self) -> dict[str, Any]:
        """Ask which commit a revision is, and which files that has."""
        url = (
            f"{self.endpoint}/api/models/{self.wanted.name}/revision/{quote(self.wanted.revision, safe='')}?blobs=true"
        )
        try:
            async with self.web.get(url) as page:
                self._refuse_status(page)
                told = parse_json(await page.whole(LARGEST_ANSWER))
        except FetchError as error:
            raise FetchError(f"{self.wanted} cannot be fetched: {error} {way_round(self.wanted)}") from error
        except ValueError as error:
            raise self._strange(f"an answer that cannot be read ({error})") from error
        if type(told.get("sha")) is not str or not COMMIT.fullmatch(told["sha"]):
            raise self._strange(f"the commit {told.get('sha')!r}")
        return told

    def _refuse_status(self, page: Page) -> None:
        if page.status in (401, 403, 404):
            raise UserError(
                f"{self.endpoint} answered {page.status} for {self.wanted}: there is no such model or revision, or it "
                "is not open to you. ORG/NAME or ORG/NAME@REVISION of an open model was expected. Check the id (a "
                "folder has to exist), or set HF_TOKEN where the model asks for an agreement."
            )
        if page.status not in (200, 206):
            raise FetchError(f"{page.url} answered {page.status}; 200 was expected.")

    def _files(self, told: dict[str, Any]) -> list[Told]:
        """Return the files to fetch, or say why the model cannot be used."""
        listed = told.get("siblings")
        told_of = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        found = {str(each.get("rfilename")): each for each in told_of}
        names = found.keys()
        missing = [name for name in NEEDED_FILES if name not in names]
        pickles = sorted(name for name in names if "/" not in name and name.endswith(PICKLES))
        if "model.safetensors" in missing and "model.safetensors.index.json" in names:
            raise unusable(self.wanted, "holds its weights in several pieces", "Choose a smaller model.")
        if "model.safetensors" in missing and pickles:
            raise unusable(
                self.wanted, f"holds its weights as {', '.join(pickles)}, which can run code when it is loaded",
                "Choose a revision with model.safetensors (--base ORG/NAME@REVISION), or convert it on a machine that "
                "may run it.",
            )  # fmt: skip
        if missing:
            raise unusable(self.wanted, f"lacks {', '.join(missing)}", "Choose another model.")
        files = [self._told(found[name], name) for name in (*NEEDED_FILES, *READ_FILES) if name in names]
        return sorted(files, key=lambda file: file.size)

    def _told(self, each: dict[str, Any], name: str) -> Told:
        large = each.get("lfs")
        large = large if isinstance(large, dict) else {}
        size, sha256, git = each.get("size", large.get("size")), large.get("sha256"), each.get("blobId")
        most = LARGEST.get(name, LARGEST_TEXT)
        if type(size) is not int or size < 0:
            raise self._strange(f"no size of {name}")
        if size > most:
            raise unusable(
                self.wanted,
                f"has a {name} of {size:,} bytes, and at most {most:,} are taken",
                "Choose a smaller model.",
            )
        good = type(sha256) is str and _SHA256.fullmatch(sha256)
        known = type(git) is str and COMMIT.fullmatch(git)
        return Told(name, size, sha256 if good else None, git if known and not large else None)

    async def _file(self, commit: str, file: Told, path: Path) -> None:
        """Fetch one file to `path`, going on where an earlier fetch stopped, and check it."""
        url = f"{self.endpoint}/{self.wanted.name}/resolve/{commit}/{file.name}"
        linked = None
        for trial in range(TRIES):
            here = path.stat().st_size if path.is_file() else 0
            if here == file.size and (file.sha256 or file.git):
                break
            try:
                linked = await self._go_on(url, file, path, here if here < file.size else 0)
                break
            except FetchError:
                if trial + 1 == TRIES:
                    raise
        self._check(file, path, linked)
        self.done += file.size

    async def _go_on(self, url: str, file: Told, path: Path, start: int) -> str | None:
        """Append what is missing; return the sha256 that the hub names on the way, if any."""
        async with self.web.get(url, start=start) as page:
            self._refuse_status(page)
            here = start if page.status == 206 else 0
            with path.open("r+b" if here else "wb") as sink:
                sink.seek(here)
                async for piece in page.pieces():
                    here += len(piece)
                    if here > file.size:
                        path.unlink()
                        raise FetchError(f"{url} sent more than the {file.size:,} bytes that it was said to have.")
                    sink.write(piece)
                    self.progress(self.done + here, self.total)
            if here < file.size:
                raise FetchError(
                    f"{url} sent {here:,} of {file.size:,} bytes. Try again: a second run goes on from there."
                )
            tag = (page.headers.get("x-linked-etag") or "").removeprefix("W/").strip('"')
            return tag if _SHA256.fullmatch(tag) else None

    def _check(self, file: Told, path: Path, linked: str | None) -> None:
        """Raise FetchError, and remove the file, where it is not the one that was told of."""
        told = {each for each in (file.sha256, linked) if each}
        if told:
            found, wanted = digest_of(path), " and ".join(sorted(told))
            good = told == {found}
        elif file.git:
            found, wanted = git_digest_of(path), file.git
            good = found == wanted
        else:
            path.unlink()
            raise self._strange(f"no digest of {file.name}")
        if not good:
            path.unlink()
            raise FetchError(
                f"{file.name} of {self.wanted} has the digest {found}; expected {wanted}, as {self.endpoint} told. It "
                "was not used: try again, and check what stands between you and the hub."
            )

    def _strange(self, what: str) -> FetchError:
        return FetchError(
            f"{self.endpoint} told {what} for {self.wanted}; a hub's answer was expected. Nothing was used. Check "
            "HF_ENDPOINT."
        )


def _token() -> str | None:
    """Return $HF_TOKEN; raise UserError, which does not show it, where it is no line of printable ASCII."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise UserError(
            f"HF_TOKEN has {len(token)} characters, some of which are no printable ASCII; a token such as hf_... was "
            "expected. Nothing was fetched: copy it again, or unset it for open models."
        )
    return token or None


def _outside_any_loop(work: Callable[[], Coroutine[Any, Any, HubModel]]) -> HubModel:
    """Run it in a loop of its own, in a thread where this one runs a loop already, as a notebook's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
