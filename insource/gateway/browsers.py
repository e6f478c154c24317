"""Keeping web pages out: without keys, loopback is the only wall, and a page in a browser stands inside it.

It reads the Host and Origin headers and knows nothing else of a request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from insource.errors import Forbidden


def refuse_pages(headers: Mapping[str, str]) -> None:
    """Raise Forbidden where a request comes from a page of another machine (Origin), or was led here by name (Host).

    A page can send a plain POST to any address, and a name it owns can be made to point at 127.0.0.1 (DNS rebinding);
    either would let it use the upstream's key. Clients that are not browsers send no Origin, and name a loopback host.
    """
    for name in ("host", "origin"):
        value = headers.get(name)
        if value is not None and not _is_loopback(value if name == "origin" else f"//{value}"):
            raise Forbidden(
                f"The request's {name.capitalize()} is {value[:80]!r}; a loopback address was expected, as this "
                "gateway serves this machine alone. Use http://127.0.0.1 in base_url."
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
