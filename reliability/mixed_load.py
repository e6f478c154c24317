"""Clients of a gateway that is killed, and a person at work beside it; what was acknowledged is written down elsewhere.

A line of the journal is what somebody was told: an id in the head of a reply, or what a call returned. It knows
requests and replies; what the gateway keeps of them, `r01_kills` asks.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from reliability.killable import PROJECT, kill
from reliability.plain_upstream import ENDLESS
from reliability.raw_http import Reply, Wire
from reliability.running_gateway import LONGEST, until

CLIENTS = 6
DECIDED, MADE, REVOKED, VERSION, ANSWER = "decided", "key made", "key revoked", "version", "answer by "
"""The kinds of lines; who answered stands behind the last."""
PATIENCE = 0.2
"""How long a client listens to a stream that does not end."""
TEXTS = ("where is my card", "refund this", "a transfer is late", "it is lost")


@dataclass
class Journal:
    """What was acknowledged: in memory and in a file outside the home."""

    file: Path
    lines: list[tuple[str, str]] = field(default_factory=list)

    def write(self, kind: str, what: str) -> None:
        """Note what somebody was told."""
        with self.file.open("a") as file:
            file.write(json.dumps((kind, what)) + "\n")
        self.lines.append((kind, what))

    def of(self, kind: str) -> list[str]:
        """Return all that was noted of a kind."""
        return [what for noted, what in self.lines if noted == kind]


@dataclass
class Load:
    """Clients of one gateway, with a key to ask with and one to administer with.

    `strike` is called once, with the next reply that no upstream had a part in: no sooner can a client have one.
    """

    port: int
    key: str
    admin: str
    journal: Journal
    chance: Random
    answerable: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    refused: int = 0
    strike: Callable[[], None] | None = None
    _number: int = 0
    _stopped: bool = False
    _jobs: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self._jobs = [asyncio.ensure_future(self._keep_asking()) for _ in range(CLIENTS)]

    async def stop(self) -> None:
        """Have every client finish its last request."""
        self._stopped = True
        await asyncio.gather(*self._jobs)

    async def more(self, number: int) -> bool:
        """Wait until that many more requests were decided; return whether that was in time."""
        enough = len(self.journal.lines) + number
        return await until(lambda: len(self.journal.lines) >= enough)

    async def _keep_asking(self) -> None:
        wire: Wire | None = None
        while not self._stopped:
            kinds = (self._chat, self._answer, self._make, self._revoke)
            kind = self.chance.choices(kinds, (20, 2, 1, 1))[0]
            try:
                wire = wire or await Wire.open(self.port)
                going = await kind(wire)
            except OSError:
                wire, going = None, True
                await asyncio.sleep(0.01)
            if wire is not None and (not going or self.chance.random() < 0.2):
                wire.cut()
                wire = None
        if wire is not None:
            wire.cut()

    async def _chat(self, wire: Wire) -> bool:
        model = self.chance.choice(("gpt-4o", "task:triage", "task:triage", "task:secret", ENDLESS))
        self._number += 1
        text = f"{self.chance.choice(TEXTS)} {self._number}"
        stream = model == ENDLESS or self.chance.random() < 0.4
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
        reply = await self._asked(wire, "POST /v1/chat/completions", self.key, body)
        if reply is not None and "x-insource-reason" in reply.headers:
            if self.strike is not None and reply.headers["x-insource-served-by"] != "stub":
                strike, self.strike = self.strike, None
                strike()
            self.journal.write(DECIDED, reply.headers["x-insource-request-id"])
            if model == "task:triage":
                self.answerable.append(reply.headers["x-insource-request-id"])
        return reply is not None and reply.whole

    async def _answer(self, wire: Wire) -> bool:
        if not self.answerable:
            return True
        self._number += 1
        who, about = f"client {self._number}", self.chance.choice(self.answerable)
        body = {"request_id": about, "answer": "card", "who": who}
        reply = await self._asked(wire, "POST /v1/insource/feedback", self.key, body)
        return self._acknowledged(reply, ANSWER + who, "request_id")

    async def _make(self, wire: Wire) -> bool:
        reply = await self._asked(wire, "POST /v1/insource/keys", self.admin, {"name": f"client {self._number}"})
        if reply is not None and reply.whole and reply.status == 200:
            self.keys.append(json.loads(reply.body)["id"])
        return self._acknowledged(reply, MADE)

    async def _revoke(self, wire: Wire) -> bool:
        if not self.keys:
            return True
        key = self.keys.pop()
        reply = await self._asked(wire, f"DELETE /v1/insource/keys/{key}", self.admin, {"why": "a promise"})
        return self._acknowledged(reply, REVOKED)

    def _acknowledged(self, reply: Reply | None, kind: str, field: str = "id") -> bool:
        """Note an act whose reply came whole; return whether the connection may go on."""
        if reply is None or not reply.whole:
            return False
        if reply.status == 200:
            self.journal.write(kind, json.loads(reply.body)[field])
        else:
            self.refused += 1
        return True

    async def _asked(self, wire: Wire, what: str, key: str, body: dict[str, object]) -> Reply | None:
        """Return a reply, which may be cut off after its head; None where no head came."""
        data = json.dumps(body).encode()
        head = f"{what} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\ncontent-length: {len(data)}\r\n"
        wire.send(f"{head}content-type: application/json\r\n\r\n".encode() + data)
        await wire.until(1, PATIENCE if body.get("model") == ENDLESS else LONGEST)
        reply = wire.replies.pop(0) if wire.replies else None
        return reply if reply is not None and reply.status else None


class Person:
    """The process that administers beside the gateway; see `administering`."""

    def __init__(self, home: Path, load: Load) -> None:
        self._home, self._load, self._started = home, load, 0
        self._process: asyncio.subprocess.Process | None = None
        self._job: asyncio.Task[None]

    def start(self) -> None:
        """Begin."""
        self._job = asyncio.ensure_future(self._keep_acting())

    def kill(self) -> None:
        """Kill the process; another one takes its place."""
        if self._process is not None and self._process.returncode is None:
            kill(self._process.pid)

    async def stop(self) -> None:
        """End it, and the process."""
        self._job.cancel()
        await asyncio.wait((self._job,))
        if not self._job.cancelled():
            self._job.result()

    async def _keep_acting(self) -> None:
        try:
            while True:
                await self._act()
        finally:
            self.kill()

    async def _act(self) -> None:
        """Have one process act until it is killed."""
        self._started += 1
        command = (sys.executable, "-m", "reliability.administering", str(self._home), str(self._started))
        self._process = process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=PROJECT
        )
        assert process.stdin is not None and process.stdout is not None
        with suppress(ConnectionError):
            while True:
                await until(lambda: bool(self._load.answerable))
                process.stdin.write(self._load.chance.choice(self._load.answerable).encode() + b"\n")
                line = await process.stdout.readline()
                if not line.endswith(b"\n"):
                    break
                self._load.journal.write(*json.loads(line))
                await asyncio.sleep(0.03)
        await process.wait()
