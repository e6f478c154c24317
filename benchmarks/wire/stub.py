"""The upstream of the gateway's figures: `python -m benchmarks.wire.stub PORT` answers every POST with canned bytes.

A request whose body asks to be streamed gets `EVENTS` server-sent events, 20 a second, each with the time
(CLOCK_MONOTONIC, nanoseconds) at which it was sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

EVENTS = 60
EVERY = 0.05
BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello. How can I help you today?", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30},
    }
).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Stub(asyncio.Protocol):
    """Reads requests by their length and answers each."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = self.waiting[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.waiting) < end + 4 + length:
                return
            body, self.waiting = self.waiting[end + 4 : end + 4 + length], self.waiting[end + 4 + length :]
            if b'"stream":true' in body:
                self.transport.write(STREAM)
                self.event(0)
            else:
                self.transport.write(REPLY)

    def event(self, number: int) -> None:
        """Send one event and see to the next."""
        if self.transport.is_closing():
            return
        if number == EVENTS:
            self.transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            return
        text = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,'
        text += b'"delta":{"content":"%d"},"finish_reason":null}]}\n\n' % time.monotonic_ns()
        self.transport.write(b"%x\r\n" % len(text) + text + b"\r\n")
        asyncio.get_running_loop().call_later(EVERY, self.event, number + 1)


async def main(port: int) -> None:
    """Listen until killed."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=1024)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
