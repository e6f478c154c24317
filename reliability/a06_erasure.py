"""A6: subjects are erased one after another; no byte of home or backup tells of them, and every proof still holds.

Their texts came through a served gateway and lie in ledger, review queue, snapshots, held-out rows and a backup. After
each erasure its rows are looked for, all files are scanned, and what is sealed is tried with every key that is left.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from insource.cli.answered import hand_over
from insource.governance import erasure
from insource.governance.verifier import verify_ledger
from insource.store.ledger import FILE
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.verify import Outside, verify
from insource.store.registry import Registry
from reliability.erasable import CANARY, PLAIN, Subjects, TellingUpstream, configure, name_of
from reliability.guesses import Guesser, plain_digest_is_known
from reliability.harness import Promise, Tally
from reliability.keeping_builds import keeping_keys, keeping_rows
from reliability.running_gateway import RunningGateway, running, until
from reliability.sealed_blobs import blobs_of, keys_left, read

BATCH = 250
"""Subjects of one home."""
LIVING = 500_000
"""The number of the first who is not erased."""
SECONDS = 1.0
LATER = 3.0
"""How soon a running gateway has deleted the sealed texts of an erased subject."""
ROWS = "SELECT count(*) FROM contents WHERE subject = ?"
NUMBERS = 150
"""Guessed at for each subject, seven texts each."""
FORCED_EVERY = 5
WRONG = (
    "plain texts left", "opened once erased", "keys left", "rows left", "late texts kept", "not named",
    "acts missing", "proofs broken", "guessed", "living texts lost",
)  # fmt: skip
TRIED = ("erased", "erased beside a gateway", "living opened", "forced open", "plain rows seen", "guesses",
         "control guesses that match", "proofs checked", "ledgers verified", "sealed texts tried")  # fmt: skip


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Erase one subject for each case; `broken` keeps keys and rows, and none is erased beside a gateway."""
    tally = Tally()
    tally.count("broken", broken)
    with ExitStack() as patched:
        if broken:
            patched.enter_context(keeping_keys())
            patched.enter_context(keeping_rows())
        for first in range(cases.start, cases.stop, BATCH):
            place = folder / str(first)
            place.mkdir()
            some = range(first, min(first + BATCH, cases.stop))
            await _Home(tally, some, place).live(beside=0 if broken else max(1, len(some) // 10))
            shutil.rmtree(place)
    return tally


def judge(tally: Tally) -> list[str]:
    """Each within a second, nothing of them left, all else there and proved.

    Of the two broken builds both must be found: a control with one of them is none.
    """
    counts = tally.counts
    if counts["broken"] and not (counts["opened once erased"] and counts["keys left"] and counts["rows left"]):
        return []
    found = [f"{what}: {counts[what]:,} ({counts['erased']:,} subjects)" for what in WRONG if counts[what]]
    for what, most in (("seconds", SECONDS), ("seconds beside a gateway", SECONDS), ("until the rows go", LATER)):
        if (longest := tally.quantile(what, 1.0)) > most:
            found.append(f"{what}: {longest:.2f}, at most {most:g} were expected")
    missing = [what for what in TRIED if not counts[what] and not counts["broken"]]
    return found + ([f"not tried: {', '.join(missing)}"] if missing else [])


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    wrong = ", ".join(f"{counts[what]:,} {what}" for what in WRONG)
    return (
        f"{counts['erased']:,} subjects erased, {counts['erased beside a gateway']:,} of them beside a gateway, each "
        f"in {tally.quantile('seconds', 1.0) * 1000:.0f} ms at most (p50 {tally.quantile('seconds', 0.5) * 1000:.0f}); "
        f"deleted by a gateway after {tally.quantile('until the rows go', 1.0):.1f} s; "
        f"{counts['bytes scanned'] / 1e9:.1f} GB scanned, {counts['sealed texts tried']:,} sealed texts tried, "
        f"{counts['living opened']:,} of the living opened; {counts['guesses']:,} guesses, "
        f"{counts['control guesses that match']:,} of the living match; {counts['proofs checked']:,} proofs; {wrong}; "
        f"{counts['in specialists that were named']:,} words of them in specialists that were named, "
        f"{counts['names confirmed']:,} names confirmed by who holds content_keys.db, "
        f"{counts['sealed bytes in the file']:,} sealed texts whose bytes the ledger's file still had"
    )


class _Home:
    """One home, its backup, and the subjects that are erased in it."""

    def __init__(self, tally: Tally, cases: range, place: Path) -> None:
        self.tally, self.cases, self.place = tally, cases, place
        living = range(LIVING + cases.start, LIVING + cases.start + max(8, len(cases) // 10))
        self.subjects = Subjects(place / "home", place / "backup", cases, living)
        self.erased: list[int] = []
        self.learned: set[str] = set()

    async def live(self, beside: int) -> None:
        """Fill a home, erase so many beside its gateway and the others once it has stopped, and look after each."""
        async with TellingUpstream() as upstream:
            file = configure(self.subjects.home, upstream.url)
            async with running(file) as gateway:
                await self.subjects.fill(gateway)
                for number in self.cases[:beside]:
                    await self._erase_beside(number, gateway)
                gateway.signal(signal.SIGTERM)
                await gateway.process.wait()
        self._check_late(self.cases[:beside])
        with Registry.open(self.subjects.home) as registry:
            for number in self.cases[beside:]:
                started = time.perf_counter()
                done = self._erase(number, registry)
                hand_over(self.subjects.config, registry)
                self.tally.measure("seconds", time.perf_counter() - started)
                self._look(number, done)
                if len(self.erased) == beside + 1:
                    self._guess(list(self.cases[: beside + 1]))
        self._check_all()
        self._check_proofs()
        self._guess(self._dictionary())

    def _erase(self, number: int, registry: Registry) -> erasure.Erased:
        home, now = self.subjects.home, datetime.now(UTC)
        done = erasure.erase(home, registry, name_of(number), "dpo", f"ticket {number}", now)
        self.erased.append(number)
        self.tally.count("erased")
        return done

    async def _erase_beside(self, number: int, gateway: RunningGateway) -> None:
        with Registry.open(self.subjects.home) as registry:
            started = time.perf_counter()
            done = await asyncio.to_thread(self._erase, number, registry)
            self.tally.measure("seconds beside a gateway", time.perf_counter() - started)
            await until(lambda: not registry.outgoing_acts())
            self.see_rows_gone(number)
            self.tally.measure("until the rows go", time.perf_counter() - started)
        self.tally.count("erased beside a gateway")
        await self.subjects.ask(gateway.port, [(number, "letters"), (self.subjects.living[0], "letters")])
        self._look(number, done)

    def see_rows_gone(self, number: int) -> None:
        """See that the ledger has no row of a subject's texts any more, once its writer has got the act."""
        if left := read(self.subjects.home / FILE, ROWS, (self.subjects.keys[number],))[0][0]:
            self.tally.fail(number, f"{left} rows of its texts are in the ledger", "rows left")

    def _check_late(self, beside: range) -> None:
        """See that what came after an erasure was recorded and not kept."""
        with LedgerReader(self.subjects.home) as ledger:
            for number in beside:
                row = ledger.decision(self.subjects.requests[number]["letters"])
                if row is None or row.settlement is None or row.content is not None:
                    self.tally.fail(number, f"what came late: {row}", "late texts kept")

    def _look(self, number: int, done: erasure.Erased) -> None:
        """Scan every file, and try what is sealed about a subject with every key that is left."""
        self.learned |= {version.digest for version in done.traces.learned}
        wanted = {"tickets@1", "filed@1"} if number == self.subjects.filed else {"tickets@1"}
        if wanted != {version.name for version in done.traces.learned}:
            self.tally.fail(number, f"named: {[version.name for version in done.traces.learned]}", "not named")
        self.see_rows_gone(number)
        self._scan()
        keys, key = keys_left(self.subjects.home), self.subjects.keys[number]
        if key in keys.secrets:
            self.tally.fail(number, "its key is there", "keys left")
        texts = [*self.subjects.blobs[key], *self.subjects.copies[key]]
        for blob in texts:
            tried = blob.forced(keys) if number % FORCED_EVERY == 0 else blob.opened(keys)
            self.tally.count("sealed texts tried")
            if tried is not None:
                self.tally.fail(number, f"{blob.where} was opened: {tried[:60]!r}", "opened once erased")
        raw = b"".join(path.read_bytes() for path in self.subjects.home.glob("*.db*"))
        for blob in self.subjects.blobs[key]:
            self.tally.count("sealed bytes in the file", blob.where == "ledger" and blob.data in raw)
        self._look_at_the_living(number)

    def _look_at_the_living(self, number: int) -> None:
        """See that the texts of one who was not erased are opened, in the home and in its backup."""
        keys, living = keys_left(self.subjects.home), self.subjects.living[number % len(self.subjects.living)]
        key = self.subjects.keys[living]
        for found in (self.subjects.blobs[key], self.subjects.copies[key]):
            opened = [text for blob in found if (text := blob.opened(keys)) is not None]
            self.tally.count("living opened", len(opened))
            for where in ("ledger", "snapshots"):
                if not any(blob.where == where for blob in found):
                    self.tally.fail(living, f"nothing of {where} was sealed", "living texts lost")
            if len(opened) < len(found) or f"kanarie{living:06d}".encode() not in b"".join(opened):
                self.tally.fail(living, "a text of one who was not erased is not opened", "living texts lost")
        if number % FORCED_EVERY == 0:
            self.tally.count("forced open", self.subjects.copies[key][0].forced(keys) is not None)

    def _scan(self) -> None:
        """Look at every byte of home and backup for words of the erased; those in the clear are seen: the control."""
        erased = set(self.erased)
        for path in (*self.subjects.home.rglob("*"), *self.subjects.backup.rglob("*")):
            if not path.is_file():
                continue
            data = path.read_bytes()
            self.tally.count("bytes scanned", len(data))
            numbers = {int(found) for found in CANARY.findall(data)}
            self.tally.count("plain rows seen", PLAIN in numbers)
            for number in numbers & erased:
                if path.parent.name in self.learned:
                    self.tally.count("in specialists that were named")
                else:
                    self.tally.fail(number, f"a word of it in {path.relative_to(self.place)}", "plain texts left")

    def _check_all(self) -> None:
        """Open all that is sealed, wherever; nothing may be of the erased, and all of the living must be there."""
        keys, erased = keys_left(self.subjects.home), set(self.erased)
        for folder in (self.subjects.home, self.subjects.backup):
            told: set[int] = set()
            for blob in blobs_of(folder):
                self.tally.count("sealed texts tried")
                told |= {int(found) for found in CANARY.findall(blob.opened(keys) or b"")}
            for number in told & erased:
                self.tally.fail(number, f"opened in {folder.name}", "opened once erased")
            for number in set(self.subjects.living) - told:
                self.tally.fail(number, f"not in {folder.name}", "living texts lost")

    def _check_proofs(self) -> None:
        """Verify the ledger by both implementations, and the proofs of requests that were made before."""
        kept = self.place / "kept"
        kept.write_text(self.subjects.note)
        faults = verify(self.subjects.home, Outside(None, {"kept": self.subjects.note}), lambda done, of: None).faults
        told: list[str] = []
        second = verify_ledger.main([str(self.subjects.home), "--checkpoint", str(kept)], told.append)
        self.tally.count("ledgers verified")
        if faults or second:
            self.tally.fail(self.cases[0], f"{[each.what for each in faults]}, {told}", "proofs broken")
        for number, proof in self.subjects.proofs.items():
            kept.write_text(proof)
            self.tally.count("proofs checked")
            if verify_ledger.main([str(kept)], told.append):
                self.tally.fail(number, "a proof made before is refused", "proofs broken")
        with LedgerReader(self.subjects.home) as ledger:
            acts = [act for act in ledger.acts() if act.what == "erase"]
        if len(acts) != len(self.erased) or any("kanarie" in json.dumps(str(act)) for act in acts):
            self.tally.fail(self.cases[0], f"{len(acts)} acts", "acts missing")

    def _dictionary(self) -> list[int]:
        others = range(100_000, 100_000 + NUMBERS * len(self.cases))
        return [*self.cases, *self.subjects.living, *others]

    def _guess(self, numbers: list[int]) -> None:
        """Guess at all commitments that are left, by a dictionary that has the truth in it."""
        guesser, erased = Guesser(self.subjects), set(self.erased)
        for number in numbers:
            self.tally.count("guesses", 7)
            for what, _ in guesser.guess(number):
                if number not in erased:
                    self.tally.count("control guesses that match")
                elif what == "names by the secret":
                    self.tally.count("names confirmed")
                else:
                    self.tally.fail(number, f"guessed by {what}", "guessed")
        if not plain_digest_is_known(self.subjects.home):
            self.tally.fail(self.cases[0], "the guesser cannot make the digest of a snapshot", "guessed")


PROMISE = Promise(
    id="A6",
    says="Erasure is real and proofs survive",
    asked="1,000 subjects erased, each within 1 s: 0 plaintext hits scanning raw database, WAL, free pages, tiles, "
    "backups, training sets; the ledger still verifies; 1 million dictionary guesses against remaining commitments: 0 "
    "matches",
    unit="subjects",
    full=1_000,
    sample=8,
    slow=60,
    control=6,
    chunk=BATCH,
    run=run,
    judge=judge,
    seen=seen,
    timed=True,
    open="a specialist keeps what it learned, words of the texts among them, until it is trained again: it is named. "
    "SQLite leaves some deleted bytes within pages, sealed under a key that is gone. Who holds content_keys.db can "
    "confirm that a name he guesses was erased, as it must be known of whom nothing is to be kept; not what was said",
)
