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
from reliability.running_gateway import PLAIN, RunningGateway, post, running

KEYS = 20
REAL_EVERY = 50
REVOKED_EVERY = 100_000
REVOCATIONS = 2
KNOWN_SECONDS = 0.8
CONNECTIONS = 12
LONGEST = 1.0
SECONDS = 5.0
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
_DIGITS = string.digits + string.ascii_letters
SHARED = 20
"""Characters that the broken build looks at (CVE-2026-35030)."""


class Prefixes(Keyring):
    """The broken build: it finds a key by how it begins."""

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
    """Try a forgery for each case; `broken` finds keys by their first 20 characters."""
    tally, texts = Tally(), []
    with Registry.open(folder / "door") as registry:
        for number in range(KEYS):
            key, text = registry.create_key(Key("", f"key {number}", NOON, "soak"), "a promise")
            texts.append((key, text))
        expired, text = registry.create_key(
            Key("", "over", NOON, "soak", expires=NOON + timedelta(days=1)), "a promise"
        )
        late = text if expired.expires else ""
        ring = (Prefixes if broken else Keyring)(registry, lambda: NOON + timedelta(days=2), loopback=True)
        if isinstance(ring, Prefixes):
            ring.by_text = {text[:SHARED]: key for key, text in texts}
        await ring.refresh()
        for case in cases:
            _try(tally, case, ring, texts, late)
    if not broken and any(case % REVOKED_EVERY == 0 for case in cases):
        await _revoke_while_serving(tally, cases.start, folder / "served")
    return tally


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


async def _revoke_while_serving(tally: Tally, case: int, home: Path) -> None:
    home.mkdir()
    async with PlainUpstream() as upstream:
        file = home / "insource.toml"
        file.write_text(
            f'[gateway]\nport = 0\nworkers = 2\ndrain_s = 1\n[store]\nhome = "{home}"\n[upstreams.stub]\n'
            f'base_url = "{upstream.url}"\n'
        )
        with Registry.open(home) as registry:
            async with running(file) as gateway:
                for number in range(REVOCATIONS):
                    await _revoke(tally, case, number, registry, gateway)


async def _revoke(tally: Tally, case: int, number: int, registry: Registry, gateway: RunningGateway) -> None:
    key, text = registry.create_key(Key("", f"served {number}", datetime.now(UTC), "soak"), "a promise")
    await asyncio.sleep(KNOWN_SECONDS)
    wires = [await Wire.open(gateway.port) for _ in range(CONNECTIONS)]
    revoked: list[float] = []
    asking = [asyncio.ensure_future(_until_refused(wire, text, revoked)) for wire in wires]
    await asyncio.sleep(0.2)
    await asyncio.to_thread(registry.revoke_key, key.id, "soak", "a promise", datetime.now(UTC))
    revoked.append(time.monotonic())
    for served, last in await asyncio.gather(*asking):
        if not served:
            tally.fail(case, "a key that stood was not let in", "mixed up")
        tally.measure("seconds", max(0.0, last - revoked[0]))
    tally.count("revoked")
    for wire in wires:
        wire.cut()


async def _until_refused(wire: Wire, text: str, revoked: list[float]) -> tuple[int, float]:
    """Ask until 401; return how often it was served, and when the last served request was sent."""
    served, last = 0, 0.0
    while True:
        sent = time.monotonic()
        reply = await wire.ask(post(PLAIN, f"x-api-key: {text}"), SECONDS)
        if reply is None or reply.status != 200 or (revoked and sent > revoked[0] + SECONDS):
            return served, last
        served, last = served + 1, sent


def judge(tally: Tally) -> list[str]:
    """No forgery is let in, every key is, as itself; a revoked key is refused within the second."""
    counts = tally.counts
    found = [f"{what}: {counts[what]:,} of {counts['forged']:,}" for what in ("let in", "mixed up") if counts[what]]
    if not (counts["forged"] and counts["real"] and counts["revoked"]):
        found.append("not everything was tried")
    longest = tally.quantile("seconds", 1.0)
    if longest > LONGEST:
        found.append(f"a revoked key was served for {longest:.2f} s; at most {LONGEST:g} s were asked")
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
