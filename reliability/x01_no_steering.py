"""X1: whatever a request or a reply says of addresses, the gateway connects to its configured upstreams alone.

Each case puts one address, in one of its disguises, into one place of a request, or of what the upstream replies. The
places and the addresses stand in `addresses_in_disguise`. Connections and names looked up are recorded as Python's
audit events; the upstream counts what arrives as a request of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from insource.backends.contract import Backend, BackendInfo, Health
from insource.config import Allowed, Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.gateway.gateway import Gateway
from insource.gateway.parts import Parts
from insource.policy.egress import Upstreams
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Answer, Request, Sensitivity
from reliability.addresses_in_disguise import PAYLOADS, REPLY_PLACES, SITES, place
from reliability.enclosed import Enclosed, enclosed
from reliability.harness import Promise, Tally
from reliability.recording import Outside, Received, Watch, reply, watched_connections

HAUL = 16
MARK = "x-case"
STRIDE = 3_001  # has no divisor in common with the number of combinations, and spreads few cases over all places


class Steered:
    """The broken build: goes where a field, a header or a redirect says, as CVE-2024-6587 did."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.info: BackendInfo = inner.info

    async def answer(self, request: Request) -> Answer:
        """Ask where the request says, then the upstream; follow what that says."""
        for told in (request.fields.get("api_base"), request.fields.get("base_url"), request.headers.get("x-base-url")):
            await self._go(told)
        answer = await self._inner.answer(request)
        if answer.relay is not None:
            await self._go(dict(answer.relay.headers).get("location"))
        return answer

    async def _go(self, told: Any) -> None:
        try:
            parts = urlsplit(told if isinstance(told, str) else "")
            if parts.hostname:
                _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
                writer.transport.abort()
                await asyncio.wait((asyncio.ensure_future(writer.wait_closed()),))
        except (OSError, ValueError):
            return

    async def answer_many(self, requests: Any) -> list[Answer]:
        """One after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """The upstream's."""
        return await self._inner.health()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


