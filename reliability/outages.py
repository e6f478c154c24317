"""Two drills of a gateway whose upstream is down: how often it asks, and whether it leaves alone who asked for a pause.

Both count where the attempts arrive, so that what a client repeats silently is counted as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from insource.config import UpstreamConfig
from insource.types import Match, Task
from reliability.faults import Peer
from reliability.harness import Tally
from reliability.misbehaving import Misbehaving
from reliability.raw_http import Reply, Wire
from reliability.standing import Standing, standing

FLOOR = 3
"""The extra attempts that a gateway may make before it has earned any: see `policy/retry_budget.py`."""
SHARE = 0.2
WAYS = ("refuses", "resets", "closes", "turns away kept connections")
AT_ONCE = 8
PAUSE = 1.0
PAUSES = ("429 seconds", "503 seconds", "429 date", "503 date")


async def ask(port: int, body: dict[str, Any], seconds: float, headers: Sequence[str] = ()) -> tuple[Wire, Reply]:
    """Send one chat request over a connection of its own; return what came of it until the end or the time is over."""
    wire, content = await Asking.open(port), json.dumps(body).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1", "connection: close",
             "content-type: application/json", f"content-length: {len(content)}", *headers)  # fmt: skip
    wire.send("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
    await wire.until(1, seconds)
    wire.cut()
    return wire, wire.replies[0] if wire.replies else Reply()


class Asking(Wire):
    """A client's connection that notes when its reply began."""

    began: float | None = None

    def data_received(self, data: bytes) -> None:
        """Note the time of the first bytes."""
        if self.began is None:
            self.began = asyncio.get_running_loop().time()
        super().data_received(data)


async def total_outage(tally: Tally, home: Path, requests: int, broken: bool) -> None:
    """Ask an upstream that only fails, in four ways, and count what arrives; half of it without circuit breakers."""
    async with Misbehaving(0.0, 0.0) as upstream:
        for way in WAYS:
            await upstream.listen(way, _down)
        for breaker in (5, 10**9):
            configs = [
                UpstreamConfig(way.replace(" ", "-"), upstream.url(way), retries=3, breaker_failures=breaker)
                for way in WAYS
            ]
            tasks = [
                Task(name, match=Match(models=(name,)), upstreams=((name, 1.0),)) for name in (c.name for c in configs)
            ]
            before = sum(upstream.arrived[f"requests at {way}"] for way in WAYS)
            async with standing(
                home / f"outage-{breaker}", configs, (), tasks=tasks, retry_budget=10.0 if broken else SHARE
            ) as gateway:
                await _storm(tally, gateway, [config.name for config in configs], requests)
            attempts = sum(upstream.arrived[f"requests at {way}"] for way in WAYS) - before
            tally.count("outage requests", requests)
            tally.count("outage attempts", attempts)
            tally.measure("attempts per request", max(0, attempts - FLOOR) / requests)
            if attempts > requests * (1 + SHARE) + FLOOR:
                tally.fail(requests, f"{attempts} attempts for {requests} requests", "outages asked too often")


async def _storm(tally: Tally, gateway: Standing, names: Sequence[str], requests: int) -> None:
    todo = [names[number % len(names)] for number in range(requests)]

    async def work() -> None:
        while todo:
            _, reply = await ask(gateway.port, {"model": todo.pop(), "messages": [], "case": "outage"}, 10.0)
            tally.count("outage replies", reply.whole and reply.status in (502, 503, 504))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _down(peer: Peer, upstream: Misbehaving) -> None:
    """Fail every request in the port's way; kept connections tempt a client to ask twice without saying so."""
    while await upstream.request(peer) is not None:
        if peer.port == "resets":
            await peer.reset()
        elif peer.port == "closes" or (peer.port.startswith("turns") and peer.served % 2 == 0):
            await peer.close()
        else:
            body = b'{"error":{"message":"down"}}'
            await peer.send(b"HTTP/1.1 503 Down\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        if peer.ended:
            return


async def asked_for_pauses(tally: Tally, home: Path, broken: bool) -> None:
    """Ask on while upstreams have asked, by seconds or by date, to be left alone; nothing may arrive before that."""
    pauses = {name: _Pause(name) for name in PAUSES}
    async with Misbehaving(0.0, 0.0) as upstream:
        configs, tasks = [], []
        for name, pause in pauses.items():
            await upstream.listen(name, pause.serve)
            config = UpstreamConfig(name.replace(" ", "-"), upstream.url(name), retries=2)
            names: tuple[tuple[str, float], ...] = ((config.name, 1.0),)
            configs.append(config)
            if broken:  # the same server under another name, with a breaker that was told nothing
                configs.append(replace(config, name=f"{config.name}-again"))
                names += ((f"{config.name}-again", 0.0),)
            tasks.append(Task(config.name, match=Match(models=(config.name,)), upstreams=names))
        async with standing(home / "pauses", configs, (), tasks=tasks) as gateway:
            await asyncio.gather(*(pause.wait_out(tally, gateway) for pause in pauses.values()))


class _Pause:
    """One upstream that asks for a pause, then answers well; it notes when requests came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._over: datetime | None = None
        self._early = 0
        self._came = 0

    async def serve(self, peer: Peer, upstream: Misbehaving) -> None:
        """Ask the first request for a pause; count those that come before it is over."""
        while await upstream.request(peer) is not None:
            self._came += 1
            now = datetime.now(UTC)
            if self._over is None:
                await self._ask(peer, now)
            else:
                self._early += now < self._over
                await peer.well()

    async def _ask(self, peer: Peer, now: datetime) -> None:
        status, form = self._name.split()
        self._over = now + timedelta(seconds=PAUSE)
        value = f"{PAUSE:g}"
        if form == "date":
            self._over = self._over.replace(microsecond=0) + timedelta(seconds=self._over.microsecond > 200_000)
            value = format_datetime(self._over, usegmt=True)
        await peer.send(f"HTTP/1.1 {status} Later\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n".encode())

    async def wait_out(self, tally: Tally, gateway: Standing) -> None:
        """Ask until a request is answered well; the refusals meanwhile must say when to come back."""
        model = self._name.replace(" ", "-")
        deadline = asyncio.get_running_loop().time() + PAUSE + 3.0
        while asyncio.get_running_loop().time() < deadline:
            _, reply = await ask(gateway.port, {"model": model, "messages": [], "case": "pause"}, 5.0)
            if reply.status == 200:
                break
            tally.count("refusals in a pause")
            tally.count("refusals that say when", "retry-after" in reply.headers)
            await asyncio.sleep(0.05)
        tally.count("pauses")
        if self._early or self._came != 2:
            tally.fail(0, f"{self._name}: {self._came} requests, {self._early} in the pause", "pauses not honoured")
