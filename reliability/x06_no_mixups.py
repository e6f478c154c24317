"""X6: forged keys that share most of a real one let nobody in, and every worker refuses a revoked key within a second.

Forgeries are tried at the gateway's own door; every so many of them a running gateway of two workers is asked on many
connections, by keys that are revoked meanwhile. There is no cache of replies that two keys could share.
"""

from __future__ import annotations

import asyncio
import random
import string
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from insource.gateway.keyring import Keyring, presented
from insource.store.keys import digest_of
from insource.store.registry import Registry
from insource.types import Key
from reliability.harness import Promise, Tally
from reliability.plain_upstream import PlainUpstream
from reliability.raw_http import Wire
from reliability.running_gateway import PLAIN, post, running

KEYS = 20
REAL_EVERY = 50
REVOKED_EVERY = 25_000
REVOCATIONS, REVOCATIONS_OF_BROKEN = 2, 1
CONNECTIONS = 12
LONGEST = 1.0
SECONDS = 5.0
"""How long a key is asked with until it is known, and after it was revoked."""
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
_DIGITS = string.digits + string.ascii_letters
SHARED = 20
"""Characters that a broken build looks at (CVE-2026-35030)."""
STALE = ("reliability.broken_gateway", "BROKEN=stale")
"""The other broken build: its workers look at the keys every two seconds."""


class Prefixes(Keyring):
    """A broken build: it finds a key by how it begins."""

    def find(self, presented: Iterable[str]) -> Key | None:
        """Compare the beginnings."""
        found = [self.by_text[text[:SHARED]] for text in presented if text[:SHARED] in self.by_text]
        return found[0] if found else None

    by_text: dict[str, Key]


