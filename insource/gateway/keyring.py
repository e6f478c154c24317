"""Who may ask: the keys as the registry has them now, and whether one is needed at all.

It knows digests of whole keys and nothing shorter; it never lets anybody in on what is older than a second.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Protocol

from insource.errors import StoreError
from insource.gateway.patience import Patience
from insource.store.keys import KEY, PREFIX, digest_of
from insource.store.registry import Registry
from insource.types import Key

LOOK_SECONDS = 0.25
"""After so long, what is known is looked at again, beside the request that brought it up."""
STALE_SECONDS = 0.75
"""After so long, a request waits for that look."""
_SECONDS = 1.0
_PRESENTED = re.compile(rb"(?i:bearer) +([!-~]+)")
_OURS = re.compile(KEY.pattern.encode())
_PREFIX = PREFIX.encode()
Headers = list[tuple[bytes, bytes]]


class KeyStore(Protocol):
    """Where keys are; the registry is one. Called in threads."""

    def keys_by_digest(self) -> Mapping[bytes, Key]:
        """All keys ever made by the digest of the whole."""
        ...

    def changed(self) -> int:
        """A number that changes with the registry."""
        ...


class Keyring:
    """The keys of one home. `loopback` says that only this machine can reach the gateway."""

    def __init__(
        self,
        store: KeyStore,
        clock: Callable[[], datetime],
        *,
        loopback: bool,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self.loopback = loopback
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._patience = Patience("registry", _SECONDS)
        self._keys: Mapping[bytes, Key] = {}
        self._seen: int | None = None
        self._looked = float("-inf")
        self._job: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether requests need no key: on loopback, until the first one is made. Not before the registry was read."""
        return self.loopback and self._seen is not None and not self._keys

    async def refresh(self) -> None:
        """Return once what is known is fresh; raise StoreError where it cannot be had and a key is needed."""
        age = self._seconds() - self._looked
        if age < LOOK_SECONDS:
            return
        if self._job is None:
            self._job = asyncio.ensure_future(self._look())
            self._job.add_done_callback(self._done)
        if age < STALE_SECONDS:
            return
        try:
            await asyncio.shield(self._job)
        except StoreError:
            if not self.open:
                raise

    def find(self, presented: Iterable[str]) -> Key | None:
        """Return the key that was presented; None for none, several, or one that is unknown, expired or revoked."""
        given = set(presented)
        if len(given) != 1:
            return None
        key = self._keys.get(digest_of(given.pop()))
        return key if key is not None and key.lets_in(self._clock()) else None

    async def _look(self) -> None:
        began = self._seconds()
        await self._patience.call(lambda: asyncio.to_thread(self._read))
        self._looked = began

    def _read(self) -> None:
        seen = self._store.changed()
        if seen != self._seen:
            self._keys = self._store.keys_by_digest()
            self._seen = seen

    def _done(self, job: asyncio.Future[None]) -> None:
        self._job = None
        if not job.cancelled():
            job.exception()  # looked at: whoever waits raises it


def presented(headers: Headers) -> list[str]:
    """Return what stands as a key in `Authorization: Bearer` or `x-api-key` and may be one of ours."""
    found = []
    for name, value in headers:
        if _PREFIX not in value:
            continue
        name, value = name.lower(), value.strip()
        if name == b"authorization" and (bearer := _PRESENTED.fullmatch(value)):
            value = bearer[1]
        elif name != b"x-api-key":
            continue
        if _OURS.fullmatch(value):
            found.append(value.decode("ascii"))
    return found


def without_ours(headers: Headers) -> Headers:
    """Return the headers without any that holds a key of ours, whatever its name: no upstream ever sees one."""
    return [header for header in headers if _PREFIX not in header[1] or not _OURS.search(header[1])]


def has_valid_key(home: Path, now: datetime) -> bool:
    """Whether some key of a home lets anybody in; raises StoreError."""
    with Registry.open(home) as registry:
        return any(key.lets_in(now) for key in registry.keys())


def keys_line(home: Path, now: datetime, *, loopback: bool) -> str:
    """Return what a person needs to know of the keys of a gateway that starts."""
    with Registry.open(home) as registry:
        keys = registry.keys()
    if loopback and not keys:
        return "keys: none yet, so every program on this machine may ask; `insource keys create` makes one"
    valid = sum(key.lets_in(now) for key in keys)
    return f"keys: {valid} valid of {len(keys)}; requests need one"
