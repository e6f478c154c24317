"""The answers of a server in the house to the requests of a file, asked once each and kept.

A run that is broken off loses nothing that was answered. It knows requests and replies; not what is certified with
them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from io import FileIO
from pathlib import Path

import msgspec

from insource.backends.contract import Backend
from insource.backends.house_tier import Said, ask_house, house_request
from insource.errors import UpstreamError
from insource.store.sync import translated_files
from insource.types import Request

UNREADABLE = frozenset({400, 413, 422})
"""What a server answers to a request that it will never take; such a row has no answer, and none is asked for again."""


class _Line(msgspec.Struct, omit_defaults=True):
    key: str
    status: int
    content: str | None = None
    probability: float | None = None


_LINE = msgspec.json.Decoder(_Line)


class HouseAnswers:
    """Asks one server, at most `concurrency` requests at a time, and keeps its replies under `home`."""

    def __init__(self, home: Path, upstream: Backend, model: str, *, concurrency: int = 4) -> None:
        self._upstream, self._model, self._concurrency = upstream, model, concurrency
        name = hashlib.sha256(f"{upstream.info.name} {model}".encode()).hexdigest()[:16]
        self.path = home / "cache" / "tiers" / f"{name}.jsonl"

    async def all(self, requests: Sequence[Request], advance: Callable[[int, int | None], None]) -> list[Said]:
        """Return the reply to each request, from the file where it was asked before; equal requests are asked once.

        Raises UpstreamError where the server fails (what it answered until then is kept), KeptLocal where the policy
        keeps a request from it, StoreFull or StoreError.
        """
        keys = [self._key(request) for request in requests]
        known = self._known()
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        done = len(requests) - len(missing)
        advance(done, len(requests))
        with translated_files(self.path), self._opened() as file:

            async def ask_on(rows: Iterator[tuple[str, Request]]) -> None:
                nonlocal done
                for key, request in rows:
                    known[key] = said = await self._ask(request)
                    line = _Line(key, said.status, said.content, said.probability)
                    file.write(msgspec.json.encode(line) + b"\n")
                    done += 1
                    advance(done, len(requests))

            rows = iter(missing.items())
            await _together([ask_on(rows) for _ in range(min(self._concurrency, len(missing)))])
        return [known[key] for key in keys]

    async def _ask(self, request: Request) -> Said:
        said = await ask_house(self._upstream, request, self._model)
        if said.status != 200 and said.status not in UNREADABLE:
            raise UpstreamError(
                f"'{self._upstream.info.name}' answered with status {said.status}; 200 was expected. Check the server, "
                "and that it serves the model; the same command goes on where this one stopped."
            )
        return said

    def _key(self, request: Request) -> str:
        return hashlib.sha256(house_request(request, self._model).body).hexdigest()

    def _known(self) -> dict[str, Said]:
        """Return what the file holds; a line that was cut off is left out."""
        found: dict[str, Said] = {}
        if not self.path.is_file():
            return found
        with translated_files(self.path):
            lines = self.path.read_bytes().split(b"\n")
        for line in lines:
            try:
                kept = _LINE.decode(line)
            except msgspec.DecodeError:
                continue
            found[kept.key] = Said(kept.status, kept.content, kept.probability)
        return found

    def _opened(self) -> FileIO:
        """Open the file to append whole lines to it, each written at once; a line cut off before is ended first."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        file = FileIO(descriptor, "ab")
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            file.write(b"\n")
        return file


async def _together(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Do it all side by side; where one part fails, stop the others and raise what it raised."""
    jobs = [asyncio.ensure_future(part) for part in work]
    try:
        await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
