"""Twenty ways for an upstream to misbehave: the bytes of each, and when they leave, at each of three moments.

A fault is struck on one connection. What it leaves unsaid (who asked, which port, how often) is `misbehaving`'s.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from random import Random
from typing import Protocol

Whole = tuple[int, bytes]
"""Status and body of a reply that is complete, however odd: what a client may get to see of it."""

EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Once"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":" more"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Once more"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
).encode()
STRAY = ANSWER.replace(b"chatcmpl-1", b"chatcmpl-2")
"""A second reply to one request; nobody asked for it."""
JSON, EVENT_STREAM = "application/json", "text/event-stream"
LONG = 100_000


class Around(Protocol):
    """What a fault needs to know of the run."""

    late: float
    gap: float

    def url(self, name: str, scheme: str = "http") -> str:
        """Return the address of a port."""
        ...


class Peer:
    """One connection as the upstream holds it; `served` counts its requests, `ended` says that it is of no more use.

    `spoke` is when (of the loop) a reply began that was said before its request was read, 0 where none was.
    """

    def __init__(self, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port, self.reader, self.writer = port, reader, writer
        self.served = 0
        self.stream = False
        self.ended = False
        self.spoke = 0.0

    async def send(self, data: bytes) -> None:
        """Send bytes at once."""
        self.writer.write(data)
        await self.writer.drain()

    async def trickle(self, pieces: Sequence[bytes], gap: float) -> None:
        """Send one piece after the other, with seconds between them."""
        for piece in pieces:
            await self.send(piece)
            await asyncio.sleep(gap)

    async def hold(self) -> None:
        """Say nothing more, and wait until the other side leaves."""
        self.ended = True
        while await self.reader.read(65_536):
            pass

    async def reset(self) -> None:
        """Reset the connection."""
        self.ended = True
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close the connection in good order."""
        self.ended = True
        self.writer.close()
        await self.writer.wait_closed()

    async def well(self) -> Whole:
        """Send a reply as it should be; the connection stays."""
        await self.send(head(self.stream, len(ANSWER)) + (chunked(*EVENTS, b"") if self.stream else ANSWER))
        return 200, b"".join(EVENTS) if self.stream else ANSWER

    async def begin(self, at: str) -> None:
        """Where the moment is "body", send a sound head and the first piece of a body that will not be complete."""
        if at == "body":
            await self.send(head(self.stream, 1_000) + (chunked(EVENTS[0]) if self.stream else ANSWER[:40]))

    async def say(self, at: str, kind: str, pieces: Sequence[bytes], *, status: int = 200, more: str = "") -> Whole:
        """Send a whole reply in good order, all at once, or, where the moment is "body", its last piece later."""
        length = None if self.stream else sum(map(len, pieces))
        lines = f"HTTP/1.1 {status} Odd\r\n{more}" + (f"content-type: {kind}\r\n" if kind else "")
        lines += "transfer-encoding: chunked\r\n\r\n" if length is None else f"content-length: {length}\r\n\r\n"
        start, rest = lines.encode() + self._framed(*pieces[:-1]), self._framed(pieces[-1]) + self._framed(b"")
        if at == "body":
            await self.send(start)
            await asyncio.sleep(0.01)
            await self.send(rest)
        else:
            await self.send(start + rest)
        return status, b"".join(pieces)

    def _framed(self, *pieces: bytes) -> bytes:
        return chunked(*pieces) if self.stream else b"".join(pieces)


def head(stream: bool, length: int) -> bytes:
    """Return the head of a reply of events, or of JSON of that length."""
    if stream:
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length


def chunked(*pieces: bytes) -> bytes:
    """Return pieces in chunks; an empty one ends the body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


async def hang(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Say nothing (more), for ever."""
    await peer.begin(at)
    await peer.hold()