class Said:
    """What the upstream says: its reply to the request of a case, with the case's address in the reply where due."""

    def __init__(self, elsewhere: str) -> None:
        self._elsewhere = elsewhere

    def __call__(self, received: Received, number: int) -> bytes:
        """Reply, redirected where the case has it so."""
        told = received.headers.get(MARK, "")
        where, address = combination(int(told) if told.isdigit() else 0, self._elsewhere)
        address = "".join(character for character in address if " " <= character <= "~")  # as a server would send it
        status = REPLY_PLACES[where][0] if where in REPLY_PLACES else 200
        headers = [(REPLY_PLACES[where][1], address)] if where in REPLY_PLACES else []
        return reply(status, json.dumps({"data": [], "url": address, "error": {"message": address}}).encode(), *headers)


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Send one request for each case; `broken` follows addresses that requests and replies name."""
    tally = Tally()
    with watched_connections() as watch:
        async with AsyncExitStack() as stack:
            evil = await stack.enter_async_context(Outside(lambda received, number: reply(200, b"{}")))
            elsewhere = f"127.0.0.1:{evil.address[1]}"
            upstream = await stack.enter_async_context(Outside(Said(elsewhere)))
            watch.allowed = {upstream.address, evil.address}  # the one elsewhere is judged by what reaches it
            ledger = stack.enter_context(Ledger.open(folder, clock=lambda: datetime.now(UTC)))
            registry = stack.enter_context(Registry.open(folder))
            parts = Parts(_config(folder, upstream), ledger, registry, _opens_none)
            gateway = await stack.enter_async_context(enclosed(parts, _steer if broken else _leave))
            turns = iter(cases)
            await asyncio.gather(*(_send(tally, gateway, turns, elsewhere) for _ in range(HAUL)))
            _check(tally, cases, watch, upstream, evil)
    return tally


def judge(tally: Tally) -> list[str]:
    """No connection but to the upstream, no name looked up, no second request in one, and requests that arrived."""
    counts, found = tally.counts, []
    for what in ("connections off the list", "names looked up", "requests astray", "requests smuggled"):
        if counts[what]:
            found.append(f"{what}: {counts[what]:,} of {counts['requests']:,} requests")
    if not counts["arrived"] or not counts["redirects relayed"]:
        found.append("nothing arrived, or no redirect was relayed: nothing was shown")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['connections off the list']:,} connections off the list, {counts['names looked up']:,} names looked "
        f"up and {counts['requests smuggled']:,} requests smuggled by {counts['requests']:,} requests ({len(SITES)} "
        f"places x {len(PAYLOADS)} addresses); {counts['arrived']:,} arrived where they should, "
        f"{counts['refused']:,} were refused here, {counts['redirects relayed']:,} redirects relayed"
    )


def combination(case: int, elsewhere: str) -> tuple[str, str]:
    """Return the place and the address of a case; so many cases in a row as there are combinations try each once."""
    site, payload = divmod(case * STRIDE % (len(SITES) * len(PAYLOADS)), len(PAYLOADS))
    return SITES[site], PAYLOADS[payload].replace("EVIL", elsewhere)


async def _send(tally: Tally, gateway: Enclosed, cases: Iterator[int], elsewhere: str) -> None:
    for case in cases:
        asked = place(*combination(case, elsewhere))
        headers = [*asked.headers, (MARK, str(case))]
        replied = await gateway.ask(asked.path, asked.body, headers, asked.method)
        tally.count("requests")
        if "x-insource-served-by" not in replied.headers or replied.headers["x-insource-served-by"] == "none":
            tally.count("refused")
        if 300 <= replied.status < 400:
            tally.count("redirects relayed")


def _check(tally: Tally, cases: range, watch: Watch, upstream: Outside, evil: Outside) -> None:
    strays = [address for address in watch.asked if address != upstream.address]
    for address in strays:
        tally.fail(cases.start, f"a connection to {address}", "connections off the list")
    if evil.connections > len(strays):
        tally.count("connections off the list", evil.connections - len(strays))
    for name in watch.names:
        tally.fail(cases.start, f"{name!r} was looked up", "names looked up")
    host = f"127.0.0.1:{upstream.address[1]}"
    marks: set[str] = set()
    for received in upstream.requests:
        method, _, target = received.line.partition(" ")
        mark = received.headers.get(MARK, "")
        if received.headers.get("host") != host or not target.startswith("/v1/") or not method.isalpha():
            tally.fail(int(mark or 0), f"{received.line!r} for {received.headers.get('host')!r}", "requests astray")
        if not mark or mark in marks:
            tally.fail(int(mark or 0), f"{received.line!r} came unasked", "requests smuggled")
        marks.add(mark)
    tally.count("arrived", len(marks))


def _steer(gateway: Gateway) -> None:
    generation = gateway.generation
    steered = {name: Steered(egress) for name, egress in generation.upstreams.items()}
    generation.upstreams = Upstreams(gateway.config, steered)


def _leave(gateway: Gateway) -> None:
    return None


def _config(folder: Path, server: Outside) -> Config:
    upstream = UpstreamConfig("main", server.base_url, timeout_s=2.0, model="model-x", retries=0)
    gateway = GatewayConfig("127.0.0.1", 0, 100, 1, 1.0, 1.0, (("main", 1.0),))
    policy = PolicyConfig(Sensitivity.PUBLIC, public=Allowed(("*",)))
    return Config(gateway, StoreConfig(folder, 30, "after_reply"), {"main": upstream}, {}, policy, {}, {})


def _opens_none(version: Any, upstream: Any = None) -> Any:
    raise LookupError(version.name)


PROMISE = Promise(
    id="X1",
    says="Nobody steers our outbound calls",
    asked="83 fields, headers and places of replies x 200 addresses (literal forms, redirects, rebinding, CRLF, "
    "userinfo): 0 connections off the list, 0 names looked up, 0 requests within requests",
    unit="requests",
    full=16_600,
    sample=1_000,
    slow=6_000,
    control=750,
    chunk=4_150,
    run=run,
    judge=judge,
    seen=seen,
    open="requests are handed over at the ASGI boundary, with bytes that a server's parser would refuse; the gateway "
    "runs on asyncio's loop, whose connections Python sees. An upstream that is named, not numbered, is looked up anew "
    "for every connection: whoever owns its name chooses where it leads",
)
