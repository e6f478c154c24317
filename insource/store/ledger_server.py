"""The ledger's side of its clients' sockets: rows of all workers share commits, and each learns what became of its own.

It trusts no client: what is not a well-formed row of a known table ends that connection. It knows no worker and no
request.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import cast

import msgspec

from insource.errors import InsourceError, StoreError
from insource.store.frames import Sent, Splitter, Told, frame
from insource.store.group_commit import Job
from insource.store.ledger import Ledger
from insource.store.rows import Rows

LOG = logging.getLogger("insource.store")
MOST_UNANSWERED = 40_000
"""Jobs of one connection under way at which its socket is read no further; a client stops by itself before that."""


class LedgerServer:
    """Serves one ledger on the running event loop; the ledger stays its opener's to close."""

    def __init__(self, ledger: Ledger, *, most_unanswered: int = MOST_UNANSWERED) -> None:
        self._ledger = ledger
        self._most_unanswered = most_unanswered
        self._peers: set[_Peer] = set()

    async def serve(self, connected: socket.socket) -> None:
        """Take rows from the other end of a connected Unix socket until it is closed there."""
        loop = asyncio.get_running_loop()
        peer = _Peer(self._ledger, self._most_unanswered, self._peers)
        await loop.create_unix_connection(lambda: peer, sock=connected)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._peers)

    def close(self) -> None:
        """End all connections; rows that have arrived are written nevertheless."""
        for peer in tuple(self._peers):
            peer.close()


class _Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, ledger: Ledger, most_unanswered: int, peers: set[_Peer]) -> None:
        self._ledger = ledger
        self._most_unanswered = most_unanswered
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._splitter = Splitter()
        self._decoder = msgspec.msgpack.Decoder(Sent)
        self._encoder = msgspec.msgpack.Encoder()
        self._transport: asyncio.Transport | None = None
        self._next = 0
        self._unanswered = 0
        self._reading = True
        self._done: list[int] = []
        self._failed: list[tuple[int, str, str]] = []
        self._erased: list[tuple[int, int]] = []
        self._purges: set[asyncio.Future[None]] = set()
        self._scheduled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._peers.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._peers.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._splitter.feed(data):
                self._take(self._decoder.decode(body))
        except (ValueError, msgspec.MsgspecError) as error:
            LOG.error("a worker sent the ledger what is no row (%s); its connection is closed", error)
            if self._transport is not None:
                self._transport.abort()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def answer(self, number: int, error: Exception | None) -> None:
        """Have the client told what became of a job; answers of one turn share a frame."""
        if error is None:
            self._done.append(number)
        else:
            told = error if isinstance(error, InsourceError) else StoreError(f"{type(error).__name__}: {error}")
            self._failed.append((number, told.code, str(told)))
        self._unanswered -= 1
        self._schedule()

    def _take(self, sent: Sent) -> None:
        if sent.first < self._next:
            raise ValueError(f"job {sent.first} comes after job {self._next - 1}")
        self._next = sent.first + len(sent.jobs) + sent.purge
        if sent.purge:
            job = asyncio.ensure_future(self._purge(sent.first + len(sent.jobs)))
            self._purges.add(job)
            job.add_done_callback(self._purges.discard)
        jobs = [
            _Told(job.rows(), job.patient, self._loop, self, number) for number, job in enumerate(sent.jobs, sent.first)
        ]
        self._unanswered += len(jobs)
        self._ledger.put(jobs)
        if self._unanswered >= self._most_unanswered and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    async def _purge(self, number: int) -> None:
        self._unanswered += 1
        try:
            erased = await self._ledger.purge(self._ledger.now())
        except InsourceError as error:
            self.answer(number, error)
            return
        self._unanswered -= 1
        self._erased.append((number, erased))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        told = Told(self._done, self._failed, self._erased)
        self._done, self._failed, self._erased = [], [], []
        if self._transport is None:
            return
        self._transport.write(frame(self._encoder.encode(told)))
        if not self._reading and self._unanswered < self._most_unanswered // 2:
            self._reading = True
            self._transport.resume_reading()


class _Told(Job):
    """A job whose client is told over the socket."""

    __slots__ = ("_number", "_peer")

    def __init__(self, rows: Rows, patient: bool, loop: asyncio.AbstractEventLoop, peer: _Peer, number: int) -> None:
        super().__init__(rows, patient, loop)
        self._peer = peer
        self._number = number

    def resolve(self) -> None:
        """Hand value or error to the connection."""
        self._peer.answer(self._number, self.error)
