"""GET over HTTPS for base models: redirects followed, and what comes counted before it is kept.

It rides on the HTTP/1.1 client of `backends`. It knows no hub; a token goes to the host that it was given for alone.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from insource.backends.http1_pool import Pool
from insource.backends.http1_reply import Failed, Reply
from insource.errors import FetchError

HOPS = 5
REDIRECTS = (301, 302, 303, 307, 308)
SILENCE_S = 30.0
CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    """One reply: its status, the headers of it and of the redirects that led to it (the first one's count), its body.

    Raises FetchError where the body breaks off.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    _reply: Reply

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        try:
            while piece := await self._reply.read():
                yield piece
        except Failed as failure:
            raise broken(self.url, failure) from failure

    async def whole(self, largest: int) -> bytes:
        """Return the body; raise FetchError past `largest` bytes."""
        found = bytearray()
        async for piece in self.pieces():
            found += piece
            if len(found) > largest:
                raise FetchError(f"{self.url} sent more than {largest:,} bytes; fewer were expected. It was not read.")
        return bytes(found)


class Web:
    """What answers at `endpoint` (https, or http on this machine) and wherever that leads to."""

    def __init__(self, endpoint: str, token: str | None = None) -> None:
        self._home = _authority(_split(endpoint))
        self._plain = urlsplit(endpoint).scheme == "http"
        self._token = token
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def get(self, url: str, *, start: int = 0) -> AsyncIterator[Page]:
        """Ask for a page, from byte `start` on; raise FetchError where it cannot be had or leads on and on."""
        told: dict[str, str] = {}
        for _ in range(HOPS):
            where = _split(url)
            if where.scheme == "http" and not self._plain:
                raise FetchError(f"{url} is not https; the connection was to stay encrypted. Nothing was fetched.")
            pool = Pool(
                where.hostname or "", where.port or (443 if where.scheme == "https" else 80),
                tls=self._context() if where.scheme == "https" else None, silence=SILENCE_S, connect=CONNECT_S,
                connections=1,
            )  # fmt: skip
            try:
                try:
                    reply = await pool.exchange(self._head(where, start), b"")
                except Failed as failure:
                    raise broken(url, failure) from failure
                headers = dict(reply.headers)
                told = headers | told
                if reply.status not in REDIRECTS or "location" not in headers:
                    yield Page(url, reply.status, told, reply)
                    return
            finally:
                await pool.close()
            url = urljoin(url, headers["location"])
        raise FetchError(f"{url} leads on and on: {HOPS} redirects; a file was expected. Nothing was fetched.")

    def _head(self, where: SplitResult, start: int) -> bytes:
        target = quote(where.path or "/", safe="/%:@!$&'()*+,;=~-._")
        target += "?" + quote(where.query, safe="/%:@!$&'()*+,;=~-._?") if where.query else ""
        lines = [f"GET {target} HTTP/1.1", f"host: {_authority(where)}", "accept-encoding: identity"]
        if start:
            lines.append(f"range: bytes={start}-")
        if self._token and _authority(where) == self._home:
            lines.append(f"authorization: Bearer {self._token}")
        return "\r\n".join([*lines, "user-agent: insource", "", ""]).encode("ascii")

    def _context(self) -> ssl.SSLContext:
        self._tls = self._tls or ssl.create_default_context()
        return self._tls


def broken(url: str, failure: Failed) -> FetchError:
    """Translate the client's failure."""
    return FetchError(f"{url} cannot be fetched ({failure}); a whole reply was expected. Check the connection.")


def _split(url: str) -> SplitResult:
    """Take an address apart; raise FetchError for one that is not https, nor http on this machine."""
    try:
        where = urlsplit(url)
        good = where.scheme == "https" or where.scheme == "http" and _here(where.hostname or "")
        if (
            good
            and where.hostname
            and where.username is None
            and where.port != 0
            and url.isascii()
            and url.isprintable()
        ):
            return where
    except ValueError:
        pass
    raise FetchError(f"{url!r} is not an address to fetch from; https://HOST was expected. Check HF_ENDPOINT.")


def _here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _authority(where: SplitResult) -> str:
    """Return the host, with its port where that is not the scheme's own."""
    usual = {"https": 443, "http": 80}[where.scheme]
    host = f"[{where.hostname}]" if ":" in (where.hostname or "") else where.hostname or ""
    return host if where.port in (None, usual) else f"{host}:{where.port}"
