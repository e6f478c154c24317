"""The upstream over HTTP: an OpenAI-compatible API to which requests go as they came, and whose bytes come back so.

One attempt, no retry, no redirect: a repeat would be a second disclosure. It knows no task and no price; where it may
send is fixed at construction, never by a request. Construct it in `policy/egress.py` only.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from insource.backends.contract import BackendInfo, Health
from insource.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from insource.types import Answer, Relay, Request

CHUNK_BYTES = 64 * 1024
LARGE_BYTES = 512 * 1024

_HOP_BY_HOP = frozenset(
    """connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding
    upgrade""".split()
)
_NOT_SENT = _HOP_BY_HOP | {"host", "content-length", "accept-encoding", "expect"}
_OURS = "x-insource-"


class Upstream:
    """Sends a request's method, path, headers and body bytes, and relays status, headers and body as they arrive.

    `silence` is the longest wait for the next byte in seconds, `connect` the longest for a connection. `api_key`
    replaces the client's own authorization where it is given. Failure before the reply's headers raises
    UpstreamUnreachable or UpstreamTimeout; so does the relay's iteration after them.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key: str | None = None,
        silence: float = 60.0,
        connect: float = 5.0,
        connections: int = 512,
    ) -> None:
        self._name = name
        self._base = URL(base_url.rstrip("/"))
        self._api_key = api_key
        self._timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=connect, sock_read=silence)
        self._silence = silence
        self._connect = connect
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    @property
    def info(self) -> BackendInfo:
        """The upstream's name in the configuration."""
        return BackendInfo(self._name)

    async def answer(self, request: Request) -> Answer:
        """Send the request once; return the reply's head with a relay of its body."""
        session = self._opened()
        started = perf_counter()
        try:
            reply = await session.request(
                request.method,
                self.address(request.path),
                headers=self._headers(request.headers),
                data=_payload(request.body),
                allow_redirects=False,
            )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._translated(error) from error
        seconds = perf_counter() - started
        headers = tuple((name, value) for name, value in reply.headers.items() if name.lower() not in _HOP_BY_HOP)
        relay = Relay(reply.status, headers, self._chunks(reply), _closer(reply))
        return Answer(self._name, seconds={"upstream_head": seconds}, relay=relay)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Send one after the other."""
        return [await self.answer(request) for request in requests]

    async def health(self) -> Health:
        """Ready while open; no request is spent on finding out more."""
        return Health(True) if self._session is not None else Health(False, "closed")

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=15)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
            read_bufsize=CHUNK_BYTES,
            max_line_size=32 * 1024,
            max_field_size=32 * 1024,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def address(self, path: str) -> URL:
        """Return where a request for `path` goes: the base's host always, its own "/v1" taken once."""
        raw = path.removeprefix("/v1") if self._base.raw_path.rstrip("/").endswith("/v1") else path
        query = ""
        if "?" in raw:
            raw, query = raw.split("?", 1)
        base = str(self._base).rstrip("/")
        return URL(base + (raw if raw.startswith("/") else "/" + raw) + ("?" + query if query else ""), encoded=True)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise UpstreamError(f"The upstream '{self._name}' is closed; it was asked to answer. Open it first.")
        return self._session

    def _headers(self, given: Mapping[str, str]) -> CIMultiDict[str]:
        """Return the client's headers without those of its own connection and of insource."""
        named = {name.strip().lower() for name in given.get("connection", "").split(",")}
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in given.items():
            if name not in _NOT_SENT and name not in named and not name.startswith(_OURS):
                headers.add(name, value)
        headers["accept-encoding"] = "gzip" if "gzip" in given.get("accept-encoding", "") else "identity"
        if self._api_key is not None:
            headers["authorization"] = f"Bearer {self._api_key}"
        return headers

    async def _chunks(self, reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in reply.content.iter_any():
                yield chunk
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._translated(error) from error
        finally:
            reply.close()

    def _translated(self, error: Exception) -> UpstreamError:
        """The one place where aiohttp's exceptions become ours."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return UpstreamTimeout(
                f"The upstream '{self._name}' gave no connection within {self._connect:g} s. "
                "Check that it runs and can be reached, or raise connect_timeout_s."
            )
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(
                f"The upstream '{self._name}' kept silent for {self._silence:g} s. "
                "Check it, or raise timeout_s if it needs longer."
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return UpstreamUnreachable(
                f"The upstream '{self._name}' cannot be reached ({type(error).__name__}). "
                "Check base_url, and that it runs."
            )
        return UpstreamUnreachable(
            f"The upstream '{self._name}' broke off ({type(error).__name__}) before its reply was complete; "
            "it was asked once and not again. Try again."
        )


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """Return what aiohttp sends: nothing for no body, and a large one in pieces, so that the loop goes on meanwhile."""
    return io.BytesIO(body) if len(body) > LARGE_BYTES else body or None


def _closer(reply: aiohttp.ClientResponse) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        reply.close()

    return close
