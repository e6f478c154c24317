"""Keeping web pages out: without keys, loopback is the only wall, and a page in a browser stands inside it.

It reads the Host and Origin headers and knows nothing else of a request.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from insource.errors import Forbidden

_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


def refuse_pages(headers: Mapping[str, str]) -> None:
    """Raise Forbidden where a request comes from a page of another machine (Origin), or was led here by name (Host).

    A page can send a plain POST to any address, and a name it owns can be made to point at 127.0.0.1 (DNS rebinding);
    either would let it use the upstream's key. Clients that are not browsers send no Origin, and name a loopback host.
    What a page only links to or embeds has no Origin either; then Sec-Fetch-Site tells.
    """
    host, origin = headers.get("host"), headers.get("origin")
    if host is not None and not (_AUTHORITY.fullmatch(host) and _is_loopback(f"//{host}")):
        raise _foreign("Host", host)
    if origin is not None:
        if not _is_loopback(origin):
            raise _foreign("Origin", origin)
    elif headers.get("sec-fetch-site") == "cross-site":
        raise _foreign("Sec-Fetch-Site", "cross-site")


def _foreign(name: str, value: str) -> Forbidden:
    return Forbidden(
        f"The request's {name} is {value[:80]!r}; a loopback address was expected, as this gateway serves this machine "
        "alone. Use http://127.0.0.1 in base_url."
    )


@lru_cache(maxsize=256)
def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
