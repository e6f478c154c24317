"""What a running gateway says of itself: /readyz and /metrics, asked over loopback and read into figures.

It knows two pages of one gateway and nothing that is stored; a gateway that does not answer is a state like any other.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from insource.gateway.metrics import read_text
from insource.store.keys import KEY

SECONDS = 2.0
KEY_VARIABLE = "INSOURCE_KEY"
"""The environment variable with a key of the gateway's own, for commands that ask it."""
_REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LARGEST = 16 * 2**20
_Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What one look found; `detail` says why it is not reachable. None is unknown.

    `upstreams` says for each whether its circuit breaker is "closed" or "open"; `configurations` how many workers
    serve under the configuration of each digest.
    """

    url: str
    reachable: bool = False
    ready: bool = False
    detail: str | None = None
    workers: int | None = None
    in_flight: int | None = None
    ledger_waiting: int | None = None
    ledger_lost: int | None = None
    upstreams: Mapping[str, str] = field(default_factory=dict)
    configurations: Mapping[str, int] = field(default_factory=dict)
    loaded: datetime | None = None
    reloads_refused: int = 0


async def look(host: str, port: int, seconds: float = SECONDS, key: str | None = None,
               certificate: Path | None = None) -> GatewayState:  # fmt: skip
    """Ask the gateway at an address; never raises because of what is there or not, and takes `seconds` at most.

    `key` is one that may read the metrics, where the gateway needs one; `certificate` what it serves HTTPS with.
    """
    host = _REACHED.get(host, host)
    scheme = "http" if certificate is None else "https"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    if port == 0:
        return GatewayState(url, detail="gateway.port is 0, so it has no fixed address; set one to see it here")
    try:
        async with asyncio.timeout(seconds):
            tls = _trusting(certificate) if certificate is not None else None
            ready, _ = await _get(host, port, "/readyz", tls=tls)
            status, page = await _get(host, port, "/metrics", key, tls)
        samples = read_text(page.decode()) if status == 200 else {}
    except TimeoutError:
        return GatewayState(url, detail=f"no answer within {seconds:g} s")
    except OSError as error:
        plain = error.errno and not isinstance(error, ssl.SSLError)
        return GatewayState(url, detail=os.strerror(error.errno or 0) if plain else type(error).__name__)
    except ValueError:
        samples = {}
    if status in (401, 403) and ready in (200, 503):
        told = f"its figures need a key that may read them; set {KEY_VARIABLE}, or gateway.metrics"
        return GatewayState(url, reachable=True, ready=ready == 200, detail=told)
    if "insource_workers" not in samples:
        return GatewayState(url, detail="what answers there is no insource gateway")
    return _state(url, ready == 200, samples)


def _state(url: str, ready: bool, samples: _Samples) -> GatewayState:
    loaded = _one(samples, "insource_config_loaded_seconds")
    return GatewayState(
        url,
        reachable=True,
        ready=ready,
        workers=_whole(samples, "insource_workers"),
        in_flight=_whole(samples, "insource_in_flight"),
        ledger_waiting=_whole(samples, "insource_ledger_waiting"),
        ledger_lost=_whole(samples, "insource_ledger_lost_rows"),
        upstreams={
            labels["upstream"]: "open" if value else "closed"
            for labels, value in samples.get("insource_upstream_breaker_open", ())
        },
        configurations={
            labels["digest"]: int(value) for labels, value in samples.get("insource_config_info", ()) if value
        },
        loaded=datetime.fromtimestamp(loaded, UTC) if loaded else None,
        reloads_refused=sum(
            int(value)
            for labels, value in samples.get("insource_config_reloads_total", ())
            if labels["result"] == "refused"
        ),
    )


def _trusting(certificate: Path) -> ssl.SSLContext:
    """Return a context that takes exactly this certificate, under whatever name it is reached."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def _get(host: str, port: int, path: str, key: str | None = None,
               tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:  # fmt: skip
    """Return status and body; ValueError where what comes back is not HTTP with a status."""
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        name = f"[{host}]" if ":" in host else host
        told = f"x-api-key: {key}\r\n" if key is not None and KEY.fullmatch(key) else ""
        asked = f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\n{told}Connection: close\r\n\r\n"
        writer.write(asked.encode("ascii"))
        received = bytearray()
        while len(received) < _LARGEST and (more := await reader.read(65_536)):
            received += more
    finally:
        writer.close()
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    protocol, _, rest = head.partition(b" ")
    if not protocol.startswith(b"HTTP/1."):
        raise ValueError("no HTTP")
    return int(rest[:3]), body


def _one(samples: _Samples, name: str) -> float | None:
    found = samples.get(name)
    return found[0][1] if found else None


def _whole(samples: _Samples, name: str) -> int | None:
    value = _one(samples, name)
    return None if value is None else int(value)
