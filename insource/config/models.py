"""The frozen models of the configuration; tasks are `insource.types.Task`.

They hold checked values and nothing else: no file, no environment, no defaults (those stand in `settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from insource.types import Sensitivity, Task


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One upstream. Prices are in `currency` per million tokens, None where unknown; times in seconds.

    `deadline_s` bounds the wait for a reply's first byte over all attempts, `reply_s` one reply as a whole; `retries`
    is how often one request may be sent again; after `breaker_failures` failures in a row the upstream rests for
    `breaker_rest_s`. `api_key_env` names the environment variable with the key; `model` is sent where a request says
    `task:NAME`; `max_reply_tokens` is what a reply has at most.
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
    deadline_s: float | None = None
    retries: int = 1
    breaker_failures: int = 5
    breaker_rest_s: float = 10.0
    key_header: str = "authorization"
    reply_s: float = 3_600.0
    max_reply_tokens: int | None = None

    @property
    def priced(self) -> bool:
        """Whether both prices are known; without them money is unknown, never zero."""
        return self.price_in is not None and self.price_out is not None


@dataclass(frozen=True, slots=True)
class EmbeddingsConfig:
    """A name under which /v1/embeddings is answered here: the `models` it takes over, and the trunk that computes."""

    name: str
    trunk: str
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where the gateway listens and what it bears; times in seconds, `max_body_mb` in MB of 2**20 bytes.

    `metrics` says who may read them once there are keys: "public", "key" or "admin"; `key_rate` and `key_concurrency`
    are the limits of keys that set none; `tls_cert` and `tls_key` are PEM files, both or neither. `default_upstreams`
    are names with weights, 0 for one that only steps in on failure.
    """

    host: str
    port: int
    max_concurrency: int
    max_body_mb: int
    drain_s: float
    receipt_s: float
    default_upstreams: tuple[tuple[str, float], ...] = ()
    workers: int = 1
    log: str = "text"
    retry_budget: float = 0.2
    metrics: str = "admin"
    key_rate: str | None = None
    key_concurrency: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where state lies, and whether a decision is durable before its reply.

    `retention_days` is for how many days content is kept, where its task says nothing else.
    `witness` is a file outside the home that remembers the last signed checkpoint.
    """

    home: Path
    retention_days: int
    record: str = "before_reply"
    witness: Path | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which upstreams one sensitivity may go to: by name or by jurisdiction; "*" stands for all."""

    upstreams: tuple[str, ...] = ()
    jurisdictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Rules a person wrote: what is taken of a request that nobody rated, and where each sensitivity may go.

    *Restricted* text goes to upstreams that are named, never to a whole jurisdiction; by default to none.
    """

    sensitivity: Sensitivity = Sensitivity.INTERNAL
    public: Allowed = Allowed(("*",))
    internal: Allowed = Allowed(("*",))
    restricted: Allowed = Allowed()

    def allowed(self, sensitivity: Sensitivity) -> Allowed:
        """Where text of this sensitivity may go."""
        return {"public": self.public, "internal": self.internal, "restricted": self.restricted}[sensitivity]


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
    embeddings: Mapping[str, EmbeddingsConfig] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The folder with the ledger, the registry and the artifacts."""
        return self.store.home

    @property
    def default_upstream(self) -> UpstreamConfig | None:
        """The first upstream of requests that belong to no task, or to one that names none; None where none is set."""
        named = self.gateway.default_upstreams
        return self.upstreams[named[0][0]] if named else None

    def upstreams_of(self, task: Task | None) -> tuple[tuple[str, float], ...]:
        """The names and weights of the upstreams that a task (None: no task) escalates to; empty for none."""
        return (task.upstreams if task is not None else ()) or self.gateway.default_upstreams

    def days_kept(self, task: Task) -> int:
        """For how many days the task's contents are kept, and the texts of its reviews from their answer on."""
        return self.store.retention_days if task.retention_days is None else task.retention_days
