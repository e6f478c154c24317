"""R8: a client that leaves stops the spending at the upstream, and what had come by then is on record.

Three windows: before the first byte, in the middle of a stream, and while a plain reply is made. The upstream says when
its peer closed; the ledger is read afterwards.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from starlette.types import ASGIApp, Receive, Scope, Send

from insource.config import UpstreamConfig
from insource.gateway.protocol import EXTENSION
from insource.store.ledger_reader import LedgerReader
from insource.types import Match, Settlement, Task, Usage
from reliability.faults import ANSWER, Peer, chunked, head
from reliability.harness import Promise, Tally
from reliability.misbehaving import Misbehaving
from reliability.raw_http import Wire
from reliability.standing import Standing, standing

WINDOWS = ("before the first byte", "mid-stream", "plain")
BOUND, PATIENCE = 1.0, 10.0
"""Seconds in which the upstream must see its peer go; seconds that everything else may take."""
AT_ONCE = 60
PROMPT = 7
STREAMS = {
    "/v1/chat/completions": '{"choices":[{"index":0,"delta":{"content":"w"}}]%s}',
    "/v1/completions": '{"choices":[{"index":0,"text":"w"}]%s}',
    "/v1/messages": '{"type":"content_block_delta","delta":{"type":"text_delta","text":"w"}%s}',
    "/v1/responses": '{"type":"response.output_text.delta","delta":"w"%s}',
}
"""An event with one piece of text, by path."""
START = b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
"""How a stream of messages begins: with a count of tokens that is out of date from the next event on."""


@dataclass
class Case:
    """One client: which window it leaves in, how it leaves, and what is known of it afterwards."""

    number: int
    window: str = field(init=False)
    path: str = field(init=False)
    counted: bool = field(init=False)
    """Whether each event of the stream says how many tokens there are by now."""
    flood: bool = field(init=False)
    """Whether the upstream sends as fast as it can, and the client stops reading before it leaves."""
    pieces: int = field(init=False)
    reset: bool = field(init=False)
    sent: int = 0
    """How many pieces of text the upstream has sent."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Draw what chance decides."""
        chance = Random(self.number)
        self.window = WINDOWS[self.number % len(WINDOWS)]
        self.path = chance.choice(tuple(STREAMS)) if self.window == "mid-stream" else "/v1/chat/completions"
        self.counted = self.path.endswith("completions") and chance.random() < 0.5
        self.flood = self.window == "mid-stream" and chance.random() < 0.3
        self.pieces = chance.randint(1, 9)
        self.reset = chance.random() < 0.5

    @property
    def name(self) -> str:
        """How upstream and ledger know it."""
        return f"case-{self.number}"

    def event(self, number: int) -> bytes:
        """Return the stream's event with the text's so-manieth piece; in a flood, with a long comment in front."""
        usage = f',"usage":{{"prompt_tokens":{PROMPT},"completion_tokens":{number}}}' if self.counted else ""
        comment = b": " + b"-" * 16_000 + b"\n" if self.flood else b""
        return comment + f"data: {STREAMS[self.path] % usage}\n\n".encode()


