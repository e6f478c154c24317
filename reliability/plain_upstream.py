"""An upstream that answers every request at once, or streams until it is told to stop, and counts what it is asked.

It reads a request's length and whether it asks for a stream, nothing else.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import TracebackType
from typing import Self

_ANSWER = json.dumps({
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}).encode()  # fmt: skip
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"."}}]}\n\n'
_LAST = b"data: [DONE]\n\n"
ENDLESS = "endless"


class PlainUpstream:
    """The upstream on loopback; a context manager. Streams end once `end` is set, but those of the model "endless"."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.asked = 0
        self.streams = 0
        self._server: asyncio.Server
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1_024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it and all connections."""
        self._server.close()
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.current_task()
        assert job is not None, "there is always a job on an event loop"
        self._jobs.add(job)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    await self._serve(reader, writer)
        finally:
            self._jobs.discard(job)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
        body = json.loads(await reader.readexactly(length) or b"{}")
        self.asked += 1
        if not body.get("stream"):
            writer.write(_WHOLE)
            await writer.drain()
            return
        self.streams += 1
        writer.write(_STREAM)
        while body.get("model") == ENDLESS or not self.end.is_set():
            writer.write(b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT))
            await writer.drain()
            await asyncio.sleep(0.1)
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_LAST), _LAST))
        await writer.drain()
