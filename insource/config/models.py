"""The frozen models of the configuration; tasks are `insource.types.Task`.

They hold checked values and nothing else: no file, no environment, no defaults (those stand in `settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from insource.types import Task


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One upstream. Prices are in `currency` per million tokens, None where unknown; times in seconds.

    `api_key_env` names the environment variable with the key; `model` is sent where a request says `task:NAME`.
    """

    name: str
    base_url: str
    api_key_env: str | None = None
    jurisdiction: str | None = None
    price_in: Decimal | None = None
    price_out: Decimal | None = None
    currency: str = "USD"
    timeout_s: float = 600.0
    connect_timeout_s: float = 5.0
    model: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where the gateway listens and what it bears; times in seconds, `max_body_mb` in MB of 2**20 bytes."""

    host: str
    port: int
    max_concurrency: int
    max_body_mb: int
    drain_s: float
    receipt_s: float
    default_upstream: str | None


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where state lies, and for how many days content is kept."""

    home: Path
    retention_days: int


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Rules a person wrote; none can be set in this version."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    `origins` says for every key where its value comes from: "flag", "environment NAME", "insource.toml:12" (the line)
    or "default"; `values` holds the values under the same keys. `path` is the file that was read, None where there was
    none.
    """

    gateway: GatewayConfig
    store: StoreConfig
    upstreams: Mapping[str, UpstreamConfig]
    tasks: Mapping[str, Task]
    policy: PolicyConfig
    origins: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, object] = field(default_factory=dict)
    path: Path | None = None

    @property
    def home(self) -> Path:
        """The folder with the ledger, the registry and the artifacts."""
        return self.store.home

    @property
    def default_upstream(self) -> UpstreamConfig | None:
        """The upstream of requests that belong to no task, or to one that names none; None where none is set."""
        return self.upstreams.get(self.gateway.default_upstream or "")
