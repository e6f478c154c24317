"""An upstream that notes the mark in whatever it is asked, and answers, fails, breaks off or hangs as the text says.

A mark is the number of a client's request; `mark` writes one into a text, `mark_in` finds it in anything.
"""

from __future__ import annotations

import asyncio
import json
import re
from asyncio import StreamReader, StreamWriter
from collections import Counter

from reliability.plain_upstream import PlainUpstream

FAILS, BREAKS, HANGS, TRICKLES = "it fails", "it breaks", "it hangs", "it trickles"
_MARK = re.compile(rb"mark-(\d+)\.")
_ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "card"}, "finish_reason": "stop"}],
           "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}  # fmt: skip
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"card"}}]}\n\n'


def mark(number: int) -> str:
    """Return the mark of a client's request."""
    return f"mark-{number}."


def mark_in(data: bytes | str) -> int | None:
    """Return the number of the first mark, None where there is none."""
    found = _MARK.search(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    return int(found[1]) if found else None


class MatchingUpstream(PlainUpstream):
    """The upstream; `marks` counts how often it was asked for each mark."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: Counter[int | None] = Counter()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
        body = await reader.readexactly(length)
        self.marks[mark_in(body)] += 1
        if BREAKS.encode() in body:
            raise ConnectionError("it breaks off")
        if HANGS.encode() in body:
            await reader.read()  # until the gateway gives it up
            raise ConnectionError("nobody waits any more")
        if TRICKLES.encode() in body:
            writer.write(_head(200, "text/event-stream", None))
            while not reader.at_eof():
                writer.write(b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT))
                await writer.drain()
                await asyncio.sleep(0.02)
            raise ConnectionError("nobody listens any more")
        if b'"stream": true' in body:
            said = _EVENT + b"data: [DONE]\n\n"
            writer.write(_head(200, "text/event-stream", len(said)) + said)
        else:
            said = json.dumps({"error": {"message": "no"}} if FAILS.encode() in body else _ANSWER).encode()
            writer.write(_head(500 if FAILS.encode() in body else 200, "application/json", len(said)) + said)
        await writer.drain()


def _head(status: int, kind: str, length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()
