"""Reads content and token counts out of a relayed reply as its bytes pass, plain JSON or server-sent events.

It changes nothing and delays nothing; past its limit it stops reading and says so. It knows no prices.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from insource.types import Answer, Usage

MAX_BYTES = 8 * 1024 * 1024
"""How much of one reply is kept for reading, after decompression."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a reply said: the first choice's text and the tokens, None where unknown, and then why in `detail`."""

    status: int
    content: str | None = None
    usage: Usage | None = None
    detail: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(msgspec.Struct):
    content: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Body)


class ReplyReader:
    """Takes a reply's bytes as they pass and says at the end what they held."""

    def __init__(self, status: int, headers: Iterable[tuple[str, str]], *, max_bytes: int = MAX_BYTES) -> None:
        lowered = {name.lower(): value.lower() for name, value in headers}
        self._status = status
        self._stream = lowered.get("content-type", "").startswith("text/event-stream")
        encoding = lowered.get("content-encoding", "identity")
        self._unreadable = None if encoding in ("identity", "gzip", "deflate") else f"encoded as {encoding[:20]}"
        self._unzip = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
        self._max = max_bytes
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; never raises for what they hold."""
        if self._unreadable is not None:
            return
        try:
            data = chunk if self._unzip is None else self._unzip.decompress(chunk, self._max + 1 - len(self._buffer))
        except zlib.error:
            self._unreadable = "damaged compression"
            return
        self._buffer += data
        if len(self._buffer) > self._max:
            self._unreadable = f"longer than {self._max} bytes"
            self._buffer.clear()

    def finish(self) -> Reply:
        """Return what the bytes so far held."""
        if self._unreadable is not None:
            return Reply(self._status, detail=f"the reply was not read: {self._unreadable}")
        try:
            return self._read_events() if self._stream else self._read_json()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Reply(self._status, detail="the reply is not in the chat completions format")

    def _read_json(self) -> Reply:
        body = _DECODER.decode(self._buffer)
        message = body.choices[0].message if body.choices else None
        content = message.content if message and isinstance(message.content, str) else None
        return Reply(self._status, content, _usage(body.usage), None if content is not None else "no text")

    def _read_events(self) -> Reply:
        pieces: list[str] = []
        usage: Usage | None = None
        ended = False
        for line in self._buffer.splitlines():
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]" or not data:
                ended = ended or bool(data)
                continue
            try:
                body = _DECODER.decode(data)
            except msgspec.DecodeError:  # cut in the middle of an event; what came before it still counts
                return Reply(self._status, usage=usage, detail="the stream ended early or is not one of completions")
            usage = _usage(body.usage) or usage
            for choice in body.choices:
                ended = ended or choice.finish_reason is not None
                if choice.index == 0 and choice.delta and isinstance(choice.delta.content, str):
                    pieces.append(choice.delta.content)
        if not ended:
            return Reply(self._status, usage=usage, detail="the stream ended early")
        return Reply(self._status, "".join(pieces), usage, None)


async def read_reply(answer: Answer, *, max_bytes: int = MAX_BYTES) -> Reply:
    """Read an answer to its end, relay or not, and close it; raises what the relay raises."""
    relay = answer.relay
    if relay is None:
        return Reply(200, answer.content, answer.usage, None if answer.content is not None else "no text")
    reader = ReplyReader(relay.status, relay.headers, max_bytes=max_bytes)
    try:
        async for chunk in relay.chunks:
            reader.feed(chunk)
    finally:
        await relay.close()
    return reader.finish()


def _usage(wire: _Usage | None) -> Usage | None:
    if wire is None:
        return None
    prompt = wire.prompt_tokens if wire.prompt_tokens is not None else wire.input_tokens
    completion = wire.completion_tokens if wire.completion_tokens is not None else wire.output_tokens
    counts = (prompt if prompt is not None else -1, completion or 0)
    return Usage(*counts) if all(0 <= count < 2**53 for count in counts) else None