def forged(real: str, chance: random.Random) -> str:
    """Return a text that shares as much as can be with a key and is none."""
    kind, place = chance.randrange(7), chance.randrange(3, len(real))
    other = chance.choice([digit for digit in _DIGITS if digit != real[place]])
    changed = real[:place] + other + real[place + 1 :]
    rest = "".join(chance.choice(_DIGITS) for _ in real)
    made = (
        changed,
        real[:11] + rest[11:],  # the same public id
        real[:place] + rest[place:],
        real[:-1] + chance.choice([digit for digit in _DIGITS if digit != real[-1]]),
        real.swapcase().replace("IS-", "is-", 1),
        real[:place] + real[place:][::-1],
        real[:place] + real[place + 1 :] + real[place],
    )[kind]
    return made if made != real else changed


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Try a forgery for each case; `broken` finds keys by their first 20 characters, and hears late of a revocation."""
    tally = Tally()
    await try_forgeries(tally, cases, folder / "door", Prefixes if broken else Keyring)
    due = [case for case in cases if case % REVOKED_EVERY == 0]
    tally.count("broken", broken)
    due = [case for case in due for _ in range(REVOCATIONS_OF_BROKEN if broken else REVOCATIONS)]
    tally.count("due", len(due))
    if due:
        await _revoke_while_serving(tally, due, folder / "served", STALE if broken else ())
    return tally


async def try_forgeries(tally: Tally, cases: range, home: Path, kind: type[Keyring]) -> None:
    """Try a forgery for each case at a door of this kind, and a real key now and then."""
    with Registry.open(home) as registry:
        texts = [registry.create_key(Key("", f"key {number}", NOON, "soak"), "a promise") for number in range(KEYS)]
        expires = NOON + timedelta(days=1)
        _, late = registry.create_key(Key("", "over", NOON, "soak", expires=expires), "a promise")
        ring = kind(registry, lambda: NOON + timedelta(days=2), loopback=True)
        if isinstance(ring, Prefixes):
            ring.by_text = {text[:SHARED]: key for key, text in texts}
        await ring.refresh()
        for case in cases:
            _try(tally, case, ring, texts, late)


def _try(tally: Tally, case: int, ring: Keyring, texts: list[tuple[Key, str]], late: str) -> None:
    chance = random.Random(case)
    key, real = texts[case % KEYS]
    text = late if case % 97 == 0 else forged(real, chance)
    name, value = (b"x-api-key", text) if chance.random() < 0.5 else (b"authorization", f"Bearer {text}")
    tally.count("forged")
    if ring.find(presented([(name, value.encode())])) is not None:
        tally.fail(case, f"a forgery of key {case % KEYS} was let in", "let in")
    if case % REAL_EVERY == 0:
        found = ring.find(presented([(b"x-api-key", real.encode())]))
        tally.count("real")
        if found is None or found.id != key.id or digest_of(real) not in ring._keys:
            tally.fail(case, f"key {case % KEYS} itself was not let in, or as another", "mixed up")


async def _revoke_while_serving(tally: Tally, due: list[int], home: Path, build: tuple[str, ...]) -> None:
    home.mkdir()
    async with PlainUpstream() as upstream:
        file = home / "insource.toml"
        file.write_text(
            f'[gateway]\nport = 0\nworkers = 2\ndrain_s = 1\n[store]\nhome = "{home}"\n[upstreams.stub]\n'
            f'base_url = "{upstream.url}"\n'
        )
        with Registry.open(home) as registry:
            async with running(file, *build) as gateway:
                for case in due:
                    await _revoke(tally, case, registry, gateway.port)


async def _revoke(tally: Tally, case: int, registry: Registry, port: int) -> None:
    key, text = registry.create_key(Key("", "served", datetime.now(UTC), "soak"), "a promise")
    request = post(PLAIN, f"x-api-key: {text}")
    wires = [await Wire.open(port) for _ in range(CONNECTIONS)]
    for status in await asyncio.gather(*(_until_known(wire, request) for wire in wires)):
        if status != 200:
            tally.fail(case, f"{status} for a key that stood", "mixed up")
    revoked: list[float] = []
    asking = [asyncio.ensure_future(_until_refused(wire, request, revoked)) for wire in wires]
    await asyncio.to_thread(registry.revoke_key, key.id, "soak", "a promise", datetime.now(UTC))
    revoked.append(time.monotonic())
    for status, last in await asyncio.gather(*asking):
        if status not in (200, 401):  # who is still served is told by how long
            tally.fail(case, f"{status} for a revoked key", "not refused as such")
        tally.measure("seconds", max(0.0, last - revoked[0]))
    tally.count("revoked")
    for wire in wires:
        wire.cut()


async def _until_known(wire: Wire, request: bytes) -> int:
    """Ask until the key is known; return the last status."""
    end = time.monotonic() + SECONDS
    while (status := await _status(wire, request)) == 401 and time.monotonic() < end:
        await asyncio.sleep(0.01)
    return status


async def _until_refused(wire: Wire, request: bytes, revoked: list[float]) -> tuple[int, float]:
    """Ask until it is not served any more; return what came then, and when the last served request was sent."""
    last = 0.0
    while True:
        sent = time.monotonic()
        status = await _status(wire, request)
        if status != 200:
            return status, last
        last = sent
        if revoked and sent > revoked[0] + SECONDS:
            return status, last


async def _status(wire: Wire, request: bytes) -> int:
    """Return the status of a reply; 0 where none came."""
    reply = await wire.ask(request, SECONDS)
    return reply.status if reply is not None else 0


def judge(tally: Tally) -> list[str]:
    """No forgery is let in, every key is, as itself; a revoked key is refused, with 401, within the second.

    Of the two broken builds both must be found: a control with one of them is none.
    """
    counts = tally.counts
    found = [f"{what}: {counts[what]:,} of {counts['forged']:,}" for what in ("let in", "mixed up") if counts[what]]
    if counts["not refused as such"]:
        found.append(f"a revoked key met something else than 401 {counts['not refused as such']:,} times")
    if not (counts["forged"] and counts["real"]) or counts["revoked"] < counts["due"]:
        found.append("not everything was tried")
    longest = tally.quantile("seconds", 1.0)
    if longest > LONGEST:
        found.append(f"a revoked key was served for {longest:.2f} s; at most {LONGEST:g} s were asked")
    if counts["broken"] and not (counts["let in"] and longest > LONGEST):
        return []
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['forged']:,} forgeries: {counts['let in']} let in; {counts['real']:,} real ones, "
        f"{counts['mixed up']} mixed up; {counts['revoked']} keys revoked under {CONNECTIONS} connections to two "
        f"workers: served for "
        f"{tally.quantile('seconds', 0.5):.2f} s (median), {tally.quantile('seconds', 1.0):.2f} s at most"
    )


PROMISE = Promise(
    id="X6",
    says="No identity or cache mix-ups",
    asked="1 million forged keys with shared prefixes: 0 hits; a revoked key is refused within 1 s on all workers",
    unit="forged keys",
    full=1_000_000,
    sample=5_000,
    slow=50_000,
    control=500,
    chunk=100_000,
    run=run,
    judge=judge,
    seen=seen,
    timed=True,
)
