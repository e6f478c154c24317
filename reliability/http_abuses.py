"""What can be put on a connection that is no HTTP, not quite HTTP, or HTTP that two readers may read differently.

It knows bytes and pieces; it sends nothing, and draws everything from the random source it is given.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

HIDDEN = "/v1/hidden-request"
"""The path of a second request that stands where a careful reader sees a body; no upstream may ever hear of it."""
HEAD_BYTES = 300_000
_BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}'
_SMUGGLED = f"POST {HIDDEN} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Abuse:
    """Pieces to send one after another; `leaves` says that the client breaks off then, without waiting for a reply."""

    name: str
    pieces: tuple[bytes, ...]
    leaves: bool = False


def abuse(chance: random.Random) -> Abuse:
    """Return one abuse."""
    name = chance.choice(sorted(ABUSES))
    data = ABUSES[name](chance)
    kind = chance.randrange(4)
    if kind == 0 and len(data) > 1:
        cuts = sorted(chance.randrange(1, len(data)) for _ in range(chance.choice((1, 3, 8))))
        pieces = tuple(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))
        return Abuse(name, pieces)
    if kind == 1:
        return Abuse(name, (data[: chance.randrange(len(data)) if data else 0],), leaves=True)
    return Abuse(name, (data,))


def request(*headers: str, line: str = "POST /v1/chat/completions HTTP/1.1", body: bytes = _BODY,
            host: str = "host: 127.0.0.1",
            length: str | None = "") -> bytes:  # fmt: skip
    """Return a request; `length` "" is the right one, None leaves it out."""
    lines = [line, host, *headers]
    if length is not None:
        lines.append(f"content-length: {length or len(body)}")
    return "\r\n".join(filter(None, lines)).encode("latin-1") + b"\r\n\r\n" + body


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 16, 300, 5_000, 80_000)))


def _foreign(chance: random.Random) -> bytes:
    return chance.choice((
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(508),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + chance.randbytes(40),
        b"SSH-2.0-OpenSSH_9.6\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x00\x00\x00\x2a" + chance.randbytes(42), b"EHLO x\r\n",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + request(),
    ))  # fmt: skip


def _line(chance: random.Random) -> bytes:
    method = chance.choice(
        ("POST", "GET", "post", "", "P\xd6ST", "CONNECT", "TRACE", "BREW", "M" * 5_000, "PRI", "SOURCE")
    )
    target = chance.choice(("/v1/chat/completions", "*", "", "//", "http://127.0.0.1/v1/models", "http://",
                            "127.0.0.1:80", "?", "\\",
                            "/%", "/\xff", "/v1/\x01", "/" + "a" * chance.choice((10_000, 100_000)),
                            "/v1/models#x"))  # fmt: skip
    version = chance.choice(("HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "HTTP/1.", "http/1.1", "", "HTTP/1.1 x"))
    return request(line=chance.choice((f"{method} {target} {version}", f"{method}\t{target}  {version}", f"{target}")))


def _headers(chance: random.Random) -> bytes:
    odd = ("no colon here", ": no name", "name : space before", " folded", "x:\r\n folded", "x: \x01", "x: a\rb",
           "x: a\x00b", "\xff: \xfe",
           "x" * 70_000 + ": y", "x: " + "y" * chance.choice((60_000, HEAD_BYTES)), "host: evil.example",
           "host: 127.0.0.1",
           "expect: 100-continue", "expect: nonsense", "connection: close", "connection: \xff,,,close", "upgrade: h2c",
           "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: "
           "dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13",
           "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA",
           "te: trailers",
           "trailer: host", "content-type: \x7f", "range: bytes=0-", "transfer-encoding;q=1: chunked")  # fmt: skip
    lines = chance.sample(odd, chance.choice((1, 1, 2, 4)))
    if chance.random() < 0.1:
        lines += [f"x-{number}: y" for number in range(chance.choice((100, 5_000)))]
    return request(*lines, host=chance.choice(("host: 127.0.0.1",) * 4 + ("",)))


def _lengths(chance: random.Random) -> bytes:
    length = chance.choice(("-1", "+5", "0x10", "1e3", "5, 5", "5,6", " 5 5", "99999999999999999999999", str(2**63),
                            "9" * 5_000, "0", "1",
                            "1000000000000", "1048577", "\xb2", "5\x00"))  # fmt: skip
    return request(length=length) + chance.choice((b"", _SMUGGLED))


def _twice(chance: random.Random) -> bytes:
    """Two ways to tell where the body ends, and a request behind the end by one of them."""
    encoding = chance.choice(("chunked", "Chunked", "chunked, chunked", "chunked, identity", "identity", "xchunked",
                              "\tchunked", "chunked\x0b",
                              "gzip, chunked", "chunked;q=1", ""))  # fmt: skip
    headers = [f"transfer-encoding: {encoding}"]
    if chance.random() < 0.3:
        headers.append("transfer-encoding: identity")
    length = chance.choice((None, "5", str(len(_SMUGGLED) + 5), "0"))
    plain = length is None and len(headers) == 1 and encoding.strip().lower() in ("chunked", "gzip, chunked")
    return request(*headers, length=length, body=b"0\r\n\r\n" + (b"" if plain else _SMUGGLED))


def _chunks(chance: random.Random) -> bytes:
    size = chance.choice((b"5", b"-5", b"0x5", b"5;ext=" + b"e" * chance.choice((3, 100_000)), b"FFFFFFFFFFFFFFFFF",
                          b"7FFFFFFFFFFFFFFF", b"",
                          b" 5", b"5 ", b"5\t;", b"G", b"000000000000000000005", b"00"))  # fmt: skip
    end = chance.choice((b"\r\n", b"\n", b"\r", b"\r\r\n", b"x"))
    trailer = chance.choice((b"\r\n", b"host: evil.example\r\n\r\n", b"x: " + b"t" * HEAD_BYTES + b"\r\n\r\n",
                             b"content-length: 5\r\n\r\n",
                             b"x-insource-task: secret\r\n" * 100 + b"\r\n", b"\r\n" + _SMUGGLED[:20],
                             b"bad trailer\r\n\r\n"))  # fmt: skip
    body = size + end + b"hello" + end + b"0\r\n" + trailer
    if chance.random() < 0.3:
        body = b"%x\r\n%b\r\n0\r\n" % (len(_BODY), _BODY) + trailer
    return request("transfer-encoding: chunked", length=None, body=body)


def _pipelined(chance: random.Random) -> bytes:
    line = chance.choice(
        (
            "POST /v1/chat/completions HTTP/1.1",
            "GET /healthz HTTP/1.1",
            "GET /v1/models HTTP/1.1",
            "GET /nowhere HTTP/1.1",
        )
    )
    last = chance.choice((b"", b"\x00garbage\r\n\r\n", request(length="5, 6"), b"\r\n" * 1_000, b"GET /healthz HTT"))
    return request(line=line) * chance.choice((2, 5, 200)) + last


def _blank(chance: random.Random) -> bytes:
    return chance.choice((b"\r\n", b"\n", b"\r", b"\0", b" ")) * chance.choice((1, 1_000, 100_000)) + request()


def _endless(chance: random.Random) -> bytes:
    """A head, or a line, that does not end."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    return chance.choice(
        (
            head + b"x: " + b"y" * HEAD_BYTES,
            b"GET /" + b"a" * HEAD_BYTES,
            b"G" * HEAD_BYTES,
            head + b"x: y\r\n" * 60_000,
        )
    )


ABUSES: dict[str, Callable[[random.Random], bytes]] = {
    "noise": _noise, "foreign": _foreign, "line": _line, "headers": _headers, "lengths": _lengths, "twice": _twice,
    "chunks": _chunks,
    "pipelined": _pipelined, "blank": _blank, "endless": _endless,
}  # fmt: skip
