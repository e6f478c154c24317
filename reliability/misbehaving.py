"""An upstream of raw bytes that misbehaves in twenty ways at three moments, and writes down what it was asked and when.

Which fault a request meets stands in its body; a fault at the connection, before any request, has a port of its own.
It knows HTTP only as far as it breaks it, and nothing of the gateway.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Any, Self

from reliability.faults import FAULTS, Peer, Whole

CONNECT, HEADERS, BODY = POSITIONS = ("connect", "headers", "body")
"""At the connection, before a byte of the request is read; once it is read; once a reply has begun."""
WELL = "well"

Serve = Callable[[Peer, "Misbehaving"], Awaitable[None]]


@dataclass
class Misbehaving:
    """The upstream with all its ports, on the running event loop; a context manager.

    `asked` holds the times (of the loop) at which a request with a case's name arrived (where the reply was said in
    advance: at which that began), on any port but `elsewhere`, where redirects point; `meant` the whole replies it was
    given, those at the connection by port. `arrived` counts all connections and requests by port.
    """

    late: float
    """Seconds after which an answer is too late in any case."""
    gap: float
    """Seconds between the drops of what trickles; shorter than any bound on silence."""
    asked: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    arrived: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    meant: defaultdict[str, set[Whole]] = field(default_factory=lambda: defaultdict(set))
    ports: dict[str, int] = field(default_factory=dict)
    busy: int = 0
    """Connections that are not waiting, in good order, for a next request."""
    standing: int = 0
    _servers: list[asyncio.Server] = field(default_factory=list)
    _jobs: set[asyncio.Task[Any]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Listen: one port for requests that name their fault, one for each fault at the connection, one elsewhere."""
        await self.listen("main", _obey)
        await self.listen("spare", _obey)
        await self.listen("elsewhere", _obey)
        for name in FAULTS:
            await self.listen(f"{CONNECT} {name}", _at_once(name))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all ports and connections."""
        for server in self._servers:
            server.close()
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def listen(self, name: str, serve: Serve) -> int:
        """Open one more port and return its number."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            job = asyncio.current_task()
            assert job is not None, "there is always a job on an event loop"
            self._jobs.add(job)
            self.arrived[f"connections at {name}"] += 1
            self.busy += 1
            self.standing += 1
            peer = Peer(name, reader, writer)
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    await serve(peer, self)
            except asyncio.CancelledError:
                pass  # the end of the run; asyncio's streams would log it
            finally:
                self._jobs.discard(job)
                self.busy -= 1
                self.standing -= 1
                writer.transport.abort()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        self.ports[name] = server.sockets[0].getsockname()[1]
        return self.ports[name]

    def url(self, name: str, scheme: str = "http") -> str:
        """Return the address of a port's API."""
        return f"{scheme}://127.0.0.1:{self.ports[name]}/v1"

    async def request(self, peer: Peer) -> dict[str, Any] | None:
        """Read the next request and note it; return its body, None where the connection ends in good order."""
        self.busy -= 1
        try:
            head = await peer.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        finally:
            self.busy += 1
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body: dict[str, Any] = json.loads(await peer.reader.readexactly(length))
        peer.served += 1
        peer.stream = bool(body.get("stream"))
        self.arrived[f"requests at {peer.port}"] += 1
        if peer.port != "elsewhere":
            self.asked[body.get("case", "")].append(peer.spoke or asyncio.get_running_loop().time())
        return body

    async def strike(self, peer: Peer, name: str, at: str, case: str, chance: Random) -> None:
        """Let a fault happen; note the whole reply that it amounts to, where it does to one."""
        whole = await FAULTS[name](peer, at, chance, self)
        if whole is not None:
            self.meant[case].add(whole)


async def _obey(peer: Peer, upstream: Misbehaving) -> None:
    """Serve requests as they say, one after the other."""
    while (body := await upstream.request(peer)) is not None:
        case = body["case"]
        if peer.port == "main" and body["fault"] != WELL:
            await upstream.strike(peer, body["fault"], body["at"], case, Random(case))
            if peer.ended:
                return
        else:
            upstream.meant[f"{peer.port} {case}"].add(await peer.well())


def _at_once(name: str) -> Serve:
    async def serve(peer: Peer, upstream: Misbehaving) -> None:
        number = upstream.arrived[f"connections at {peer.port}"]
        peer.stream = number % 2 == 0  # nothing is read yet that could say
        while True:  # each reply goes out before its request is read
            peer.spoke = asyncio.get_running_loop().time()
            await upstream.strike(peer, name, CONNECT, peer.port, Random(f"{name} {number} {peer.served}"))
            if peer.ended or await upstream.request(peer) is None:
                return

    return serve
