"""A home with texts about many subjects in every place that keeps any: filled by a gateway, learned from, copied.

Each text bears a word that nobody else says. It knows subjects by their numbers; it erases nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from asyncio import StreamReader, StreamWriter
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from insource.config import Config, load
from insource.lifecycle.learn import Learned, School
from insource.store.artifacts import ArtifactStore
from insource.store.backup import back_up
from insource.store.content_keys import ContentKeys
from insource.store.ledger import FILE, LAST_SEQ
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.folder import ProofFolder
from insource.store.proof.note import Checkpoint
from insource.store.proof.proving import Prover
from insource.store.registry import Registry
from insource.training.recipe import Recipe
from insource.training.run import train
from insource.types import Example, Message, Request, Task
from reliability.plain_upstream import PlainUpstream
from reliability.raw_http import Wire
from reliability.running_gateway import LONGEST, RunningGateway, post, until
from reliability.sealed_blobs import Blob, blobs_of, read
from reliability.served import make_home

CANARY = re.compile(rb"kanarie(\d{6})[a-z]+")
ANSWERS = ("card", "refund")
CLIENTS = 12
PLAIN = 999_999
"""Stands in rows of a file that are about nobody: those lie in the clear."""
PLAIN_ROWS = 24


def canary(number: int, what: str) -> str:
    """Return the word that only this subject's text has."""
    return f"kanarie{number:06d}{what}"


def name_of(number: int) -> str:
    """Return the subject as requests name it."""
    return canary(number, "name")


TEXTS: dict[str, Callable[[int], str]] = {
    "letters": lambda number: f"A letter of {canary(number, 'letter')}, about my card.",
    "triage": lambda number: f"Where is the card that {canary(number, 'triage')} ordered?",
    "notes": lambda number: f"A note of {canary(number, 'note')} on a refund.",
    "review": lambda number: f"May {canary(number, 'review')} have a refund?",
    "tickets": lambda number: f"Ticket of {canary(number, 'ticket')}, {ANSWERS[number % 2]} lost.",
    "again": lambda number: f"Once more {canary(number, 'again')} asks: my {ANSWERS[number % 2]}.",
    "filed": lambda number: f"From a file: {canary(number, 'filed')} wants a {ANSWERS[number % 2]}.",
}
"""What a subject says, by kind: all but the last to a gateway, which tells by the task; guessed as well."""
TASK_OF = {kind: "tickets" if kind == "again" else kind for kind in TEXTS if kind != "filed"}


