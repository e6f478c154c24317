"""Requests of every kind that a gateway gets, each with a mark of its own; what each client was told of its request.

It knows kinds, keys and replies; what the ledger says of them, `a05_one_record` asks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from insource.store.registry import Registry
from insource.types import Key, Limits
from reliability.load import NOON
from reliability.matching_upstream import BREAKS, FAILS, HANGS, TRICKLES, MatchingUpstream, mark
from reliability.raw_http import Reply, Wire
from reliability.running_gateway import LONGEST, until

CHAT, FEEDBACK, KEYS = "POST /v1/chat/completions", "POST /v1/insource/feedback", "POST /v1/insource/keys"
CLIENTS = 8
ANSWERED = {
    "served": 24, "served, streamed": 8, "passed up": 12, "passed up, streamed": 5, "embedded above": 2, "listed": 1,
    "passed on": 2, "shadowed": 12, "kept, best": 4, "kept, review": 4, "refused as restricted": 4,
    "failed above": 3, "broken off above": 2,
}  # fmt: skip
"""Kinds that reach a decision, with how often they come."""
LEFT = {"left before the head": 2, "left in the stream": 2}
UNDECIDED = {
    "left in the body": 2, "wrong key": 4, "no key": 2, "revoked key": 2, "out of scope": 3, "no budget": 2,
    "malformed": 2,
}  # fmt: skip
ADMINISTRATIVE = {"feedback": 4, "made a key": 2, "revoked a key": 1, "keys listed": 1}
KINDS = ANSWERED | LEFT | UNDECIDED | ADMINISTRATIVE
MODELS = {
    "passed up": "gpt-4o", "passed up, streamed": "gpt-4o", "shadowed": "task:shadowed", "kept, best": "task:best",
    "kept, review": "task:review", "refused as restricted": "task:secret", "failed above": "task:failing",
    "broken off above": "task:failing", "left before the head": "task:slow", "left in the stream": "task:slow",
    "out of scope": "task:secret", "no budget": "gpt-4o",
}  # fmt: skip
"""What a chat of a kind asks for; the others ask for triage."""
WORDS = {
    "failed above": FAILS, "broken off above": BREAKS, "left before the head": HANGS, "left in the stream": TRICKLES,
}  # fmt: skip
TEXTS = ("where is my card", "refund this", "a transfer is late", "it is lost")


@dataclass(slots=True)
class Asked:
    """A client's request: its kind, its body, its reply as far as it came (None: no head), and the id it was told."""

    kind: str
    body: bytes = b""
    reply: Reply | None = None

    @property
    def request_id(self) -> str | None:
        """The id in the reply's head."""
        return None if self.reply is None else self.reply.headers.get("x-insource-request-id")


@dataclass
class Askers:
    """Clients of one gateway; `asked` has each request by its number, `answers` and `keys` what became of acts."""

    port: int
    keys: dict[str, str]
    upstream: MatchingUpstream
    asked: dict[int, Asked] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    _answerable: list[str] = field(default_factory=list)

    async def ask(self, cases: range) -> None:
        """Send the requests of the cases, a few at once."""
        left = iter(cases)
        await asyncio.gather(*(self._client(left) for _ in range(CLIENTS)))

    async def _client(self, left: Iterator[int]) -> None:
        wire: Wire | None = None
        for case in left:
            chance = Random(case)
            kind = chance.choices([*KINDS], [*KINDS.values()])[0]
            self.asked[case] = asked = Asked(kind)
            wire = wire if wire is not None and not wire.closed else await Wire.open(self.port)
            await self._send(wire, case, asked, chance)
            if kind in LEFT or kind == "left in the body" or asked.reply is None or not asked.reply.whole:
                wire.cut()
                wire = None
        if wire is not None:
            wire.cut()

    async def _send(self, wire: Wire, case: int, asked: Asked, chance: Random) -> None:
        what, key, asked.body = self._request(case, asked.kind, chance)
        head = f"{what} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        head += f"authorization: Bearer {key}\r\n" if key is not None else ""
        data = f"{head}content-length: {len(asked.body)}\r\n\r\n".encode() + asked.body
        if asked.kind == "left in the body":
            wire.send(data[:-9])
            await asyncio.sleep(chance.uniform(0.0, 0.02))
            return
        wire.send(data)
        if asked.kind == "left before the head":
            await until(lambda: self.upstream.marks[case] > 0)
        elif asked.kind == "left in the stream":
            await until(lambda: wire.closed or bool(wire.replies and wire.replies[0].body))
        else:
            await wire.until(1, LONGEST)
        asked.reply = wire.replies.pop(0) if wire.replies and wire.replies[0].status else None
        if asked.reply is not None and asked.reply.status == 200 and asked.reply.whole:
            self._told(asked, case, asked.reply)

    def _request(self, case: int, kind: str, chance: Random) -> tuple[str, str | None, bytes]:
        """Return method and path, the key, and the body of a request."""
        what = CHAT
        text = f"{mark(case)} {chance.choice(TEXTS)} {WORDS.get(kind, '')}"
        body: dict[str, Any] = {"model": MODELS.get(kind, "task:triage"), "messages": [_user(text)]}
        if "stream" in kind:
            body["stream"] = True
        if kind == "embedded above":
            what, body = "POST /v1/embeddings", {"model": "e", "input": text}
        elif kind == "passed on":
            what, body = "POST /v1/files", {"note": text}
        elif kind in ("listed", "keys listed"):
            return f"GET /v1/{'models' if kind == 'listed' else 'insource/keys'}", self._key(kind), b""
        elif kind == "feedback" and self._answerable:
            about = chance.choice(self._answerable)
            what, body = FEEDBACK, {"request_id": about, "answer": "card", "who": mark(case)}
        elif kind == "revoked a key" and self.made:
            return f"DELETE {KEYS.partition(' ')[2]}/{self.made[-1]}", self._key(kind), b'{"why": "a promise"}'
        elif kind in ADMINISTRATIVE:
            what, body = KEYS, {"name": f"client {case}"}
        data = json.dumps(body).encode()
        return what, self._key(kind), data[:-1] if kind == "malformed" else data

    def _key(self, kind: str) -> str | None:
        name = kind if kind in self.keys else "admin" if kind in ADMINISTRATIVE else "app"
        return None if kind == "no key" else self.keys[name]

    def _told(self, asked: Asked, case: int, reply: Reply) -> None:
        """Note an act, or a request that an answer may be given for."""
        told = json.loads(reply.body) if asked.kind in ADMINISTRATIVE else {}
        if asked.kind == "served" and asked.request_id is not None:
            self._answerable.append(asked.request_id)
        if "who" in told:
            self.answers[mark(case)] = told["request_id"]
        elif "key" in told:
            self.made.append(told["id"])
        elif told.get("changed"):
            self.revoked.append(told["id"])


def make_keys(registry: Registry) -> dict[str, str]:
    """Make the keys that the kinds are asked with, and return each by its kind, or "app" or "admin"."""
    wanted = {
        "app": Key("", "app", NOON, "soak"),
        "admin": Key("", "admin", NOON, "soak", admin=True),
        "revoked key": Key("", "gone", NOON, "soak"),
        "out of scope": Key("", "narrow", NOON, "soak", tasks=("triage",)),
        "no budget": Key("", "poor", NOON, "soak", limits=Limits(tokens=(1, "total"))),
    }
    made = {name: registry.create_key(key, "a promise") for name, key in wanted.items()}
    registry.revoke_key(made["revoked key"][0].id, "soak", "a promise", NOON)
    return {name: text for name, (_, text) in made.items()} | {"wrong key": f"is-{'0' * 51}"}


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
