"""The upstream over HTTP: a model's API to which requests go as they came, and whose bytes come back so.

One attempt, no redirect, no proxy, no cookie: a repeat would be a second disclosure. It knows no task and no price;
where it may send is fixed at construction, never by a request. Construct it in `policy/egress.py` only.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import inf
from time import perf_counter
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

from insource.backends.contract import BackendInfo, Health
from insource.backends.http1 import HOP_BY_HOP
from insource.backends.http1_pool import Pool
from insource.backends.http1_reply import ConnectTimeout, Endless, Failed, Reply, Silent, Unreachable
from insource.errors import ConfigError, RequestError, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from insource.types import Answer, Relay, Request

_NOT_SENT = HOP_BY_HOP | {"host", "content-length", "accept-encoding", "expect"}
_CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key"})
_OURS = "x-insource-"
_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e\x80-\xff]*")
_KEY = re.compile(r"[\x21-\x7e]+")
_PATH_CHARACTERS = "/%:@!$&'()*+,;=~-._"


class Upstream:
    """Sends a request's method, path, headers and body bytes, and relays status, headers and body as they arrive.

    `silence` is the longest wait in seconds for a reply's head, and then for its next byte; `whole` the longest for a
    whole reply, `connect` for a connection. At most `connections` stand at once; further requests wait for one.
    `resend` is asked before a request goes out a second time, as a kept connection turned out to be closed; `attempts`
    of the answer counts that. `api_key` replaces the client's own credentials where it is given: as `Bearer` in
    authorization, or bare in another `key_header`. Failure before the reply's headers raises UpstreamUnreachable or
    UpstreamTimeout; so does the relay's iteration after them. Raises ConfigError for a key that no header can carry.
    Header values are text decoded as latin-1, both ways.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key: str | None = None,
        key_header: str = "authorization",
        silence: float = 60.0,
        connect: float = 5.0,
        connections: int = 512,
        whole: float = inf,
        resend: Callable[[], bool] = lambda: True,
    ) -> None:
        self._name = name
        self._key = _key_line(name, key_header, api_key)
        self._silence, self._connect, self._connections = silence, connect, connections
        self._whole, self._resend = whole, resend
        parts = urlsplit(base_url.rstrip("/"))
        self._tls = parts.scheme == "https"
        self._host = _ascii(parts.hostname or "")
        self._port = parts.port or (443 if self._tls else 80)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._authority = host if parts.port is None else f"{host}:{parts.port}"
        self._path = quote(parts.path.rstrip("/"), safe=_PATH_CHARACTERS)
        self._skipped = "/v1" if self._path.endswith("/v1") else ""
        self._pool: Pool | None = None

    @property
    def info(self) -> BackendInfo:
        """The upstream's name in the configuration."""
        return BackendInfo(self._name)

    async def answer(self, request: Request) -> Answer:
        """Send the request once; return the reply's head with a relay of its body.

        Raises RequestError, and sends nothing, where a method, path or header cannot be put on the wire as it is.
        """
        pool = self._pool
        if pool is None:
            raise UpstreamError(f"The upstream '{self._name}' is closed; it was asked to answer. Open it first.")
        head = self._head(request)
        started = perf_counter()
        try:
            reply = await pool.exchange(head, request.body, bodyless=request.method == "HEAD")
        except Failed as failure:
            raise self._translated(failure) from failure
        seconds = perf_counter() - started
        whole = reply.whole
        chunks = _Whole(whole) if whole is not None else _Chunks(self, reply)
        relay = Relay(reply.status, reply.headers, chunks, chunks.close, whole)
        return Answer(self._name, seconds={"upstream_head": seconds}, relay=relay, attempts=reply.sent)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Send one after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """Ready while open; no request is spent on finding out more."""
        return Health(True) if self._pool is not None else Health(False, "closed")

    async def __aenter__(self) -> Self:
        """Open the pool of connections, with none in it."""
        tls = ssl.create_default_context() if self._tls else None
        self._pool = Pool(
            self._host,
            self._port,
            tls=tls,
            silence=self._silence,
            connect=self._connect,
            connections=self._connections,
            whole=self._whole,
            resend=self._resend,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut all connections; relays under way break off."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def address(self, path: str) -> str:
        """Return where a request for `path` goes: the base's host always, its own "/v1" taken once."""
        return f"{'https' if self._tls else 'http'}://{self._authority}{self._target(path)}"

    def _target(self, path: str) -> str:
        raw = path.removeprefix(self._skipped)
        return self._path + (raw if raw.startswith("/") else "/" + raw)

    def _head(self, request: Request) -> bytes:
        """Return the request's line and headers: the client's, without those of its own connection and of insource."""
        method, given, target = request.method, request.headers, self._target(request.path)
        if _TARGET.fullmatch(target) is None or _TOKEN.fullmatch(method) is None or method == "CONNECT":
            raise _unsendable("method or path")
        lines = [f"{method} {target} HTTP/1.1", f"host: {self._authority}"]
        named = _named(given.get("connection", ""))
        for name, value in given.items():
            sent = _sent(name)
            if sent and sent not in named and (self._key is None or sent not in _CREDENTIALS):
                lines.append(f"{sent}: {value}")
        zipped = "gzip" in given.get("accept-encoding", "")
        lines.append("accept-encoding: gzip" if zipped else "accept-encoding: identity")
        if self._key is not None:
            lines.append(self._key)
        if request.body or method in _WITH_LENGTH:
            lines.append(f"content-length: {len(request.body)}")
        text = "\r\n".join(lines)
        ends = len(lines) - 1
        if text.count("\r") != ends or text.count("\n") != ends or "\0" in text:
            raise _unsendable("header's value")
        try:
            return text.encode("latin-1") + b"\r\n\r\n"
        except UnicodeEncodeError:
            raise _unsendable("header's value") from None

    def _translated(self, failure: Failed) -> UpstreamError:
        """The one place where the connection's failures become ours."""
        if isinstance(failure, ConnectTimeout):
            return UpstreamTimeout(
                f"The upstream '{self._name}' gave no connection within {self._connect:g} s. "
                "Check that it runs and can be reached, or raise connect_timeout_s."
            )
        if isinstance(failure, Silent):
            return UpstreamTimeout(
                f"The upstream '{self._name}' {failure} for {self._silence:g} s. "
                "Check it, or raise timeout_s if it needs longer."
            )
        if isinstance(failure, Endless):
            return UpstreamTimeout(
                f"The upstream '{self._name}' {failure} after {self._whole:g} s. "
                "Check it, or raise reply_s if its replies take longer."
            )
        if isinstance(failure, Unreachable):
            return UpstreamUnreachable(
                f"The upstream '{self._name}' cannot be reached ({failure}). Check base_url, and that it runs."
            )
        asked = "asked once and not" if failure.sent == 1 else "asked over a new connection, and then not"
        return UpstreamUnreachable(
            f"The upstream '{self._name}' broke off before its reply was complete ({failure}); "
            f"it was {asked} again. Try again."
        )


class _Whole:
    """A body that is here: one chunk, or none where it is empty."""

    __slots__ = ("_rest",)

    def __init__(self, body: bytes) -> None:
        self._rest = body

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        chunk, self._rest = self._rest, b""
        return chunk

    async def close(self) -> None:
        """Nothing is left to do."""


class _Chunks:
    """A body that is still on its way, as it arrives; dropped without a close, it cuts its connection as well."""

    __slots__ = ("_loop", "_reply", "_upstream")

    def __init__(self, upstream: Upstream, reply: Reply) -> None:
        self._upstream, self._reply = upstream, reply
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._reply.read()
        except Failed as failure:
            raise self._upstream._translated(failure) from failure
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def close(self) -> None:
        """Let go of the reply: before its end, the connection is cut at once."""
        self._reply.close()

    def __del__(self) -> None:
        reply = self._reply
        if not reply.complete and reply.failure is None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(reply.close)


@lru_cache(maxsize=1024)
def _sent(name: str) -> str:
    """Return a header's name as it is sent, "" for one that stays here; raise RequestError for what is no name."""
    if _TOKEN.fullmatch(name) is None:
        raise _unsendable("header's name")
    lowered = name.lower()
    return "" if lowered in _NOT_SENT or lowered.startswith(_OURS) else lowered


@lru_cache(maxsize=256)
def _named(connection: str) -> frozenset[str]:
    """Return the headers that a connection header names as its own."""
    return frozenset(part.strip().lower() for part in connection.split(","))


def _unsendable(what: str) -> RequestError:
    return RequestError(
        f"The request's {what} holds a character that HTTP/1.1 cannot carry there, such as a line break. "
        "Latin-1 without control characters was expected; nothing was sent. Correct the request."
    )


def _key_line(name: str, header: str, key: str | None) -> str | None:
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        raise ConfigError(
            f"The key of the upstream '{name}' holds a blank, a line break or another character that no header can "
            "carry; printable ASCII was expected. Correct the variable that api_key_env names."
        )
    return f"authorization: Bearer {key}" if header == "authorization" else f"{header}: {key}"


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode("ascii")