async def reset(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Reset the connection."""
    await peer.begin(at)
    await peer.reset()


async def half_close(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Close the way out, and go on reading."""
    await peer.begin(at)
    peer.writer.write_eof()
    await peer.hold()


async def limit_storm(peer: Peer, at: str, chance: Random, around: Around) -> Whole | None:
    """Answer 429, with a Retry-After that asks for no pause or says nothing that can be read."""
    when = chance.choice(("", "retry-after: 0\r\n", "retry-after: soon\r\n"))
    return await _refuse(peer, at, 429, when + "x-ratelimit-remaining-requests: 0\r\n")


async def error_burst(peer: Peer, at: str, chance: Random, around: Around) -> Whole | None:
    """Answer with a status of the server's own failure."""
    return await _refuse(peer, at, chance.choice((500, 502, 503, 504, 529)), "")


async def _refuse(peer: Peer, at: str, status: int, more: str) -> Whole | None:
    body = b'{"error":{"message":"not now","type":"server_error","code":null}}'
    if at != "body":
        return await peer.say(at, JSON, (body[:20], body[20:]), status=status, more=more)
    await peer.send(b"HTTP/1.1 %d Odd\r\n%bcontent-length: 999\r\n\r\n%b" % (status, more.encode(), body))
    await peer.close()
    return None


async def slow_loris(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Go on for ever, a drop at a time: interim replies, headers, or a body."""
    await peer.begin(at)
    drop = {"connect": b"HTTP/1.1 100 Continue\r\n\r\n", "headers": b"x-more: to come\r\n"}.get(at, chunked(b" "))
    await peer.send(b"HTTP/1.1 200 OK\r\n" if at == "headers" else b"")
    while True:
        await peer.trickle((b" " if at == "body" and not peer.stream else drop,), around.gap)


async def bad_chunking(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Send what is no HTTP: noise, a head with two framings, or chunks that are none."""
    if at == "headers":
        framing = chance.choice(
            ("content-length: 5\r\ntransfer-encoding: chunked", "transfer-encoding: gzip, chunked",
             "content-length: -1", "content-length: 5\r\ncontent-length: 6",
             "transfer-encoding: chunked\r\ntransfer-encoding: identity")
        )  # fmt: skip
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % framing.encode())
    elif at == "body":
        peer.stream = True
        await peer.begin(at)
        await peer.send(
            chance.choice((b"zz\r\nhello\r\n", b"5\r\nhello, and more\r\n", b"f" * 20 + b"\r\n", b"-1\r\n"))
        )
    else:
        await peer.send(bytes(chance.randrange(128, 256) for _ in range(200)))
    await peer.hold()


async def bad_json(peer: Peer, at: str, chance: Random, around: Around) -> Whole:
    """Answer in good order with what is no JSON."""
    odd = chance.choice((b'{"choices":[{', b"\xff\xfe{}", b"[" * 5_000, b"null", b'{"choices":7,"usage":"none"}'))
    if peer.stream:
        return await peer.say(at, EVENT_STREAM, (EVENTS[0], b"data: " + odd + b"\n\n", EVENTS[-1]))
    return await peer.say(at, JSON, (odd[:3], odd[3:]))


async def truncated_event(peer: Peer, at: str, chance: Random, around: Around) -> Whole:
    """End in good order, but within an event, or within the JSON."""
    cut = chance.randrange(7, len(EVENTS[1]) - 2)
    pieces = (EVENTS[0], EVENTS[1][:cut]) if peer.stream else (ANSWER[:40], ANSWER[40 : 40 + cut])
    return await peer.say(at, EVENT_STREAM if peer.stream else JSON, pieces)


async def endless_stream(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Go on for ever, as fast as is read: interim replies, headers, or a body."""
    await peer.begin(at)
    more = {"connect": b"HTTP/1.1 102 Processing\r\n\r\n" * 40, "headers": b"x-more: to come\r\n" * 60}.get(at)
    if at == "body":
        more = chunked(EVENTS[1] * 16) if peer.stream else b" "
    await peer.send(b"HTTP/1.1 200 OK\r\n" if at == "headers" else b"")
    while more:
        await peer.trickle((more,), 0.01)


async def wrong_type(peer: Peer, at: str, chance: Random, around: Around) -> Whole:
    """Answer in good order with another type of content, or with none."""
    kind = chance.choice(("text/html", "image/png", "", "application/json; charset=utf-7", "text/event-stream-ish"))
    return await peer.say(at, kind, (b"<html><body>", b"<h1>Welcome to the other server</h1></body></html>"))


async def gzip_bomb(peer: Peer, at: str, chance: Random, around: Around) -> Whole:
    """Answer in good order with a small body that is a thousand times as long once it is unpacked."""
    bomb = _bomb()
    kind = EVENT_STREAM if peer.stream else JSON
    return await peer.say(at, kind, (bomb[:100], bomb[100:]), more="content-encoding: gzip\r\n")


@cache
def _bomb() -> bytes:
    return gzip.compress(b"[" * 2**24, 9)


async def redirect(peer: Peer, at: str, chance: Random, around: Around) -> Whole:
    """Point somewhere else."""
    status = chance.choice((301, 302, 303, 307, 308))
    return await peer.say(at, JSON, (b"{", b"}"), status=status, more=f"location: {around.url('elsewhere')}\r\n")


async def duplicates(peer: Peer, at: str, chance: Random, around: Around) -> Whole:
    """Send every event twice, and the end, too; or a second reply after the one that was asked for."""
    if peer.stream:
        return await peer.say(at, EVENT_STREAM, [event for event in EVENTS for _ in range(2)])
    if at == "body":
        whole = await peer.say(at, JSON, (ANSWER[:40], ANSWER[40:]))
        await peer.send(head(False, len(STRAY)) + STRAY)
    else:
        await peer.send(head(False, len(ANSWER)) + ANSWER + head(False, len(STRAY)) + STRAY)
        whole = 200, ANSWER
    await peer.hold()
    return whole


async def too_late(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Answer, or go on, after nobody may wait any more."""
    await peer.begin(at)
    await asyncio.sleep(around.late)
    if at != "body":
        await peer.well()
    await peer.hold()


async def byte_by_byte(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Send a sound reply, one byte at a time."""
    await peer.begin(at)
    whole = chunked(*EVENTS[1:], b"") if at == "body" and peer.stream else ANSWER[40:]
    whole = whole if at == "body" else head(peer.stream, len(ANSWER)) + whole
    await peer.trickle([whole[n : n + 1] for n in range(len(whole))], around.gap)
    await peer.hold()


async def oversized(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Send more than anyone keeps where no body is: headers, a chunk's extension, a trailer."""
    if at == "body":
        peer.stream = True
        await peer.begin(at)
        more = b"a" * LONG
        await peer.send(b"1;" + more if chance.random() < 0.5 else b"0\r\n" + b"x-more: to come\r\n" * (LONG // 17))
    else:
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        many = b"x-more: to come\r\n" * (LONG // 17)
        await peer.send(b"x-long: " + b"a" * LONG if chance.random() < 0.5 else many)
    await peer.hold()


async def early_end(peer: Peer, at: str, chance: Random, around: Around) -> None:
    """Close before the reply is complete."""
    await peer.begin(at)
    if at == "headers":
        sound = head(peer.stream, len(ANSWER))
        await peer.send(sound[: chance.randrange(len(sound))])
    await peer.close()


Fault = Callable[[Peer, str, Random, Around], Awaitable[Whole | None]]

FAULTS: dict[str, Fault] = {
    "hang": hang,
    "reset": reset,
    "half-close": half_close,
    "429 storm": limit_storm,
    "5xx burst": error_burst,
    "slow-loris body": slow_loris,
    "bad chunking": bad_chunking,
    "bad JSON": bad_json,
    "truncated event": truncated_event,
    "endless stream": endless_stream,
    "wrong content type": wrong_type,
    "gzip bomb": gzip_bomb,
    "redirect": redirect,
    "duplicate events": duplicates,
    "answer after the deadline": too_late,
    "1 byte/s": byte_by_byte,
    "oversized header": oversized,
    "early EOF": early_end,
}
"""By name; the two that meet before any byte of HTTP (a name that resolves to nothing, a handshake) are addresses."""
