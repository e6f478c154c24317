"""Reads content and token counts out of a relayed reply as its bytes pass, plain JSON or server-sent events.

It changes nothing and delays nothing; past its limit it stops reading and says so. It knows no prices, and of a stream
it keeps the text alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from insource.backends.reply_dialects import READERS, Said
from insource.types import Answer, Usage

MAX_BYTES = 8 * 1024 * 1024
"""How much of one reply is kept for reading, after decompression."""

_ODD = (msgspec.MsgspecError, UnicodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a reply said: the first choice's text and the tokens, None where unknown, and then why in `detail`.

    A text that a limit on tokens cut off is given with a `detail` that says so. `pieces` is, of a stream that ended
    early, how many pieces of text had come; its tokens are unknown where something came after they were last counted.
    `whole` says that it did not end early: else more may have been generated than its tokens say.
    """

    status: int
    content: str | None = None
    usage: Usage | None = None
    detail: str | None = None
    pieces: int = 0
    whole: bool = True


class ReplyReader:
    """Takes a reply's bytes as they pass and says at the end what they held.

    `dialect` is that of the request. `safe` is the answer that stands for a moderation that flags nothing. Not more
    than `max_bytes` are ever held, and a chunk costs no more than its own length. `streams` says that the reply is one
    of events, `readable` that its bytes pass as they are, not compressed.
    """

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[str, str]],
        *,
        dialect: str = "chat",
        max_bytes: int = MAX_BYTES,
        safe: str | None = None,
    ) -> None:
        kind, encoding = _kind(headers)
        self._status, self._dialect, self._max, self._safe = status, dialect, max_bytes, safe
        self._take = READERS.get(dialect, READERS["other"])[1]
        self.streams = kind.startswith("text/event-stream")
        self.readable = encoding == "identity"
        self._unreadable = _why_unread(kind, encoding)
        self._unzip = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
        self._buffer = bytearray()
        self._said = Said()
        self._odd = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; never raises for what they hold."""
        if self._unreadable is not None or self._odd:
            return
        if self._unzip is not None:
            try:
                chunk = self._unzip.decompress(chunk, self._max + 1 - len(self._buffer))
            except zlib.error:
                self._give_up("damaged compression")
                return
        if self.streams:
            self._split(chunk)
        else:
            self._buffer += chunk
        if len(self._buffer) + len(self._said.text) > self._max or (self._unzip and self._unzip.unconsumed_tail):
            self._give_up(f"longer than {self._max} bytes")

    def finish(self) -> Reply:
        """Return what the bytes so far held."""
        if self._unreadable is not None:
            return Reply(self._status, detail=f"the reply was not read: {self._unreadable}")
        if self.streams:
            self._line(self._buffer)
            self._buffer.clear()
            return _told_stream(self._status, self._said, self._odd)
        return _read(self._status, self._buffer, self._dialect, self._safe)

    def _split(self, data: bytes) -> None:
        """Read the lines that are whole by now, and keep the rest."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._buffer += data
            return
        self._buffer += data[:end]
        lines = self._buffer.split(b"\n")
        self._buffer = bytearray(data[end:])
        for line in lines:
            if line:
                self._line(line)

    def _line(self, line: bytearray) -> None:
        if self._odd or not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if not data:
            return
        try:
            self._take(self._said, data)
        except _ODD:  # cut in the middle of an event, or something else; what came before it still counts
            self._odd = True

    def _give_up(self, why: str) -> None:
        self._unreadable = why
        self._buffer.clear()
        self._said = Said()


def read_whole(
    status: int,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    dialect: str = "chat",
    *,
    max_bytes: int = MAX_BYTES,
    safe: str | None = None,
) -> Reply:
    """Return what a body held that is there as a whole; the same as a ReplyReader fed with it, and quicker."""
    headers = tuple(headers)
    kind, encoding = _kind(headers)
    if encoding == "identity" and kind.startswith("application/json") and len(body) <= max_bytes:
        return _read(status, body, dialect, safe)
    reader = ReplyReader(status, headers, dialect=dialect, max_bytes=max_bytes, safe=safe)
    reader.feed(body)
    return reader.finish()


async def read_reply(
    answer: Answer, *, dialect: str = "chat", max_bytes: int = MAX_BYTES, safe: str | None = None
) -> Reply:
    """Read an answer to its end, relay or not, and close it; raises what the relay raises."""
    relay = answer.relay
    if relay is None:
        return Reply(200, answer.content, answer.usage, None if answer.content is not None else "no text")
    try:
        if relay.whole is not None:
            return read_whole(relay.status, relay.headers, relay.whole, dialect, max_bytes=max_bytes, safe=safe)
        reader = ReplyReader(relay.status, relay.headers, dialect=dialect, max_bytes=max_bytes, safe=safe)
        async for chunk in relay.chunks:
            reader.feed(chunk)
    finally:
        await relay.close()
    return reader.finish()


def _kind(headers: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return content type and content encoding, in small letters."""
    kind, encoding = "", "identity"
    for name, value in headers:
        if len(name) == 12 and name.lower() == "content-type":
            kind = value.lower()
        elif len(name) == 16 and name.lower() == "content-encoding":
            encoding = value.strip().lower()
    return kind, encoding


def _why_unread(kind: str, encoding: str) -> str | None:
    if encoding not in ("identity", "gzip", "deflate"):
        return f"encoded as {encoding[:20]}"
    if kind and not kind.startswith("text/") and "json" not in kind:
        return f"of the type {kind[:40]}"
    return None


def _read(status: int, body: bytes | bytearray, dialect: str, safe: str | None) -> Reply:
    said = Said()
    try:
        READERS.get(dialect, READERS["other"])[0](said, body, safe)
    except _ODD:
        return Reply(status, detail=f"the reply is not in the {dialect} format")
    return _told(status, said)


def _told_stream(status: int, said: Said, odd: bool) -> Reply:
    if said.failed:
        why = "the stream ended in an error"
    elif odd:
        why = "the stream ended early or is of another format"
    elif not said.ended:
        why = "the stream ended early"
    else:
        return _told(status, said)
    usage = None if said.stale else said.usage()
    return Reply(status, usage=usage, detail=why, pieces=said.pieces, whole=False)


def _told(status: int, said: Said) -> Reply:
    if said.failed or not said.spoke:
        return Reply(status, usage=said.usage(), detail="no text" if not said.failed else "the upstream failed")
    detail = "cut off by a limit on tokens" if said.cut else None
    return Reply(status, said.text.decode(), said.usage(), detail)
