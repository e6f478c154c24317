"""The load of the gateway's figures: `python -m benchmarks.wire.load KIND PORT ...`, its result one line of JSON.

`closed CONNECTIONS SECONDS` keeps every connection busy; `open RATE SECONDS` sends on time whatever became of the
requests before (no coordinated omission); `streams COUNT` opens that many event streams at once. Bodies come from the
file named by --bodies, one JSON text a line, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle

import uvloop

STAMP = re.compile(rb'"content":"(\d+)"')
KEY = "sk-bench"
REASON = re.compile(rb"x-insource-reason: (\w+)", re.IGNORECASE)


def request(body: bytes, key: str = KEY) -> bytes:
    """Return a body as the bytes of a POST with a key."""
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {key}\r\naccept: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection: sends a request, and tells `done` (seconds, head) when its reply is complete."""

    def __init__(self, done: Callable[[Client, float, bytes], None]) -> None:
        self.done = done
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.waiting = b""

    def send(self, data: bytes) -> None:
        """Send one request."""
        self.started = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Take a reply's bytes."""
        self.waiting = self.waiting + data if self.waiting else data
        end = self.waiting.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.waiting[:end]
        at = head.lower().find(b"content-length:")
        if at >= 0:
            if len(self.waiting) < end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0]):
                return
        elif not self.waiting.endswith(b"0\r\n\r\n"):
            return
        self.waiting = b""
        self.done(self, time.perf_counter() - self.started, head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it; a run with a lost connection says so."""
        self.lost = True


async def connect(port: int, done: Callable[[Client, float, bytes], None]) -> Client:
    """Open one connection."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(done), "127.0.0.1", port)
    return client


async def closed(port: int, connections: int, seconds: float, requests: list[bytes]) -> dict[str, object]:
    """Keep `connections` busy for `seconds`, after a warm-up of a fifth of that."""
    turn, counts, times = cycle(requests), Counter[str](), list[float]()
    ends = asyncio.Event()

    def done(client: Client, took: float, head: bytes) -> None:
        counts[head[9:12].decode()] += 1
        reason = REASON.search(head)
        counts[reason.group(1).decode() if reason else "-"] += 1
        times.append(took)
        if not ends.is_set():
            client.send(next(turn))

    clients = []
    for _ in range(connections):  # busy at once: of idle workers one would take nearly all connections
        clients.append(await connect(port, done))
        clients[-1].send(next(turn))
    await asyncio.sleep(seconds / 5)
    counts.clear()
    times.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    took, measured, seen = time.perf_counter() - started, sorted(times), dict(counts)
    ends.set()
    lost = sum(client.lost for client in clients)
    return {"rate": len(measured) / took, **quantiles(measured), "counts": seen, "lost": lost}


async def open_loop(port: int, rate: float, seconds: float, requests: list[bytes]) -> dict[str, object]:
    """Send `rate` requests a second, each on time, on whichever connection is free."""
    turn, free, times = cycle(requests), list[Client](), list[float]()
    counts = Counter[str]()

    def done(client: Client, took: float, head: bytes) -> None:
        counts[head[9:12].decode()] += 1
        times.append(took)
        free.append(client)

    free += [await connect(port, done) for _ in range(64)]
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        client = free.pop(0) if free else await connect(port, done)
        client.send(next(turn))
    await asyncio.sleep(1)
    warm = times[len(times) // 10 :]
    return {"rate": rate, **quantiles(sorted(warm)), "counts": dict(counts), "sent": int(rate * seconds)}


async def streams(port: int, count: int, requests: list[bytes]) -> dict[str, object]:
    """Open `count` streams within a second; return how late events came, and how long the first one took."""
    late, first, ended = list[float](), list[float](), list[bool]()
    loop = asyncio.get_running_loop()

    class Stream(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.began, self.seen = time.perf_counter(), False
            transport.write(requests[0])  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            now = time.monotonic_ns()
            for stamp in STAMP.findall(data):
                late.append((now - int(stamp)) / 1e9)
                if not self.seen:
                    self.seen = True
                    first.append(time.perf_counter() - self.began)
            if b"[DONE]" in data:
                ended.append(True)

    for _ in range(count):
        await loop.create_connection(Stream, "127.0.0.1", port)
        await asyncio.sleep(1 / count)
    deadline = time.perf_counter() + 30
    while len(ended) < count and time.perf_counter() < deadline:
        await asyncio.sleep(0.05)
    return {
        "late": quantiles(sorted(late)),
        "first": quantiles(sorted(first)),
        "events": len(late),
        "under_100_ms": sum(value < 0.1 for value in late) / max(len(late), 1),
        "ended": len(ended),
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds."""
    if not values:
        return {"p50": float("nan"), "p99": float("nan")}
    return {name: values[int(len(values) * share)] * 1000 for name, share in (("p50", 0.5), ("p99", 0.99))}


async def run(options: argparse.Namespace) -> dict[str, object]:
    """Run what was asked for."""
    with open(options.bodies, "rb") as lines:
        requests = [request(body, options.key) for body in lines.read().splitlines()]
    if options.kind == "closed":
        return await closed(options.port, int(options.amount), options.seconds, requests)
    if options.kind == "open":
        return await open_loop(options.port, options.amount, options.seconds, requests)
    return await streams(options.port, int(options.amount), requests)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.wire.load", description=__doc__)
    parser.add_argument("kind", choices=("closed", "open", "streams"))
    parser.add_argument("port", type=int)
    parser.add_argument("amount", type=float)
    parser.add_argument("seconds", type=float, nargs="?", default=5.0)
    parser.add_argument("--bodies", required=True)
    parser.add_argument("--key", default=KEY)
    sys.stdout.write(json.dumps(uvloop.run(run(parser.parse_args()))) + "\n")