class TellingUpstream(PlainUpstream):
    """An upstream that answers tickets from a closed set, and everything else with a word of its own."""

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        found = CANARY.search(body)
        number = int(found[1]) if found else PLAIN
        closed = b"ticket" in body or b"again" in body
        said = ANSWERS[number % 2] if closed else canary(number, "answer")
        data = json.dumps({
            "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }).encode()  # fmt: skip
        writer.write(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\n"
                     b"content-length: %d\r\n\r\n%b" % (len(data), data))  # fmt: skip
        await writer.drain()


def configure(home: Path, upstream: str) -> Path:
    """Return the configuration of a home whose tasks keep texts, or digests alone, and one whose texts wait."""
    file = make_home(home, upstream)
    lines = [
        "[gateway]", "port = 0", "drain_s = 2", 'default_upstream = "stub"', "[store]", f'home = "{home}"',
        "[upstreams.stub]", f'base_url = "{upstream}"', 'model = "stub"',
    ]  # fmt: skip
    for name in ("letters", "tickets"):
        lines += [f"[tasks.{name}]", 'content = "full"', "audit_rate = 0"]
    lines += ["[tasks.triage]", 'content = "full"', "audit_rate = 1", "[tasks.notes]", "audit_rate = 0"]
    lines += ["[tasks.review]", "audit_rate = 0", 'sensitivity = "restricted"', 'when_kept = "review"']
    file.write_text("\n".join(lines) + "\n")
    return file


@dataclass
class Subjects:
    """The subjects of one home: those to be erased, and those who live; their requests, keys and sealed texts.

    `blobs` are those of the home and of its backup by the id of the subject's key, as they were before any erasure;
    `proofs` are of some requests, `note` is a checkpoint, both kept outside.
    """

    home: Path
    backup: Path
    cases: range
    living: Sequence[int]
    requests: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    keys: dict[int, bytes] = field(default_factory=dict)
    blobs: dict[bytes, list[Blob]] = field(default_factory=lambda: defaultdict(list))
    copies: dict[bytes, list[Blob]] = field(default_factory=lambda: defaultdict(list))
    proofs: dict[int, str] = field(default_factory=dict)
    note: str = ""

    @property
    def config(self) -> Config:
        """The home's settings."""
        return load(self.home / "insource.toml")

    @property
    def filed(self) -> int:
        """The one subject of the file that a small specialist learned from."""
        return self.cases[0]

    async def fill(self, gateway: RunningGateway) -> None:
        """Have all of them ask a gateway, people answer, specialists learn, and a backup be made."""
        kinds = [(number, kind) for kind in TASK_OF for number in (*self.cases, *self.living)]
        await self.ask(gateway.port, kinds)
        with Registry.open(self.home) as registry, LedgerReader(self.home) as ledger:
            await until(lambda: all(self._settled(ledger, number) for number in (*self.living, *self.cases)))
            for review in registry.reviews():
                if (found := CANARY.search((review.text or "").encode())) and int(found[1]) % 2:
                    registry.answer_review(review.request_id, "card", "ada", datetime.now(UTC))
            await until(lambda: not registry.outgoing_acts() and not registry.outgoing_feedback())
        await self._learn()
        (last,) = read(self.home / FILE, f"SELECT ({LAST_SEQ})")[0]
        assert await until(lambda: self._signed() >= last), "nothing signs the ledger"
        self.backup.mkdir()
        await asyncio.to_thread(back_up, self.home, self.backup, settings=self.home / "insource.toml",
                                now=datetime.now(UTC), say=_quiet)  # fmt: skip
        self._note()

    def _signed(self) -> int:
        note = ProofFolder(self.home).checkpoint()
        return 0 if note is None else Checkpoint.read(note).size

    def _settled(self, ledger: LedgerReader, number: int) -> bool:
        rows = [ledger.decision(each) for each in self.requests[number].values()]
        return all(row is not None and row.settlement is not None for row in rows)

    async def ask(self, port: int, kinds: Iterable[tuple[int, str]]) -> None:
        """Send requests, each of a subject and of a kind."""
        left = iter(list(kinds))
        await asyncio.gather(*(self._client(port, left) for _ in range(CLIENTS)))

    async def _client(self, port: int, left: Iterator[tuple[int, str]]) -> None:
        wire = await Wire.open(port)
        for number, kind in left:
            body = {"model": f"task:{TASK_OF[kind]}", "user": name_of(number),
                    "messages": [{"role": "user", "content": TEXTS[kind](number)}]}  # fmt: skip
            told = await wire.ask(post(body), LONGEST)
            assert told is not None and (told.status == 200 or kind == "review"), f"{kind}: {told}"
            self.requests[number][kind] = told.headers["x-insource-request-id"]
        wire.cut()

    async def _learn(self) -> None:
        """Train one specialist on the ledger's tickets, and one on a file with a row of one subject."""
        with Registry.open(self.home) as registry, LedgerReader(self.home) as ledger:
            artifacts = ArtifactStore(self.home)
            school = School(ledger, registry, artifacts, home=self.home, say=_quiet, now=lambda: datetime.now(UTC))
            recipe = Recipe(family="linear")
            learned = await asyncio.to_thread(school.learn, self.config.tasks["tickets"], recipe, anyway=True)
            assert isinstance(learned, Learned), str(learned)
            await asyncio.to_thread(
                train, [*plain_rows(), filed_row(self.filed)], Task("filed"), recipe, home=self.home,
                registry=registry, artifacts=artifacts, say=_quiet, now=lambda: datetime.now(UTC),
            )  # fmt: skip

    def _note(self) -> None:
        with ContentKeys.open(self.home) as keys:
            for number in (*self.cases, *self.living):
                (self.keys[number],) = keys.ids_of(name_of(number))
        for folder, found in ((self.home, self.blobs), (self.backup, self.copies)):
            for blob in blobs_of(folder):
                for each in blob.seal:
                    found[each].append(blob)
        with Prover(self.home) as prover:
            self.note = prover.note
            for number in self.cases[:: max(1, len(self.cases) // 10)]:
                self.proofs[number] = json.dumps(prover.prove(self.requests[number]["letters"]))


def plain_rows() -> list[Example]:
    """Return rows of a file that are about nobody."""
    return [
        Example(Request(f"plain-{row}", (Message("user", f"{canary(PLAIN, 'plain')} {row}: {ANSWERS[row % 2]}"),)),
                ANSWERS[row % 2])
        for row in range(PLAIN_ROWS)
    ]  # fmt: skip


def filed_row(number: int) -> Example:
    """Return the row of a file that names a subject."""
    request = Request("filed", (Message("user", TEXTS["filed"](number)),), fields={"user": name_of(number)})
    return Example(request, ANSWERS[number % 2])


def _quiet(title: str) -> Callable[[int, int | None], None]:
    return lambda done, of: None