class Client(Wire):
    """A client that counts the pieces of text that it gets, and leaves."""

    @property
    def pieces(self) -> int:
        """How many have come."""
        return self.replies[0].body.count(b'"w"') if self.replies else 0

    def ask(self, case: Case) -> None:
        """Send the case's request."""
        body = {"model": "leaving", "stream": case.window != "plain", "input": case.name, "prompt": case.name,
                "messages": [{"role": "user", "content": case.name}], "case": case.name, "max_tokens": 99}  # fmt: skip
        content = json.dumps(body).encode()
        lines = f"POST {case.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self.send(f"{lines}content-length: {len(content)}\r\n\r\n".encode() + content)

    def stop_reading(self) -> None:
        """Let what comes pile up."""
        self._transport.pause_reading()

    def leave(self, reset: bool) -> None:
        """Close the connection, or reset it."""
        if reset:
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Let clients leave, many at once; `broken` is not told that they do."""
    tally, known = Tally(), {f"case-{number}": Case(number) for number in cases}

    async def serve(peer: Peer, upstream: Misbehaving) -> None:
        while (body := await upstream.request(peer)) is not None:
            await _reply(peer, known[body["case"]])

    async with Misbehaving(0.0, 0.0) as upstream:
        await upstream.listen("patient", serve)
        config = UpstreamConfig("patient", upstream.url("patient"), timeout_s=PATIENCE)
        task = Task("leaving", match=Match(models=("leaving",)), content="full")
        async with standing(
            folder, [config], (("patient", 1.0),), tasks=[task], broken=Deaf if broken else lambda app: app
        ) as gateway:
            for start in range(0, len(known), AT_ONCE):
                batch = list(known.values())[start : start + AT_ONCE]
                await asyncio.gather(*(_leave(tally, case, gateway) for case in batch))
    _read_ledger(tally, folder, known)
    return tally


async def _reply(peer: Peer, case: Case) -> None:
    """Reply as far as the window goes, then say nothing more and wait until the peer leaves."""
    peer.ended = True
    case.arrived.set()
    watch = asyncio.ensure_future(peer.hold())
    with suppress(ConnectionError):
        if case.window == "mid-stream":
            await peer.send(head(True, 0) + (chunked(START) if case.path == "/v1/messages" else b""))
            while not watch.done() and (case.flood or case.sent < case.pieces):
                case.sent += 1
                await peer.send(chunked(case.event(case.sent)))
                await asyncio.sleep(0)
        elif case.window == "plain" and case.pieces > 3:
            await peer.send(head(False, 1_000) + ANSWER[:40])
    with suppress(ConnectionError):
        await watch
    case.left.set()


async def _leave(tally: Tally, case: Case, gateway: Standing) -> None:
    """Ask, wait for the window, leave, and take the time until the upstream sees its peer gone."""
    client, loop = await Client.open(gateway.port), asyncio.get_running_loop()
    client.ask(case)
    try:
        async with asyncio.timeout(PATIENCE):
            await case.arrived.wait()
            while case.window == "mid-stream" and client.pieces < case.pieces:
                await asyncio.sleep(0.002)
    except TimeoutError:
        tally.fail(case.number, f"{case.window}: the window was never reached", "never tried")
        client.cut()
        return
    if case.flood:
        client.stop_reading()
        await asyncio.sleep(0.05)
    case.pieces = client.pieces if case.window == "mid-stream" else 0
    started = loop.time()
    client.leave(case.reset)
    with suppress(TimeoutError):
        async with asyncio.timeout(BOUND):
            await case.left.wait()
    tally.count("cases")
    tally.count(case.window)
    if case.left.is_set():
        tally.measure("seconds", loop.time() - started)
    else:
        tally.fail(case.number, f"{case.window}: the upstream was still asked after {BOUND:g} s", "not closed in time")


def _read_ledger(tally: Tally, home: Path, known: dict[str, Case]) -> None:
    """Compare what the ledger says of each case with what its client got and its upstream sent."""
    with LedgerReader(home) as reader:
        for row in reader.rows():
            case = known[row.content.text] if row.content is not None else None
            tally.count("decisions")
            if case is None or row.settlement is None:
                tally.count("unsettled")
                continue
            wrong = _wrong(case, row.settlement)
            if wrong:
                tally.fail(case.number, f"{case.window}, {case.path}: {wrong}", "wrongly settled")
            elif case.window == "mid-stream":
                tally.count("streams with their tokens" if case.counted else "streams with their pieces")


def _wrong(case: Case, settled: Settlement) -> str:
    """Return what is wrong with a settlement, "" for nothing."""
    if settled.status != 499 or not (settled.detail or "").startswith("the client left"):
        return f"status {settled.status}, {settled.detail!r}"
    if case.window != "mid-stream":
        return "" if settled.usage is None and settled.cost is None else f"{settled.usage}, though nothing had come"
    if not case.counted:
        told = re.search(r"; (\d+) pieces of text had come$", settled.detail or "")
        found, tokens = int(told[1]) if told else 0, settled.usage
        problem = "" if tokens is None else f"{tokens}, which nobody told"
    else:
        tokens = settled.usage or Usage(0, 0)
        found = tokens.completion_tokens
        problem = "" if tokens.prompt_tokens == PROMPT else f"{tokens.prompt_tokens} tokens in"
    most = case.sent if case.flood else case.pieces
    return problem or (
        "" if case.pieces <= found <= most else f"{found} pieces, the client got {case.pieces} of {most}"
    )


class Deaf:
    """The guard broken: an endpoint is never told that its client has gone."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self.state = getattr(inner, "state", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, without the connection that would tell."""
        if EXTENSION in scope.get("extensions", {}):
            scope = {**scope, "extensions": {}}
        await self._inner(scope, receive, send)


def judge(tally: Tally) -> list[str]:
    """Every upstream was left in time, and every case stands in the ledger with what had come."""
    counts = tally.counts
    found = [
        f"{name}: {counts[name]:,} of {counts['cases']:,} cases"
        for name in ("never tried", "not closed in time", "wrongly settled", "unsettled")
        if counts[name]
    ]
    if not all(counts[window] for window in WINDOWS):
        found.append("not every window was tried")
    if counts["decisions"] != counts["cases"]:
        found.append(f"{counts['decisions']:,} decisions on record for {counts['cases']:,} cases")
    return found


def seen(tally: Tally) -> str:
    """How many were closed in time, how soon, and how many streams have their tokens on record."""
    counts = tally.counts
    streams = counts["streams with their tokens"] + counts["streams with their pieces"]
    closed = counts["cases"] - counts["not closed in time"]
    windows = ", ".join(f"{counts[window]:,} {window}" for window in WINDOWS)
    return (
        f"{closed:,} of {counts['cases']:,} closed within {BOUND:g} s ({windows}), "
        f"p99 {tally.quantile('seconds', 0.99) * 1_000:.0f} ms; {streams:,} of {counts['mid-stream']:,} streams on "
        f"record with what had come ({counts['streams with their tokens']:,} in tokens, the others in pieces of text)"
    )


PROMISE = Promise(
    id="R8",
    says="A client that leaves stops the spending",
    asked="1,000 clients that leave in each of 3 windows: upstream closed <= 1 s in 100 %; tokens received so far are "
    "in the ledger in 100 %",
    unit="clients that leave",
    full=3_000,
    sample=90,
    slow=600,
    control=12,
    chunk=600,
    run=run,
    judge=judge,
    seen=seen,
    open="most upstreams count tokens at the end of a stream only; of one that ends early the ledger then has the "
    "number of pieces of text that came, and tokens and cost unknown. A request that is with a tier in the house when "
    "its client leaves is finished there",
    timed=True,
)
