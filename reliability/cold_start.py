"""A worker that reloaded a configuration beside one that started under it: all that stands in either, compared.

Whatever the gateway's own objects hold is walked to its leaves. Handles of the system and counts of what has happened
are not compared: they belong to no configuration.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from insource.backends.scripted import Scripted
from insource.config.given import Given
from insource.gateway.app import create_app
from insource.gateway.gateway import Gateway
from insource.gateway.metrics import read_text
from insource.gateway.parts import Parts
from insource.gateway.server import Server, make_server
from insource.gateway.worker import _Worker
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Calibration
from reliability.config_texts import NAMES

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CALIBRATION = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)
_PLAIN = (str, bytes, int, float, bool, type(None), datetime, Path)
_SKIPPED = frozenset(
    ("_parts", "parts", "_ledger", "_versions", "origins", "path", "_closing", "spans", "_seen", "metrics", "_metrics")
)
"""Attributes that stand for what was there before any configuration: parts as they were opened, files, jobs."""


class _Sure(Scripted):
    """The shipped double with a closed set of answers."""

    answers = SimpleNamespace(normalise=str, find=str, index=len)


async def differences(home: Path, before: bytes, after: bytes) -> list[str]:
    """Return where a worker that went from `before` to `after` holds something else than one started under `after`."""
    home.mkdir(parents=True)
    with Registry.open(home) as registry, Ledger.open(home, clock=lambda: NOON) as ledger:
        for name in NAMES[:2]:
            version = registry.register(name, "linear", "d" * 64, _CALIBRATION, {}, NOON)
            registry.promote(name, version.version, "soak", "a cold start", NOON)
        reloaded = await _standing(home, registry, ledger, before, after)
        cold = await _standing(home, registry, ledger, after)
    return sorted(f"{where}: {reloaded.get(where, 'nothing')} != {cold.get(where, 'nothing')}"
                  for where in {*reloaded, *cold} if reloaded.get(where) != cold.get(where))  # fmt: skip


async def _standing(home: Path, registry: Registry, ledger: Ledger, *texts: bytes) -> dict[str, str]:
    """Start under the first text, reload the others, and return all that stands."""
    given = [Given(str(home / "insource.toml"), text, True) for text in texts]
    config = given[0].config({})
    parts = Parts(config, ledger, registry, lambda version, upstream=None: _Sure({}, name=version.name),  # type: ignore[arg-type, return-value]
                  clock=lambda: NOON, coin=_never)  # fmt: skip
    gateway = Gateway(parts)
    server = make_server(create_app(parts), config.gateway.drain_s, config.gateway.receipt_s, lambda: None)
    server.config.load()
    await gateway.generation.open()
    gateway.report()
    gateway.observe()
    worker = _Worker(None, None, None, lambda config, ledger: None)  # type: ignore[arg-type, return-value]
    worker._server = server
    for each in given[1:]:
        await worker._reload(gateway, each)
        gateway.observe()
    try:
        return dict(_walk(gateway, "gateway", set())) | _limits(server) | _gauges(gateway)
    finally:
        await gateway.close()


def _never(*_: object) -> bool:
    return False


def _limits(server: Server) -> dict[str, str]:
    protocol: Any = server.config.http_protocol_class
    return {"drain": str(server.config.timeout_graceful_shutdown), "receipt": str(protocol.receipt_seconds)}


def _gauges(gateway: Gateway) -> dict[str, str]:
    """Return what the metrics say of the configuration; one that reads 0 says nothing."""
    found = {}
    for name, samples in read_text(gateway.metrics.text().decode()).items():
        if name.endswith(("_info", "_active_version", "_breaker_open", "_loaded_seconds")):
            found |= {f"metric {name} {sorted(labels.items())}": str(value) for labels, value in samples if value}
    return found


def _walk(value: Any, where: str, above: set[int]) -> Iterator[tuple[str, str]]:
    """Yield every leaf below a value, with the way to it; objects that are no part of the gateway by class only."""
    if isinstance(value, (Enum, *_PLAIN)):
        yield where, repr(value)
        return
    if isinstance(value, frozenset | set):
        yield where, repr(sorted(map(repr, value))) if all(isinstance(one, _PLAIN) for one in value) else "a set"
        return
    yield where, str(value) if isinstance(value, Decimal) else type(value).__qualname__
    if id(value) not in above:
        for name, inner in _below(value):
            yield from _walk(inner, f"{where}{name}", above | {id(value)})


def _below(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value holds, by how it is reached."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"[{key!r}]" if isinstance(key, (str, tuple)) else f"[{type(key).__name__}]", inner
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield f"[{number}]", inner
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif inspect.ismethod(value):
        yield from ((".name", value.__qualname__), (".self", value.__self__))
    elif inspect.isfunction(value):
        yield ".name", value.__qualname__
        for name, inner in inspect.getclosurevars(value).nonlocals.items():
            yield f".{name}", inner
    elif type(value).__module__.startswith(("insource", "reliability")):
        for name in _attributes(value):
            if name not in _SKIPPED:
                yield f".{name}", getattr(value, name, None)


def _attributes(value: Any) -> list[str]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return sorted({*getattr(value, "__dict__", {}), *slots} - {"__weakref__", "__dict__"})
